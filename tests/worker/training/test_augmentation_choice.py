"""Only changes that leave the classes recognisable are made, if that is wished."""

import json

import numpy as np
import pytest
from PIL import Image

from shared.errors import UserError
from shared.presets import build_training_spec
from shared.training_spec import Augmentation, parse_training_spec
from tests.worker.training.engine_process import (
    newest_checkpoint,
    read_arrays,
    read_result,
    run_killed_at,
    run_to_end,
    write_spec,
)
from tests.worker.training.pictures import build_pack
from worker.training import augmentation_choice, phase_setup
from worker.training.augmentation_choice import Choice, choose

# In one process, so that what its tests share is made once.
pytestmark = pytest.mark.xdist_group("augmentation choice")

SIDE = 32
EVERYTHING = Augmentation(measured=True, rotation=90)
SPEC = {
    "image_size_px": 64,
    "batch_size": 16,
    "head_start": "logistic",
    "feature_views": 2,
    "frozen_epochs": 1,
    "fine_tune_epochs": 2,
    "unfreeze_from": 0.9,
    "test_time_augmentation": True,
    "checkpoint_every": {"steps": 3},
    "augmentation": {"measured": True, "rotation": 90},
}


def write_bars(folder, *, each):
    """Pictures of one bar, of any place and brightness: upright or lying.

    Mirrored, shifted or enlarged it stays what it is; turned it does not.
    """
    random = np.random.default_rng(0)
    for name in ("lying", "upright"):
        (folder / name).mkdir(parents=True)
        for number in range(each):
            pixels = random.integers(0, 40, (SIDE, SIDE, 3))
            at, light = random.integers(8, 24), random.integers(120, 200)
            pixels[at - 2 : at + 2] += light
            if name == "upright":
                pixels = pixels.transpose(1, 0, 2)
            image = Image.fromarray(pixels.astype(np.uint8))
            image.save(folder / name / f"{number}.png")


def straightness(pixels):
    """Features that know lying from upright: how much rows and columns differ."""
    grey = pixels.astype(np.float32).mean(axis=3) / 255
    rows, columns = grey.mean(axis=2).std(axis=1), grey.mean(axis=1).std(axis=1)
    return np.stack([rows, columns], axis=1)


@pytest.fixture(scope="module")
def bars(tmp_path_factory):
    root = tmp_path_factory.mktemp("bars")
    write_bars(root / "pictures", each=220)
    return root


def choose_for(pack, given=EVERYTHING, compute=straightness, **options):
    features = compute(np.asarray(pack.pixels[:]))
    return choose(pack, features, given, compute=compute, seed=0, **options)


def test_a_change_that_hides_the_classes_is_left_out_and_the_others_stay(bars):
    choice = choose_for(build_pack(bars, size=SIDE))

    assert choice.augmentation == EVERYTHING.model_copy(
        update={"measured": False, "vertical_flip": True, "rotation": 0}
    )
    assert choice.lost["rotation"] > 0.5
    assert max(choice.lost[kind] for kind in augmentation_choice.FLIPS) < 0.1
    assert "Left out: rotation" in choice.describe()


def test_how_far_the_measurement_is_can_be_followed(bars):
    pack, told = build_pack(bars, size=SIDE), []

    choose_for(pack, report=lambda done, total: told.append((done, total)))

    judged = len(pack.splits["val"])
    assert told == [(judged * kind, judged * 6) for kind in range(6)]


def test_a_change_that_nobody_asked_for_is_not_made(bars):
    still = Augmentation(measured=True, rotation=0, zoom=0, shift=0, brightness=0)

    choice = choose_for(build_pack(bars, size=SIDE), still)

    assert set(choice.lost) == set(augmentation_choice.FLIPS)
    assert choice.augmentation == still.model_copy(
        update={"measured": False, "vertical_flip": True}
    )


@pytest.mark.parametrize("blind", [False, True])
def test_where_nothing_can_be_told_the_augmentation_is_as_given(tmp_path, bars, blind):
    def constant(pixels):
        return np.ones((len(pixels), 2), np.float32)

    choice = (
        choose_for(build_pack(bars, size=SIDE), compute=constant)
        if blind
        else choose_for(build_pack(tmp_path, size=SIDE, each=20))
    )

    assert choice.augmentation == EVERYTHING.model_copy(update={"measured": False})
    assert "not measured" in choice.describe()


def test_a_choice_reads_back_as_it_was_kept(tmp_path, bars):
    choice = choose_for(build_pack(bars, size=SIDE))
    path = tmp_path / "new" / "choice.json"

    augmentation_choice.store(path, choice)
    again = augmentation_choice.find_stored(path)
    path.write_text("{")

    assert again == choice
    assert Choice.from_json(choice.to_json()) == choice
    assert augmentation_choice.find_stored(path) is None
    assert augmentation_choice.find_stored(tmp_path / "none.json") is None
    for wrong in ({"lost": {"smell": 0.1}}, {"lost": {"zoom": "?"}}, {"lost": [1]}):
        path.write_text(json.dumps(choice.to_json() | wrong))
        assert augmentation_choice.find_stored(path) is None


def test_another_way_to_make_squares_is_measured_anew(bars):
    pack = build_pack(bars, size=SIDE)
    names = {
        augmentation_choice.name_file(
            pack, "base", parse_training_spec({"fit": fit}), precision=precision
        )
        for fit, precision in (
            ("stretch", "float32"), ("pad", "float32"), ("pad", "mixed_bfloat16"),
        )
    }  # fmt: skip

    assert len(names) == 3


def notes_of(engine):
    texts = [event["message"] for event in engine.named("note")]
    return [text for text in texts if "which augmentation" in text]


def test_a_killed_training_repeats_what_was_measured_and_measures_once(tmp_path, bars):
    caches = {"caches": str(tmp_path / "caches")}
    spec = write_spec(tmp_path / "SPEC.json", bars / "pictures", SPEC, **caches)
    whole = run_to_end(spec, tmp_path / "whole")
    kept = next((tmp_path / "caches" / "engines").glob("augmentation-*.json"))

    first = run_killed_at(
        spec,
        tmp_path / "work",
        lambda e: e["event"] == "phase" and e["phase"] == "fine_tune",
    )
    # What is stored now says otherwise: the training's own record must decide.
    fields = json.loads(kept.read_text())
    fields["augmentation"]["zoom"] = 0.0
    kept.write_text(json.dumps(fields))
    second = run_killed_at(spec, tmp_path / "work", lambda e: (e.get("step") or 0) > 21)
    third = run_to_end(spec, tmp_path / "work")

    assert ["Left out: rotation" in text for text in notes_of(whole)] == [True]
    assert notes_of(first) == notes_of(whole)
    assert not notes_of(second)
    assert not notes_of(third)
    assert read_arrays(newest_checkpoint(third.workdir)) == read_arrays(
        newest_checkpoint(whole.workdir)
    )
    assert read_result(third.workdir) == read_result(whole.workdir)
    card = (tmp_path / "whole" / "final" / "model_card.md").read_text()
    assert "horizontal flip, vertical flip, zoom up to 0.1, shift up to 0.05" in card


def test_a_training_without_a_frozen_phase_cannot_measure():
    with pytest.raises(UserError, match="needs a frozen phase"):
        parse_training_spec(
            {
                "frozen_epochs": 0,
                "fine_tune_epochs": 1,
                "augmentation": {"measured": True},
            }
        )


def test_mirrors_may_be_averaged_although_only_measuring_says_which(bars):
    spec = parse_training_spec(
        SPEC | {"augmentation": {"measured": True, "horizontal_flip": False}}
    )
    still = spec.augmentation.model_copy(update={"measured": False})
    settled = spec.model_copy(update={"augmentation": still})
    material = phase_setup.Material(settled, build_pack(bars, size=64), [], 1)
    _, _, model = phase_setup._build_joined(material, phase_setup.Replicas())

    mirrored = phase_setup.mirrored_views.average_over_mirrors(model, still)

    assert mirrored is model


@pytest.mark.parametrize("name", ["balanced", "best"])
def test_an_augmentation_that_the_user_changed_is_made_as_given(name):
    assert build_training_spec(name).augmentation.measured
    own = build_training_spec(name, {"augmentation": {"rotation": 3}})
    assert own.augmentation == Augmentation(rotation=3)
    build_training_spec(name, {"frozen_epochs": 0})
