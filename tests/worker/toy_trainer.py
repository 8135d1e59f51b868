"""A trainer that trains nothing: the real events, signals, files and exit codes, fast.

`python toy_trainer.py SPEC.json WORKDIR`. The training spec holds `steps`,
`step_seconds`, `checkpoint_every` and `faults`; each fault is
`{"step": n, "do": what, "fences": [...]}` (without `fences` in every attempt), done
just before that step. A spec that came through the API has no room for them: they are
then read from the file named after the model in the folder that PLANS names.
"""

import errno
import hashlib
import json
import os
import random
import re
import signal
import sys
import time
import traceback
import zipfile
from pathlib import Path

import numpy as np

from shared.artifacts import CorruptFolderError, verify_manifest, write_manifest
from worker import events

PLANS = "TOY_PLANS"
HOLE = "TOY_HOLE"  # set where every training crashes at once
APPEAR_SECONDS = 4  # of the real trainer's minute and a half
REJECTED, FAILED, GPU_MEMORY, FILES, STOPPED = 64, 70, 71, 74, 75


class Toy:
    def __init__(self, spec, workdir):
        self.spec, self.workdir = spec, workdir
        self.asked = spec["training"]
        if "steps" not in self.asked:
            plan = Path(os.environ[PLANS]) / f"{spec['job']['model_name']}.json"
            self.asked = json.loads(plan.read_text())
        self.fence = spec["job"]["fence"]
        self.weights, self.step, self.saved_step = np.zeros(8), 0, None
        self.stop = self.finish = False
        self.seq = 0
        signal.signal(signal.SIGTERM, self._on_stop)
        signal.signal(signal.SIGUSR2, self._on_finish)

    def _on_stop(self, *_):
        self.stop = True

    def _on_finish(self, *_):
        self.finish = True

    def run(self):
        if os.environ.get(HOLE):
            self.do_crash(None)
        self.resume()
        events.phase("frozen")
        total = self.asked["steps"]
        while self.step < total and not self.finish:
            self.meet_fault()
            if self.stop:
                self.save("emergency")
                return STOPPED
            self.train_one()
            events.progress("frozen", self.step, total, "steps", step=self.step)
            if self.step % self.asked.get("checkpoint_every", 5) == 0:
                self.save("periodic")
        self.export()
        return 0

    def resume(self):
        for candidate in self.spec["resume_from"]:
            folder = Path(candidate["path"])
            try:
                verify_manifest(
                    folder, candidate["manifest_sha"], appear_seconds=APPEAR_SECONDS
                )
            except CorruptFolderError as error:
                events.emit("checkpoint_corrupt", path=str(folder), reason=str(error))
                continue
            self.weights = np.load(folder / "weights.npy")
            self.step = self.saved_step = int(folder.name.split("-")[0])
            events.emit("resumed", step=self.step, path=str(folder), phase="frozen")
            return

    def train_one(self):
        time.sleep(self.asked.get("step_seconds", 0.02))
        self.step += 1
        gradient = np.random.default_rng(self.step).normal(size=8)
        self.weights = self.weights * 0.9 + gradient
        self.seq += 1
        values = {"loss": 1 / self.step, "accuracy": 1 - 1 / self.step}
        events.emit(
            "metrics", seq=self.seq, step=self.step, phase="frozen", values=values
        )

    def save(self, kind):
        if self.saved_step == self.step:
            return
        temporary = self.workdir / "ckpt" / f".tmp-{self.step}"
        folder = self.workdir / "ckpt" / f"{self.step:012d}"
        temporary.mkdir(parents=True)
        np.save(temporary / "weights.npy", self.weights)
        sha = write_manifest(temporary, step=self.step, fence=self.fence)
        temporary.rename(folder)
        self.saved_step = self.step
        events.emit(
            "checkpoint", step=self.step, kind=kind, path=str(folder),
            manifest_sha=sha, bytes=100, metric=1 / (self.step + 1),
        )  # fmt: skip

    def export(self):
        events.phase("evaluate")
        time.sleep(self.asked.get("evaluate_seconds", 0))
        events.phase("export")
        final = self.workdir / "final"
        final.mkdir()
        with zipfile.ZipFile(final / "saved_model.zip", "w") as archive:
            stamp = zipfile.ZipInfo("weights", (2020, 1, 1, 0, 0, 0))
            archive.writestr(stamp, self.weights.tobytes())
        evaluation = {
            "accuracy": 0.9, "interval": [0.8, 0.95], "images": 10, "classes": ["a"],
            "weights": hashlib.sha256(self.weights.tobytes()).hexdigest(),
            "steps": self.step,
        }  # fmt: skip
        (final / "evaluation.json").write_text(json.dumps(evaluation))
        (final / "model_card.md").write_text("A toy.\n")
        sha = write_manifest(final, step=self.step, fence=self.fence)
        events.emit(
            "finished", path=str(final), manifest_sha=sha, bytes=100, step=self.step,
            summary={"accuracy": 0.9, "interval": [0.8, 0.95], "images": 10},
        )  # fmt: skip
        self.meet_fault("finished")

    def meet_fault(self, where=None):
        for fault in self.asked.get("faults", []):
            here = fault["step"] == (self.step if where is None else where)
            if here and self.fence in fault.get("fences", [self.fence]):
                getattr(self, f"do_{fault['do']}")(fault)

    def do_kill(self, _fault):
        os.kill(os.getpid(), signal.SIGKILL)

    def do_crash(self, _fault):
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGSEGV)

    def do_exit(self, fault):
        if "message" in fault:
            events.emit(
                "failed", code=fault.get("code", "toy"), message=fault["message"],
                permanent=fault.get("permanent", False),
            )  # fmt: skip
        sys.stderr.write("Traceback: the toy broke\n")
        sys.stderr.flush()
        os._exit(fault["code_number"])

    def do_dawdle(self, fault):
        self.asked["step_seconds"] = fault["step_seconds"]

    def do_hang(self, _fault):
        while not self.stop:
            time.sleep(0.05)

    def do_hang_hard(self, _fault):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            time.sleep(1)

    def do_eat_memory(self, _fault):
        eaten = []
        while True:
            eaten.append(bytearray(os.urandom(1 << 20)) * 16)

    def do_replay(self, _fault):
        for seq in random.sample(range(1, self.seq + 1), min(3, self.seq)):
            values = {"loss": 1 / seq, "accuracy": 1 - 1 / seq}
            events.emit(
                "metrics", seq=seq, step=seq, phase="frozen", values=values
            )  # fmt: skip

    def do_slow_fsync(self, fault):
        real = os.fsync

        def slow(descriptor):
            time.sleep(fault["seconds"])
            real(descriptor)

        os.fsync = slow

    def do_fail_fsync(self, _fault):
        def fail(_descriptor):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        os.fsync = fail

    def do_hold_interpreter(self, _fault):
        # One call into C that no signal handler gets a turn in.
        re.match(r"(a+)+$", "a" * 60 + "b")

    def do_babble(self, _fault):
        descriptor = int(os.environ["TRAINYARD_EVENTS_FD"])
        os.write(descriptor, b"\xff\xfe not json\n{}\n[1]\n" + b'{"event":5}\n')
        os.write(descriptor, b'{"event":"metrics","values":3}\n{"event":"huh"}\n')
        for _ in range(50):
            os.write(descriptor, b"x" * 65536)
        os.write(descriptor, b"\n")

    def do_spoil(self, _fault):
        newest = max((self.workdir / "ckpt").iterdir())
        (newest / "weights.npy").write_bytes(b"spoilt")

    def do_leave_daemon(self, _fault):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                (self.workdir / "daemon").write_text(str(os.getpid()))
                time.sleep(600)
            os._exit(0)
        while not (self.workdir / "daemon").exists():
            time.sleep(0.01)

    def do_tell_environment(self, _fault):
        (self.workdir / "environment.json").write_text(json.dumps(dict(os.environ)))


def main():
    events.take_over_stdout()
    spec_path, workdir = map(Path, sys.argv[1:])
    try:
        return Toy(json.loads(spec_path.read_text()), workdir).run()
    except OSError:
        traceback.print_exc()
        return FILES


if __name__ == "__main__":
    sys.exit(main())
