"""Which base models a forecast compares, and which wishes it answers."""

import pytest

from shared import forecast_store, worker_store
from shared.errors import ConflictError
from shared.forecast_base_models import choose_base_models
from tests import factories

READY = ["VGG16", "MobileNet", "EfficientNetLite0"]


@pytest.mark.parametrize(
    ("asked", "ready", "most", "chosen"),
    [
        (None, [], 3, ["EfficientNetLite0"]),
        (None, ["VGG16", "MobileNet"], 3, ["EfficientNetLite0", "MobileNet", "VGG16"]),
        (None, ["VGG16", "MobileNet"], 1, ["EfficientNetLite0"]),
        ([], ["VGG16"], 3, ["EfficientNetLite0"]),
        # Weights that are not here may be fetched, or are told to be missing.
        (
            ["VGG16", "Xception"],
            ["VGG16"],
            1,
            ["EfficientNetLite0", "VGG16", "Xception"],
        ),
        (["VGG16", "EfficientNetLite0"], [], 3, ["EfficientNetLite0", "VGG16"]),
    ],
)
def test_default_base_model_is_compared_with_those_asked_for_or_there(
    asked, ready, most, chosen
):
    assert choose_base_models(asked, ready, most) == chosen


def test_what_is_chosen_is_of_as_many_families_as_there_are():
    ready = [
        "EfficientNetLite0", "EfficientNetLite1", "EfficientNetLite2", "ResNet101",
        "ResNet50", "MobileNet", "MobileNet-0.5",
    ]  # fmt: skip

    assert choose_base_models(None, ready, 20) == [
        "EfficientNetLite0", "MobileNet", "ResNet50",
        "EfficientNetLite1", "MobileNet-0.5", "ResNet101", "EfficientNetLite2",
    ]  # fmt: skip
    assert choose_base_models(None, ready[::-1], 3) == [
        "EfficientNetLite0", "MobileNet", "ResNet50",
    ]  # fmt: skip


def test_what_a_newer_worker_has_and_nobody_knows_here_is_not_chosen():
    ready = ["EfficientNetLite9", "VGG16"]

    assert choose_base_models(None, ready, 3) == ["EfficientNetLite0", "VGG16"]


@pytest.fixture
def asking(database):
    """Asks for a forecast that compares some; one waits that compares what it can."""
    with database.transaction() as s:
        owner_id = factories.make_user(s).id
        version_id = factories.make_version(s, owner_id, forecasts=True)

    def ask(*names, most=2):
        return database.tx(
            lambda s: forecast_store.ask(
                s, version_id, owner_id=owner_id, base_models=[*names], most=most
            )
        )

    return ask


def register(database, name, ready, **more):
    with database.transaction() as s:
        return worker_store.register(
            s, name=name, host="h", slot="cpu",
            **{"kinds": ["train", "forecast"], "queues": ["default"]} | more,
            base_models={"ready": ready},
        )  # fmt: skip


def test_the_default_base_model_is_no_other_one(asking):
    assert not asking("EfficientNetLite0").created
    with pytest.raises(ConflictError, match="those that its worker has"):
        asking("MobileNet")


def test_what_every_worker_would_compare_is_compared_by_the_job_that_waits(
    database, asking
):
    register(database, "first", READY)
    register(database, "reads", ["Xception"], kinds=["ingest"])

    assert not asking("MobileNet").created
    with pytest.raises(ConflictError, match="with other base models"):
        asking("VGG16")  # the third of two
    assert not asking("VGG16", most=3).created
    register(database, "second", [])
    with pytest.raises(ConflictError, match="with other base models"):
        asking("MobileNet")


def test_what_a_worker_has_now_says_nothing_of_what_it_is_at(database, asking):
    worker_id = register(database, "first", READY)
    with database.transaction() as s:
        factories.claim(s, kinds=["forecast"], worker_id=worker_id)

    assert not asking("EfficientNetLite0").created
    with pytest.raises(ConflictError, match="with other base models"):
        asking("MobileNet")
