"""Views that are computed while the frozen phase trains: in time, once, the same."""

import itertools
import json
import shutil
import signal

import pytest

from shared.training_spec import parse_training_spec
from tests.worker.training.engine_process import (
    Engine,
    epoch_metrics,
    newest_checkpoint,
    read_arrays,
    run_to_end,
    run_until_trained,
    write_spec,
)
from tests.worker.training.pictures import write_pictures
from worker.training.frozen_views import count_views

# In one process, so that what its tests share is made once.
pytestmark = [pytest.mark.xdist_group("frozen views"), pytest.mark.timeout(600)]

# Large enough that a pass over the training pictures takes seconds, not less.
TRAINING = {
    "base_model": "MobileNetV2-0.35",
    "weights": None,
    "image_size_px": 160,
    "batch_size": 16,
    "head": {"units": [8], "dropout": 0.3},
    "feature_views": 3,
    "frozen_epochs": 4,
    "early_stopping_patience": None,
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "pictures"
    write_pictures(folder, each=150, side=64)
    return folder


@pytest.fixture(scope="module")
def spec(tmp_path_factory, dataset):
    path = tmp_path_factory.mktemp("spec") / "SPEC.json"
    return write_spec(path, dataset, TRAINING)


@pytest.fixture(scope="module")
def straight(tmp_path_factory, spec):
    """The uninterrupted run that every other one must equal."""
    # In a Python of its own: those that resume are forked (`warm_children`).
    return run_to_end(spec, tmp_path_factory.mktemp("straight"), cold=True)


def computes_within_training(engine):
    """Reads on until the engine computes a view between two epochs."""

    def is_due(event):
        return (
            event["event"] == "durable"
            and event["what"] == "features"
            and engine.named("metrics") != []
        )

    return is_due


@pytest.mark.parametrize(
    ("views", "epochs", "counts"),
    [
        (1, 10, [1, 1, 1]),
        (3, 10, [1, 2, 3, 3]),
        (3, 3, [1, 2, 3]),
        (3, 2, [3, 3]),
        (3, 1, [3]),
    ],
)
def test_each_epoch_draws_from_one_view_more_if_there_are_enough(views, epochs, counts):
    spec = parse_training_spec({"feature_views": views, "frozen_epochs": epochs})

    assert [count_views(spec, epoch) for epoch in range(len(counts))] == counts


def test_training_begins_when_the_plain_view_is_there(straight):
    said = [
        event["event"]
        for event in straight.events
        if event["event"] == "metrics" or event.get("what") == "features"
    ]

    phases = [event["phase"] for event in straight.named("phase")]
    assert phases == ["prepare", *["frozen", "prepare"] * 2, "frozen", *phases[-2:]]
    changes = [name for name, _ in itertools.groupby(said)]
    assert changes == ["durable", "metrics"] * 3


def test_what_is_computed_while_training_counts_as_preparing(straight):
    evaluation = json.loads((straight.workdir / "final/evaluation.json").read_text())
    phases = straight.named("phase")
    first = next(n for n, event in enumerate(phases) if event["phase"] == "frozen")
    last = max(n for n, event in enumerate(phases) if event["phase"] == "frozen")
    span = phases[last + 1]["at"] - phases[first]["at"]
    preparing = sum(
        after["at"] - event["at"]
        for event, after in itertools.pairwise(phases[first : last + 1])
        if event["phase"] == "prepare"
    )

    # Half, because the events are written a moment after what they tell of.
    assert preparing > 0
    assert evaluation["seconds"]["frozen"] < span - preparing / 2


def test_views_found_and_views_computed_while_training_give_the_same(
    tmp_path, dataset, straight
):
    spec = write_spec(
        tmp_path / "SPEC.json",
        dataset,
        TRAINING,
        caches=str(straight.workdir / "caches"),
    )

    again = run_until_trained(spec, tmp_path / "work")

    assert [e["phase"] for e in again.named("phase")][:2] == ["prepare", "frozen"]
    assert not [e for e in again.named("durable") if e["what"] == "features"]
    (found,) = [e for e in again.named("note") if "Found the features" in e["message"]]
    assert "x 3 views, computed before: training starts at once." in found["message"]
    assert_same(straight, again)


def test_a_stop_while_a_view_is_computed_loses_no_step(tmp_path, spec, straight):
    stopped = Engine(spec, tmp_path / "work")
    stopped.watch(computes_within_training(stopped))

    stopped.kill(signal.SIGTERM)
    code = stopped.finish()
    resumed = run_until_trained(spec, tmp_path / "work")

    assert code == 75, stopped.errors()
    saved = stopped.named("checkpoint")[-1]
    assert saved["step"] == stopped.named("metrics")[-1]["step"]
    assert resumed.named("resumed")[0]["step"] == saved["step"]
    assert_same(straight, stopped, resumed)


def test_a_kill_while_a_view_is_computed_keeps_its_shards(tmp_path, spec, straight):
    killed = Engine(spec, tmp_path / "work")
    killed.watch(computes_within_training(killed))

    killed.kill()
    killed.finish()
    resumed = run_until_trained(spec, tmp_path / "work")

    assert_same(straight, killed, resumed)


def test_finishing_now_does_not_wait_for_a_view(tmp_path, spec):
    engine = Engine(spec, tmp_path / "work")
    engine.watch(computes_within_training(engine))

    engine.kill(signal.SIGUSR2)
    code = engine.finish()

    assert code == 0, engine.errors()
    assert len(engine.named("metrics")) == 1
    assert engine.named("finished")


def test_finishing_now_does_not_wait_for_views_to_be_computed_again(tmp_path, dataset):
    spec = write_spec(
        tmp_path / "SPEC.json", dataset, TRAINING, caches=str(tmp_path / "caches")
    )
    stopped = Engine(spec, tmp_path / "work")
    stopped.watch(computes_within_training(stopped))
    stopped.kill(signal.SIGTERM)
    stopped.finish()
    shutil.rmtree(tmp_path / "caches" / "features")

    resumed = Engine(spec, tmp_path / "work")
    resumed.watch(
        lambda event: event["event"] == "durable" and event["what"] == "features"
    )
    resumed.kill(signal.SIGUSR2)
    code = resumed.finish()

    assert code == 0, resumed.errors()
    shards = [e for e in resumed.named("durable") if e["what"] == "features"][-1]
    assert shards["done"] < shards["total"]
    assert resumed.named("metrics") == []
    assert resumed.named("finished")


def assert_same(straight, *attempts):
    ours, theirs = (
        newest_checkpoint(engine.workdir) for engine in (attempts[-1], straight)
    )
    assert ours.name == theirs.name
    assert read_arrays(ours) == read_arrays(theirs)
    assert epoch_metrics(*attempts) == epoch_metrics(straight)
