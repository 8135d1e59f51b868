import numpy as np
import pytest

from tests.worker.insight.clouds import make_patients
from worker.insight.cross_validation import cross_validate
from worker.insight.difficulty import describe_torn
from worker.insight.folds import deal_folds
from worker.insight.groups import find_torn, measure_met
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

    torn = find_torn([bursts], splits)

    assert torn is not None
    assert torn.share > 0.9
    assert torn.held is None
    assert find_torn([bursts], by_burst) is None
    assert find_torn([bursts], splits | {"test": np.array([], int)}) is None
    assert find_torn([], splits) is None


def test_copies_torn_between_training_and_validation_say_nothing_of_the_test():
    copies = np.array([0, 0, 1, 2, 3, 4])
    splits = {"train": np.array([0, 2]), "val": np.array([1, 3])}

    assert find_torn([copies], splits | {"test": np.array([4, 5])}) is None


def test_what_the_split_held_is_held_and_what_it_tore_is_not():
    patients, copies = np.arange(100) // 20, np.arange(100) // 2
    splits = {
        "train": np.arange(60), "val": np.arange(60, 80), "test": np.arange(80, 100),
    }  # fmt: skip
    copies[[3, 90]] = 99  # one picture of twenty has its like outside

    torn = find_torn([patients, copies], splits)

    assert np.array_equal(torn.held, patients)
    assert torn.share == 1 / 20
    assert [kind is copies for kind in torn.kinds] == [True]


def test_pictures_meet_their_like_where_folds_part_them():
    folds = np.array([0, 1, 0, 0, 1])
    one, two = np.array([7, 7, 8, 8, 9]), np.array([1, 2, 3, 4, 4])

    assert measure_met([one], folds) == 2 / 5
    assert measure_met([one, two], folds) == 4 / 5


def _promise(features, labels, splits, bursts):
    """What a fast training is promised, and what a head delivers on the test split."""
    rows = np.sort(np.concatenate([splits["train"], splits["val"]]))
    torn = find_torn([bursts], splits)
    probes = {}
    for name, groups in (("new", bursts), ("torn", None)):
        probed = cross_validate(
            features, labels, rows, classes=2, recipe=Recipe(1.0), groups=groups
        )
        probes[name] = judge_probe(
            probed, labels, splits["val"], groups=bursts, test=splits["test"]
        )
    met = measure_met([bursts[rows]], deal_folds(labels[rows]))
    share = min(1.0, torn.share / met)
    gained = probes["torn"].accuracy - probes["new"].accuracy
    head = fit_probe(features[splits["train"]], labels[splits["train"]], Recipe(1.0))
    told = head.ask(features[splits["test"]], 2).argmax(axis=1)
    expected = [
        foresee(
            "fast",
            probes["new"].accuracy + part * gained,
            probe_images=probes["new"].images / probes["new"].design_effect,
            test_images=len(splits["test"]) / probes["new"].test_design_effect,
            finished=(),
        )
        for part in (share, 0.0, 1.0)
    ]
    return expected, float((told == labels[splits["test"]]).mean())


def test_a_torn_burst_is_promised_what_a_head_delivers_on_its_test_split():
    """Who has seen one frame of a burst knows the others; new bursts are hard."""
    features, labels, bursts = make_patients(60, each=6, apart=0.5, size=64)

    (told, new, _), delivered = _promise(features, labels, _deal(len(labels)), bursts)

    assert told.low <= delivered <= told.high
    assert new.high < delivered


def test_a_few_that_have_slipped_into_the_test_split_promise_little():
    features, labels, bursts = make_patients(150, each=6, apart=0.5, size=64)
    test = np.flatnonzero(bursts >= 220)
    # Of so many test pictures three have their like among those to train on.
    train = np.concatenate([np.flatnonzero(bursts < 190), test[:3]])
    splits = {
        "train": np.sort(train),
        "val": np.flatnonzero((bursts >= 190) & (bursts < 220)),
        "test": test[3:],
    }

    (told, _, torn), delivered = _promise(features, labels, splits, bursts)

    assert told.low <= delivered <= told.high
    assert torn.low > delivered


@pytest.mark.parametrize("words", ["12% of the test pictures", "reckon with 93%"])
def test_the_difference_to_new_pictures_is_told(words):
    assert words in describe_torn(0.12, 0.93)
