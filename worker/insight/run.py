"""Examines and forecasts: `python -m worker.insight.run SPEC.json WORKDIR`.

The child process of a forecast job, and runnable by hand. It knows no database and no
broker: SPEC.json goes in, events come out (`worker/events.py`), and `WORKDIR/final`
holds what was found. Packs and features are durable shard by shard, so a run that is
killed finds them when it starts again, and so does the training that comes after.

Exit codes: as those of `worker/training/run.py`.
"""

import sys
import time
from pathlib import Path
from typing import Any

from shared.artifacts import measure_tree
from shared.presets import DEFAULT_PRESET
from worker import events
from worker.insight.request import Request, load_request
from worker.training import determinism, failures
from worker.training.stop_requests import STOPPED_EXIT_CODE, Stopped, StopRequests

VERSION = 1
_USAGE = "usage: python -m worker.insight.run SPEC.json WORKDIR"


def main(arguments: list[str]) -> int:
    """Runs one attempt and returns its exit code."""
    started = time.monotonic()
    if len(arguments) != 2:  # noqa: PLR2004 - the spec and the folder
        sys.stderr.write(_USAGE + "\n")
        return 64
    events.take_over_stdout()
    StopRequests().install()  # a stop ends it at once: all that counts is durable
    determinism.prepare_environment()
    spec_path, workdir = map(Path, arguments)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        forecast(load_request(spec_path, workdir), workdir.absolute(), started)
    except Stopped:
        return STOPPED_EXIT_CODE
    except Exception as error:  # noqa: BLE001 - every failure gets its exit code
        return failures.tell(error)
    return 0


def forecast(request: Request, workdir: Path, started: float) -> None:
    """The story of one forecast, from the dataset version to the published folder.

    Args:
        request: What was asked for.
        workdir: Absolute; only this attempt writes there.
        started: When the process began, on the monotonic clock.

    Raises:
        UserError: There is nothing to forecast on; says why.
        OSError: The disk is full.
    """
    # Importing the frameworks takes seconds: signals are obeyed before that.
    from worker.insight import findings, preset_steps, sections, write  # noqa: PLC0415
    from worker.insight.doctor.examination import list_readable  # noqa: PLC0415
    from worker.insight.doctor.finding import write_findings  # noqa: PLC0415
    from worker.insight.subject import open_subject  # noqa: PLC0415

    events.phase("prepare")
    imported = time.monotonic() - started
    subject = open_subject(request)
    subject.seconds["imports"] = imported
    asked = [*request.presets().values(), *request.comparisons().values()]
    subject.passer.require_room(asked)
    # Before any pass: what a training needs of a GPU's memory must still be free.
    timed = preset_steps.time_presets(subject, workdir / "timing")
    events.phase("features")
    default = request.presets()[DEFAULT_PRESET]
    made = subject.make_pass(default)
    pass_memory = sections.measure_pass_memory(subject, made)
    events.phase("doctor")
    pictures = findings.gather_pictures(subject, made)
    likeness = findings.find_likeness(subject, pictures)
    subject.hold_together(likeness.duplicates.groups)
    found = findings.find_all(subject, pictures, likeness)
    listed = list_readable(found, request.accepted)
    events.phase("forecast")
    plain = subject.view(default)
    report: dict[str, Any] = {
        "version": VERSION,
        "fingerprint": subject.images.fingerprint,
        "base_model": made.spec.base_model,
        "images": {name: len(rows) for name, rows in subject.images.splits.items()},
        "classes": subject.images.classes,
        "worker": request.worker,
        "difficulty": sections.build_difficulty(subject, plain, likeness),
        "doubts": sections.describe_doubts(subject, plain),
        "learning_curve": sections.build_learning_curve(subject, plain),
        **sections.build_base_models(subject),
        "presets": sections.build_presets(subject, timed, pass_memory),
        "findings": findings.count_findings(found, request.accepted, request.dataset),
    }
    events.phase("write")
    folder = write.start_folder(workdir)
    shown = findings.list_shown(pictures, listed, report["difficulty"])
    write.write_thumbnails(folder, made.pack, shown)
    write_findings(listed, folder / write.FINDINGS)
    report["seconds"] = subject.seconds | {"total": time.monotonic() - started}
    final, manifest_sha = write.write_forecast(folder, workdir, report)
    events.emit(
        "finished",
        path=str(final),
        manifest_sha=manifest_sha,
        bytes=measure_tree(final),
        step=0,
        summary={
            "winner": report["winner"],
            "grade": report["difficulty"]["grade"],
            "findings": report["findings"]["total"],
        },
    )


if __name__ == "__main__":
    from worker.training.run import leave

    leave(main(sys.argv[1:]))
