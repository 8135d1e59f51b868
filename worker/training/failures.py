"""What an exception means: the sentence for the user and the exit code.

The supervisor decides by the exit code whether the job fails now, is tried again, and
whether the try is charged (`worker/endings.py`).
"""

import errno
import os
import traceback
from dataclasses import dataclass

from shared.errors import OutageError, RetryableError, UserError
from worker import events
from worker.training.diverged import Diverged

_REJECTED, _OUTAGE, _ERROR, _DEVICE_MEMORY, _DIVERGED, _FILES = 64, 69, 70, 71, 72, 74
_LONGEST_MESSAGE = 500
_LONGEST_TOLD = 4_000  # a line of more than 1 MiB would be no event
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_DEVICE_MEMORY_WORDS = ("ResourceExhaustedError", "RESOURCE_EXHAUSTED")


@dataclass(frozen=True)
class Failure:
    """How a failed attempt ends.

    Args:
        code: A word for machines.
        message: A sentence for the user.
        exit_code: 64, 69, 70, 71, 72 or 74.
    """

    code: str
    message: str
    exit_code: int

    @property
    def permanent(self) -> bool:
        """Whether trying again cannot help."""
        return self.exit_code in (_REJECTED, _DEVICE_MEMORY)


def explain(error: Exception) -> Failure:
    """Returns what `error` means for the attempt."""
    if isinstance(error, UserError):
        return Failure(error.field or "rejected", str(error), _REJECTED)
    if _is_device_memory(error):
        return Failure(
            "device_memory",
            "The device's memory is too small for this training. A smaller "
            "`batch_size` or `image_size_px` needs less.",
            _DEVICE_MEMORY,
        )
    if isinstance(error, MemoryError):
        return Failure(
            "memory",
            "This machine's memory is too small for this job: close other programs. A "
            "training with a smaller `batch_size` or `image_size_px` needs less.",
            _ERROR,
        )
    if isinstance(error, OSError) or _is_full_disk(error):
        return Failure("files", f"A file failed: {_name_file_error(error)}.", _FILES)
    if isinstance(error, Diverged | RetryableError):
        return _explain_interruption(error)
    text = f"{type(error).__name__}: {error}"
    return Failure("exception", text[:_LONGEST_MESSAGE], _ERROR)


def tell(error: Exception) -> int:
    """Says why a child process fails; returns its exit code.

    For the `except` block that is its last: the traceback goes to standard error.
    """
    traceback.print_exc()
    failure = explain(error)
    events.emit(
        "failed",
        code=failure.code,
        message=failure.message[:_LONGEST_TOLD],
        permanent=failure.permanent,
    )
    return failure.exit_code


def _explain_interruption(error: Diverged | RetryableError) -> Failure:
    """Of what another attempt is to do better."""
    if isinstance(error, Diverged):
        return Failure("diverged", str(error), _DIVERGED)
    if isinstance(error, OutageError):
        return Failure("outage", str(error), _OUTAGE)
    return Failure("interrupted", str(error), _ERROR)


def is_memory(error: Exception) -> bool:
    """Whether `error` says that a device's or the machine's memory is too small."""
    return isinstance(error, MemoryError) or _is_device_memory(error)


def _is_full_disk(error: Exception) -> bool:
    # TensorFlow reports a full disk by the class that it has for a full device.
    return any(os.strerror(number) in str(error) for number in _DISK_FULL)


def _name_file_error(error: Exception) -> str:
    if not isinstance(error, OSError):
        return os.strerror(errno.ENOSPC)
    where = f" ({error.filename})" if error.filename else ""
    return f"{error.strerror or error}{where}"


def _is_device_memory(error: Exception) -> bool:
    if _is_full_disk(error):
        return False
    # By name: the class is another one in each framework, and importing them to
    # compare is what this module must not do.
    text = f"{type(error).__name__} {str(error)[:200]}"
    return any(word in text for word in _DEVICE_MEMORY_WORDS)
