"""What a child of the pool says of a file, and what its death says of one."""

import signal
from collections.abc import Callable
from typing import Any

from worker.ingest.disk import is_unreadable, unreadable_reason
from worker.ingest.limits import MemberFaultError

_MEMORY_REASON = "Decoding it takes more memory than one picture may."


def do_task(call: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Does one task in a child.

    Returns:
        `result` and what `call` returned; `fault`, code and reason of a file that
        cannot be had; or `error` and the facts of an `OSError` that ends the whole run.
    """
    try:
        return ("result", call(*arguments))
    except MemberFaultError as fault:
        return ("fault", fault.code, fault.reason)
    except MemoryError:
        return ("fault", "out_of_memory", _MEMORY_REASON)
    except Exception as error:  # noqa: BLE001 - one file must not end the upload
        # An OSError without a number is a decoder's about the file's content.
        if isinstance(error, OSError) and error.errno is not None:
            return _answer_file_error(error)
        how = f"{type(error).__name__}: {error}"[:200]
        return ("fault", "not_decodable", f"It cannot be decoded ({how}).")


def _answer_file_error(error: OSError) -> tuple[Any, ...]:
    if is_unreadable(error):
        return ("fault", "unreadable", unreadable_reason(error))
    where = None if error.filename is None else str(error.filename)
    return ("error", error.errno, error.strerror or str(error), where)


def explain_death(exit_code: int | None) -> MemberFaultError:
    """Returns what the end of a child says of the file that it was at.

    Args:
        exit_code: Of the child, negative for a signal.
    """
    if exit_code == -signal.SIGKILL:
        return MemberFaultError("out_of_memory", _MEMORY_REASON)
    number = -(exit_code or 0)
    names = {int(known): known.name for known in signal.Signals}
    how = names.get(number, f"exit code {exit_code}")
    return MemberFaultError(
        "decoder_crashed", f"It is damaged so that its decoder crashed ({how})."
    )
