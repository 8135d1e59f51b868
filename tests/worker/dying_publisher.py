"""Publishes results in processes that are killed at one line after the other.

`python -m tests.worker.dying_publisher DATABASE_URL DATA_DIR KIND` prints one JSON line
for every line of code that publication runs through: what a `kill -9` just before it
left, and what the next attempt made of that. Each publication is a fork of this
process, which itself opens no database and starts no thread.
"""

import json
import os
import signal
import sys
import traceback
from pathlib import Path

from sqlalchemy.orm import configure_mappers

from shared import artifacts, attempt_result_store, attempt_store
from shared.artifacts import write_manifest
from shared.database import Database
from tests.web.forecast_example import make_findings, write_forecast
from tests.worker.toy_ingest import write_result
from tests.worker.workshop import Workshop
from worker import results, slots, supervisor
from worker.results import Result

WATCHED = {
    function.__code__
    for function in (
        supervisor._Attempt._complete,
        results.keep_summary,
        results.register,
        results._publish_model,
        results._publish_dataset,
        results._publish_forecast,
        results._rename,
        results.remove_uploads,
        artifacts.Storage.publish_artifact,
        artifacts.publish_folder,
        # Of the one transaction its end stands for the whole: all of it is undone.
        attempt_result_store._close_attempt,
    )
}
SIGKILLED = object()


class Tracer:
    """Notes every line that is run for the first time; kills at the one asked for.

    Args:
        fatal: Name of the file, and number of the line in it.
    """

    def __init__(self, fatal=None):
        self.fatal = fatal
        self.lines = []

    def __call__(self, frame, event, _argument):
        if frame.f_code not in WATCHED:
            return None
        here = [Path(frame.f_code.co_filename).name, frame.f_lineno]
        if event == "line" and here not in self.lines:
            if here == self.fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            self.lines.append(here)
        return self


def publish(shop, kind, fatal=None):
    """Does what a supervisor does once its child has finished."""
    claim = shop.claim()
    files = shop.folder(claim) / "final"
    files.mkdir(parents=True)
    sha = WRITERS[kind](files)
    result = Result(files, sha, 100, 1, claim.fence, {"accuracy": 0.9})
    place = shop.workplace()
    lock = slots.acquire(shop.settings.runtime, place.slot, grace_seconds=1)
    attempt = supervisor._Attempt(place, claim, lock)
    tracer = Tracer(fatal)
    sys.settrace(tracer)
    attempt._complete(result)
    sys.settrace(None)
    return tracer.lines


def write_model(folder):
    (folder / "saved_model.zip").write_bytes(os.urandom(16))
    (folder / "evaluation.json").write_text('{"accuracy": 0.9, "weights": "w"}')
    return write_manifest(folder, step=1)


def write_foreseen(folder):
    folder.rmdir()
    return write_forecast(folder, findings=make_findings(counts={"outlier": 1}))


WRITERS = {
    "ingest": lambda final: write_result(final, {"sources": []}),
    "train": write_model,
    "forecast": write_foreseen,
}


def take_over(shop, job_id):
    """Ends a dead attempt as the reconciler does, and makes the next one."""
    if shop.job(job_id).state == "running":
        fence = shop.job(job_id).fence
        with shop.database.transaction() as session:
            attempt_store.end(session, job_id, fence, outcome="lost", charge=False)
        shop.run_one()


def in_fork(work):
    """Runs `work` in a fork; returns what it returned, or `SIGKILLED`."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writer, json.dumps(work()).encode())
            os._exit(0)
        except BaseException:  # noqa: BLE001 - it must not run on as its parent
            traceback.print_exc()
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        answer = stream.read()
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) or status == 0, "a publication failed"
    return json.loads(answer) if status == 0 else SIGKILLED


class Deaths:
    """Publications of one kind of job, each killed at another line."""

    def __init__(self, url, data_dir, kind):
        self.url, self.data_dir, self.kind = url, Path(data_dir), kind

    def open_shop(self):
        return Workshop(Database(self.url), self.data_dir, furnished=True)

    def submit_and_publish(self, fatal=None):
        shop = self.open_shop()
        if self.kind == "ingest":
            shop.submit_ingest()
        elif self.kind == "forecast":
            shop.submit_forecast(again=True)
        else:
            shop.submit(steps=1, step_seconds=0)
        return publish(shop, self.kind, fatal)

    def die(self, line, before, job_id):
        """Sees to the job of the death before, then dies at `line` with the next."""
        if before:
            self.tell(before, job_id)
        self.submit_and_publish(line)

    def tell(self, line, job_id):
        """Lets the next attempt take over, and prints what came of it."""
        shop = self.open_shop()
        left = shop.job(job_id).state
        finals = [c for c in shop.checkpoints(job_id) if c.kind == "final"]
        take_over(shop, job_id)
        specs = list(shop.storage.job(job_id).glob("attempts/*/spec.json"))
        told = {
            "line": line,
            "left": left,
            "known": bool(finals),
            "made_again": bool(specs),
            "state": shop.job(job_id).state,
            "attempts": len(shop.attempts(job_id)),
        }
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


def main(url, data_dir, kind):
    deaths = Deaths(url, data_dir, kind)
    configure_mappers()  # once, and not in every fork
    # The second one meets a file that is among the artifacts already.
    lines = in_fork(deaths.submit_and_publish)
    lines += [line for line in in_fork(deaths.submit_and_publish) if line not in lines]
    job_id, before = 2, None
    for line in lines:
        last = in_fork(lambda args=(line, before, job_id): deaths.die(*args))
        assert last is SIGKILLED, f"{line} was not run again"
        job_id, before = job_id + 1, line
    in_fork(lambda: deaths.tell(before, job_id))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
