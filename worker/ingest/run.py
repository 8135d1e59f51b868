"""Makes a dataset version: `python -m worker.ingest.run SPEC.json WORKDIR`.

The child process of an ingest job, and runnable by hand. It knows no database and no
broker: SPEC.json goes in, events come out (`worker/events.py`), and `WORKDIR/final`
holds the version. Exit codes as in `worker/training/run.py`.
"""

import json
import shutil
import signal
import sys
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

from shared.errors import UserError
from worker import events
from worker.ingest.collect import collect
from worker.ingest.content import merge_identical
from worker.ingest.found import SkipList
from worker.ingest.limits import parse_limits
from worker.ingest.split import Keyed, SplitShares, assign_splits
from worker.ingest.verify import verify
from worker.ingest.write import write_version

_USAGE = "usage: python -m worker.ingest.run SPEC.json WORKDIR"
_DONE, _REJECTED, _ERROR, _FILES, _STOPPED = 0, 64, 70, 74, 75
_LISTS = ("skipped", "samples", "conflicts", "notes")


def main(arguments: list[str]) -> int:
    """Runs one attempt and returns its exit code."""
    if len(arguments) != 2:  # noqa: PLR2004 - the spec and the folder
        sys.stderr.write(_USAGE + "\n")
        return _REJECTED
    events.take_over_stdout()
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # there is no half dataset
    spec_path, workdir = map(Path, arguments)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        ingest(json.loads(spec_path.read_text()), workdir.absolute())
    except UserError as error:
        return _fail("rejected", str(error), _REJECTED)
    except OSError as error:
        traceback.print_exc()
        where = f" ({error.filename})" if error.filename else ""
        return _fail("files", f"A file failed: {error.strerror}{where}.", _FILES)
    except Exception as error:  # noqa: BLE001 - every failure gets its exit code
        traceback.print_exc()
        return _fail("exception", f"{type(error).__name__}: {error}", _ERROR)
    return _DONE


def ingest(spec: dict[str, Any], workdir: Path) -> None:
    """The story of one dataset version, from the upload to the published folder.

    Args:
        spec: SPEC.json: `sources`, and perhaps `limits` and `split`.
        workdir: Absolute; only this attempt writes there.

    Raises:
        UserError: The upload holds no dataset; says why and what would help.
        OSError: The disk is full or a source cannot be read.
    """
    limits = parse_limits(spec.get("limits", {}))
    shares = SplitShares(**spec.get("split", {}))
    skips = SkipList()
    scratch = workdir / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    events.phase("unpack")
    collected = collect(
        spec["sources"],
        scratch / "unpacked",
        limits,
        skips,
        lambda done: events.progress("unpack", done, 0, "files"),
    )
    _refuse_nothing(len(collected.files), skips)
    events.phase("verify")
    pictures, remarks = verify(
        collected.files,
        scratch / "rewritten",
        limits,
        skips,
        lambda done, total: events.progress("verify", done, total, "images"),
    )
    _refuse_nothing(len(pictures), skips)
    collected.notes += remarks
    events.phase("split")
    merged = merge_identical(pictures)
    keyed = [Keyed(p.sha256, p.label, p.split) for p in merged.kept]
    splits, notes = assign_splits(keyed, shares)
    collected.notes += notes
    events.phase("write")
    final, manifest_sha, report = write_version(
        workdir,
        merged,
        splits,
        collected,
        skips,
        lambda done, total: events.progress("write", done, total, "images"),
    )
    shutil.rmtree(scratch, ignore_errors=True)
    events.emit(
        "finished",
        path=str(final),
        manifest_sha=manifest_sha,
        bytes=report["size_bytes"],
        step=0,
        summary={k: v for k, v in report.items() if k not in _LISTS},
    )


def _refuse_nothing(usable: int, skips: SkipList) -> None:
    if usable:
        return
    said = "; ".join(f"{s.file}: {s.reason}" for s in skips.items[:3])
    raise UserError(
        "The upload holds no usable picture with a label. It needs one folder per "
        "class, or a CSV with the columns filename,label."
        + (f" Left out were {skips.total:,} files, for example {said}" if said else "")
    )


def _fail(code: str, message: str, exit_code: int) -> int:
    permanent = exit_code == _REJECTED
    events.emit("failed", code=code, message=message[:2000], permanent=permanent)
    return exit_code


def _stop(_number: int, _frame: FrameType | None) -> None:
    sys.exit(_STOPPED)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
