"""Makes a dataset version: `python -m worker.ingest.run SPEC.json WORKDIR`.

The child process of an ingest job, and runnable by hand. It knows no database and no
broker: SPEC.json goes in, events come out (`worker/events.py`), and `WORKDIR/final`
holds the version. What it proves of pictures is durable within seconds
(`worker/ingest/proofs.py`): after a kill at any moment the next attempt is told this
one's folder in `earlier` and proves only what is left, nor does it fetch again what one
has fetched whole (`worker/ingest/remote/kept_files.py`). It unpacks and writes again,
which is cheaper than trusting half of what was done.

Exit codes: 0 done; 75 stopped as asked; 64 the spec or the data cannot be used; 70 an
exception; 69 what lies elsewhere is out of reach; 74 a file failed.
"""

import errno
import itertools
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from shared.artifacts import PROOFS, SCRATCH, list_scratch, remove_tree
from shared.child_environment import take_store_credentials
from shared.errors import UserError
from worker import events
from worker.ingest.assemble import Version, assemble, open_parent
from worker.ingest.child_pool import start_server
from worker.ingest.collect import Collected, collect
from worker.ingest.found import LabelledFile, SkipList
from worker.ingest.proofs import Journal
from worker.ingest.remote.courier import Means
from worker.ingest.remote.kept_files import KeptFiles
from worker.ingest.request import Request, load_request
from worker.ingest.verify import PROVER, Picture, verify
from worker.ingest.write import write_version
from worker.training import failures
from worker.training.stop_requests import StopRequests

_USAGE = "usage: python -m worker.ingest.run SPEC.json WORKDIR"
_EXAMPLES = 3
_TOLD = 40  # the page shows fifty notes
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main(arguments: list[str]) -> int:
    """Runs one attempt and returns its exit code."""
    if len(arguments) != 2:  # noqa: PLR2004 - the spec and the folder
        sys.stderr.write(_USAGE + "\n")
        return 64
    events.take_over_stdout()
    StopRequests().install()  # a dataset cannot be finished early: USR2 does nothing
    _prepare_environment()
    spec_path, workdir = map(Path, arguments)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        ingest(load_request(spec_path), workdir.absolute())
    except Exception as error:  # noqa: BLE001 - every failure gets its exit code
        return failures.tell(error)
    return 0


def ingest(request: Request, workdir: Path) -> None:
    """The story of one dataset version, from the upload to the published folder.

    Args:
        request: What was asked for.
        workdir: Absolute; only this attempt writes there.

    Raises:
        UserError: The upload holds no dataset; says why and what would help.
        OSError: The disk is full or a source cannot be read.
    """
    # Before any process starts: those that decode strangers' files inherit the rest.
    credentials = take_store_credentials()
    _clear(workdir)
    if request.sources:
        # The server of the proving processes imports TensorFlow beside the unpacking.
        start_server(PROVER)
    try:
        version = _make_version(request, workdir, credentials)
        events.phase("write")
        final, manifest_sha, report = write_version(
            version, workdir, _reporter("write", "images")
        )
    except Exception as error:
        if _ends_the_job(error):
            remove_tree(workdir / PROOFS)
        raise
    finally:
        # A failed attempt, of all, must not leave a full disk behind.
        _clear(workdir)
    events.emit(
        "finished",
        path=str(final),
        manifest_sha=manifest_sha,
        bytes=report["size_bytes"],
        step=0,
        # A line of more than 1 MiB is no event: the report, whose length grows with
        # the classes, is read from the folder.
        summary={"images": report["images"]},
    )
    remove_tree(workdir / PROOFS)


def _make_version(
    request: Request, workdir: Path, credentials: Mapping[str, str]
) -> Version:
    """Unpacks, labels, proves and splits: everything but the writing."""
    parent = open_parent(request, _reporter("verify", "images"))
    skips = SkipList(before=parent.skipped if parent else ())
    events.phase("unpack")
    collected = _collect(request, workdir, skips, credentials)
    events.phase("verify")
    pictures, remarks = _verify(request, collected.files, workdir, skips)
    collected.files = []  # a picture has what is needed of its file
    events.phase("split")
    collected.notes += remarks
    try:
        return assemble(
            request,
            parent,
            pictures,
            collected=collected,
            skips=skips,
            report=_reporter("split", "images"),
        )
    except UserError as error:
        _tell_left_out(skips)
        raise UserError(f"{error}{_left_out(skips)}", field=error.field) from error


def _collect(
    request: Request, workdir: Path, skips: SkipList, credentials: Mapping[str, str]
) -> Collected:
    def tell_durable(count: int) -> None:
        events.emit("durable", what="fetched", done=count, total=0)

    with KeptFiles(workdir, _list_earlier(request, workdir), tell_durable) as kept:
        collected = collect(
            request,
            workdir / SCRATCH / "unpacked",
            skips,
            _reporter("unpack", "bytes"),
            Means(kept, credentials, _fetch_reporter()),
            report_listed=lambda count: events.progress("unpack", count, 0, "files"),
        )
    if kept.taken:
        files = "file was" if kept.taken == 1 else "files were"
        events.note("info", f"{kept.taken:,} {files} fetched by an earlier attempt.")
    return collected


def _list_earlier(request: Request, workdir: Path) -> list[Path]:
    """Folders of earlier attempts."""
    # One that was killed in this very folder, when somebody runs it by hand.
    return [*request.earlier, workdir]


def _verify(
    request: Request, files: list[LabelledFile], workdir: Path, skips: SkipList
) -> tuple[list[Picture], list[str]]:
    limits = request.limits

    def tell_durable(count: int) -> None:
        events.emit("durable", what=PROOFS, done=count, total=len(files))

    with Journal(workdir, limits.max_pixels, tell_durable) as journal:
        found = verify(
            files,
            journal,
            limits,
            skips,
            _reporter("verify", "images"),
            earlier=_list_earlier(request, workdir),
        )
    if journal.taken:
        events.note(
            "info",
            f"{journal.taken:,} of {len(files):,} files were examined by an earlier "
            "attempt.",
        )
    return found


def _reporter(phase: str, unit: str) -> Callable[[int, int], None]:
    """Reports each call as a step: what is put off has been worked on, too."""
    steps = itertools.count(1)
    return lambda done, total: events.progress(
        phase, done, total, unit, step=next(steps)
    )


def _fetch_reporter() -> Callable[[int, int, str, int], None]:
    """Reports what is fetched from addresses; most ingests fetch nothing."""
    begun: list[str] = []

    def report(done: int, total: int, unit: str, come_bytes: int) -> None:
        if not begun:
            begun.append("fetch")
            events.phase("fetch")
        events.progress("fetch", done, total, unit, step=come_bytes)

    return report


def _prepare_environment() -> None:
    """Settles what the children's frameworks read when they are imported."""
    # Pictures are proved on the processor, one a child; more threads would only make
    # the children compete, and forking a process that has threads is not safe.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    # A refused picture is said in our words; the framework's own stay out of the log.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def _clear(workdir: Path) -> None:
    """Removes what this attempt, or one that was killed in this folder, has left."""
    for leftover in list_scratch(workdir):
        shutil.rmtree(leftover, ignore_errors=True)


def _ends_the_job(error: Exception) -> bool:
    """Whether no later attempt will ask for the proofs, or their room is needed."""
    is_full = isinstance(error, OSError) and error.errno in _FULL
    return is_full or failures.explain(error).permanent


def _tell_left_out(skips: SkipList) -> None:
    """Names what was left out on the job's page: a refused dataset has no other."""
    for skip in skips.items[:_TOLD]:
        events.note("warning", f"Left out {skip.file}: {skip.reason}")
    if skips.total > _TOLD:
        events.note("warning", f"{skips.total - _TOLD:,} more files were left out.")


def _left_out(skips: SkipList) -> str:
    """What was left out, added to a refusal: mostly that is why nothing remains."""
    if not skips.total:
        return ""
    shown = "; ".join(f"{s.file}: {s.reason}" for s in skips.items[:_EXAMPLES])
    return f" Left out: {skips.total:,}, for example {shown}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
