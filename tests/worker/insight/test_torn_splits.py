import numpy as np
import pytest

from tests.worker.insight.clouds import make_patients
from worker.insight.cross_validation import cross_validate
from worker.insight.difficulty import describe_torn
from worker.insight.groups import join_groups, list_held, measure_torn
from worker.insight.preset_accuracy import foresee
from worker.insight.presets import judge_probe
from worker.insight.probe import Recipe, fit_probe


def _deal(count: int) -> dict[str, np.ndarray]:
    """Splits that know of no groups."""
    order = np.random.default_rng(1).permutation(count)
    parts = np.split(order, [int(0.7 * count), int(0.83 * count)])
    return dict(zip(("train", "val", "test"), map(np.sort, parts), strict=True))


def test_a_split_by_picture_tears_bursts_and_one_by_burst_does_not():
    bursts = np.arange(100) // 5
    splits = _deal(100)
    by_burst = {name: np.flatnonzero(np.isin(bursts, rows)) for name, rows in
                _deal(20).items()}  # fmt: skip

    assert measure_torn(bursts, splits) > 0.9
    assert measure_torn(bursts, by_burst) == 0
    assert measure_torn(bursts, splits | {"test": np.array([], int)}) == 0


def test_copies_torn_between_training_and_validation_say_nothing_of_the_test():
    copies = np.array([0, 0, 1, 2, 3, 4])
    splits = {"train": np.array([0, 2]), "val": np.array([1, 3])}

    assert measure_torn(copies, splits | {"test": np.array([4, 5])}) == 0


def test_what_the_split_held_is_held_and_what_it_tore_is_not():
    patients, copies = np.arange(100) // 20, np.arange(100) // 2
    splits = {
        "train": np.arange(60), "val": np.arange(60, 80), "test": np.arange(80, 100),
    }  # fmt: skip
    copies[[3, 90]] = 99  # one picture of twenty has its like outside

    (held,) = list_held([patients, copies], splits)

    assert np.array_equal(held, patients)


def test_a_torn_burst_is_promised_what_a_head_delivers_on_its_test_split():
    """Who has seen one frame of a burst knows the others; new bursts are hard."""
    features, labels, bursts = make_patients(60, each=6, apart=0.5, size=64)
    splits = _deal(len(labels))
    rows = np.sort(np.concatenate([splits["train"], splits["val"]]))
    train, test = splits["train"], splits["test"]
    head = fit_probe(features[train], labels[train], Recipe(1.0))
    told = head.ask(features[test], 2).argmax(axis=1)
    delivered = float((told == labels[test]).mean())

    promised = {}
    for name, kinds in (("as split", list_held([bursts], splits)), ("new", [bursts])):
        probed = cross_validate(
            features,
            labels,
            rows,
            classes=2,
            recipe=Recipe(1.0),
            groups=join_groups(kinds) if kinds else None,
        )
        judged = judge_probe(probed, labels, splits["val"], groups=bursts, test=test)
        promised[name] = foresee(
            "fast",
            judged.accuracy,
            probe_images=judged.images / judged.design_effect,
            test_images=len(test) / judged.test_design_effect,
            finished=(),
        )

    assert promised["as split"].low <= delivered <= promised["as split"].high
    assert promised["new"].high < delivered


@pytest.mark.parametrize("words", ["12% of the test pictures", "reckon with 93%"])
def test_the_difference_to_new_pictures_is_told(words):
    assert words in describe_torn(0.12, 0.93)
