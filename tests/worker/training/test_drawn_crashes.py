"""Killed at drawn moments, twice in a row, a training ends as if it never had been.

The same weights to the bit and the same curves as the uninterrupted run of the same
spec: for each phase, optimizer and schedule, with caches that survive and caches that
do not, and when the worker dies too and what the trainer said last is never recorded.
`--crash-points N` draws N times as many crashes.
"""

import hashlib
import random
import shutil
import time
from dataclasses import dataclass, field

import pytest

from shared import attempt_store, job_read_store
from shared.database import Database
from shared.training_spec import LearningRateSchedule, Optimizer
from tests.worker.training.engine_process import read_arrays
from tests.worker.training.forked_engine import ForkedEngine
from tests.worker.training.pictures import write_pictures
from tests.worker.workshop import Workshop
from worker import plans
from worker.attempt_files import AttemptFiles
from worker.recorder import Recorder

pytestmark = pytest.mark.timeout(1800)

SMALL = {
    "base_model": "MobileNet-0.25",
    "weights": None,
    "image_size_px": 32,
    "batch_size": 4,
    "early_stopping_patience": None,
}
HEAD_ALONE = SMALL | {"frozen_epochs": 30}
BASE_ALONE = SMALL | {"frozen_epochs": 0, "fine_tune_epochs": 3, "unfreeze_from": 0.5}
BOTH = SMALL | {"frozen_epochs": 8, "fine_tune_epochs": 2, "unfreeze_from": 0.7}
# Each optimizer and each schedule in one of them at least, and each phase in two.
TRAININGS = {
    "adam, cosine, stopped early": HEAD_ALONE
    | {
        "optimizer": "adam",
        "early_stopping_patience": 4,
        "monitor": "val_accuracy",
        "checkpoint_every": {"steps": 4},
    },
    "sgd, cut on plateaus": HEAD_ALONE
    | {
        "optimizer": "sgd",
        "learning_rate_schedule": "plateau",
        "plateau_patience": 1,
        "monitor": "val_accuracy",
        "feature_views": 2,
        "augmentation": {"measured": True},
        "head": {"units": [8], "dropout": 0.3},
    },
    "rmsprop, constant, both phases": BOTH
    | {
        "optimizer": "rmsprop",
        "learning_rate_schedule": "constant",
        "checkpoint_every": {"steps": 5},
        "class_weights": "balanced",
    },
    "adamw, fine-tuned on plateaus": BASE_ALONE
    | {
        "optimizer": "adamw",
        "learning_rate_schedule": "plateau",
        "plateau_patience": 1,
        "monitor": "val_accuracy",
        "checkpoint_every": {"steps": 2},
        "batch_norm": "trained",
        "feature_maps": "blocks",
        "weight_averaging": 0.9,
    },
}
MOMENTS = ("time", "write", "checkpoint", "metrics")


@dataclass
class Life:
    """What became of a job, from its first attempt to the end of its training."""

    weights: dict = field(default_factory=dict)
    curve: list = field(default_factory=list)
    deaths: list = field(default_factory=list)
    seconds: float = 0.0


class Site:
    """An installation whose only worker is this test."""

    def __init__(self, url, folder, training, **pictures):
        self.shop = Workshop(Database(url), folder)
        write_pictures(self.shop.storage.resolve("datasets/1/1"), **pictures)
        self._training = training

    def run(self, crashes, draw):
        """Trains one job to its end; at each of `crashes` its trainer is killed."""
        self.forget_features()
        life, began = Life(), time.monotonic()
        job_id = self.shop.submit(**self._training)
        for crash in [*crashes, None]:
            self._attempt(job_id, life, crash, draw)
        life.seconds = time.monotonic() - began
        with self.shop.database.reading() as session:
            life.curve = [
                # Of what a clock measured, only that it is there.
                (point.step, point.phase, point.name)
                + (() if point.name.endswith("_seconds") else (point.value,))
                for point in job_read_store.metrics_curve(session, job_id)
            ]
        return life

    def forget_features(self):
        shutil.rmtree(self.shop.storage.root / "features", ignore_errors=True)

    def _attempt(self, job_id, life, crash, draw):
        claim = self.shop.claim(lease_ms=10**7)
        files = AttemptFiles(self.shop.storage.root, self.shop.folder(claim))
        files.make()
        with self.shop.database.reading() as session:
            place = (self.shop.storage, self.shop.settings)
            spec = plans.build_plan(session, claim, *place).spec
        spec["training"] = self._training  # without the toy's own
        recorder = Recorder(self.shop.database, claim, files)
        engine = ForkedEngine(files.write_spec(spec), files.folder)
        try:
            died_in = self._follow(engine, recorder, crash, draw)
        finally:
            engine.kill()
        if crash is None:
            life.weights = self._digest_newest(job_id)
            return
        life.deaths.append((crash, died_in))
        if draw.random() < 0.5:  # else the worker dies too, and nobody hears the rest
            for event in engine.read_events():
                recorder.take(event)
            recorder.flush(now=True)
        with self.shop.database.transaction() as session:
            attempt_store.end(
                session, job_id, claim.fence, outcome="lost", charge=False, backoff_ms=0
            )
        if draw.random() < 0.5:
            self.forget_features()

    def _digest_newest(self, job_id):
        """Digests of what the newest checkpoint holds, the weights to publish."""
        with self.shop.database.reading() as session:
            newest = attempt_store.list_resume_checkpoints(session, job_id, 0)[0]
        arrays = read_arrays(self.shop.storage.resolve(newest.rel_path))
        return {
            name: hashlib.sha256(content).hexdigest()
            for name, content in arrays.items()
        }

    def _follow(self, engine, recorder, crash, draw):
        """Records what it says until it is to die; returns the phase it was in."""
        phase = None
        while True:
            for event in engine.read_events():
                recorder.take(event)
                recorder.flush(now=draw.random() < 0.5)
                phase = event["phase"] if event["event"] == "phase" else phase
                assert event["event"] != "failed", event
                if phase == "export" or (crash and crash.is_due(event)):
                    recorder.flush(now=phase == "export")
                    return phase
            assert engine.process.is_alive(), engine.errors()
            if crash and crash.is_due_now(engine):
                return phase
            time.sleep(0.001)


@dataclass
class Crash:
    """One drawn moment.

    Args:
        moment: `time` after the start; or the middle of a `write`, after a
            `checkpoint` or after a point of the curves (`metrics`).
        seconds: For `time`.
        step: For the others: the first one at or after this step.
    """

    moment: str
    seconds: float
    step: int
    reached: int = 0
    began: float | None = None

    def is_due(self, event):
        self.reached = max(self.reached, event.get("step") or 0)
        return event["event"] == self.moment and event["step"] >= self.step

    def is_due_now(self, engine):
        self.began = self.began or time.monotonic()
        if self.moment == "write":
            return self.reached >= self.step and engine.is_writing
        late = time.monotonic() - self.began > self.seconds
        return self.moment == "time" and late


def draw_crashes(draw, straight, *, count):
    """Draws moments over the whole length of the uninterrupted run."""
    last = max(step for step, *_ in straight.curve)
    return [
        Crash(
            draw.choice(MOMENTS),
            draw.uniform(0, straight.seconds),
            draw.randint(1, last),
        )
        for _ in range(count)
    ]


def test_every_optimizer_and_schedule_is_tried():
    tried = TRAININGS.values()

    assert {item["optimizer"] for item in tried} == set(Optimizer)
    schedules = {item.get("learning_rate_schedule", "cosine") for item in tried}
    assert schedules == set(LearningRateSchedule)


@pytest.mark.parametrize("name", TRAININGS)
def test_two_drawn_crashes_in_a_row_change_nothing(
    tmp_path, sqlite_url, name, pytestconfig
):
    site = Site(sqlite_url, tmp_path, TRAININGS[name], each=15, side=32)
    straight = site.run([], random.Random(0))
    assert straight.weights
    assert straight.curve

    for seed in range(pytestconfig.getoption("--crash-points")):
        draw = random.Random(f"{name} {seed}")
        crashes = draw_crashes(draw, straight, count=2)
        life = site.run(crashes, draw)

        assert len(life.deaths) == 2
        assert life.weights == straight.weights, (seed, life.deaths)
        assert life.curve == straight.curve, (seed, life.deaths)
