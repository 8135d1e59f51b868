import numpy as np
import pytest

from tests.worker.insight.clouds import make_clouds, make_patients
from worker.insight import learning_curve
from worker.insight.class_gains import describe_gains, measure_gains
from worker.insight.learning_curve import (
    Curve,
    Point,
    describe_curve,
    fit_curve,
    look_ahead,
    look_at_gain,
    measure_points,
    resample_curves,
)
from worker.insight.probe import Recipe


@pytest.mark.parametrize(
    "truth", [Curve(0.05, 2.0, 0.5), Curve(0.0, 1.0, 0.3), Curve(0.1, 3.0, 0.8)]
)
def test_the_fit_finds_the_curve_that_made_the_points(truth):
    images = [100, 250, 500, 1000]

    found = fit_curve(images, [truth.error(n) for n in images])

    assert found.error(2000) == pytest.approx(truth.error(2000), abs=0.004)


def test_a_flat_curve_promises_nothing():
    found = fit_curve([100, 250, 500, 1000], [0.2, 0.2, 0.2, 0.2])

    assert found.error(3000) == pytest.approx(0.2, abs=0.01)


def test_errors_that_rise_with_more_images_promise_no_rise():
    found = fit_curve([100, 250, 500, 1000], [0.1, 0.12, 0.11, 0.13])

    assert found.error(2000) <= 0.13


def test_half_of_the_data_foretells_what_all_of_it_reaches():
    features, labels = make_clouds(700, apart=2.2, size=100)
    rows = np.arange(len(labels))

    half = measure_points(features, labels, rows[: len(rows) // 2], recipe=Recipe(1.0))
    whole = measure_points(features, labels, rows, recipe=Recipe(1.0), shares=(1.0,))
    curve = fit_curve([p.images for p in half], [1 - p.accuracy for p in half])
    foretold, interval = look_ahead(curve, resample_curves(half), whole[0].images)

    assert foretold == pytest.approx(whole[0].accuracy, abs=0.035)
    assert interval[0] <= foretold <= interval[1]


def test_the_sentence_says_whether_more_pictures_help():
    judged = np.arange(2000)

    def point(images: int, accuracy: float) -> Point:
        hits = (judged < accuracy * len(judged)).astype(float)[None, :]
        return Point(images / 1000, images, hits, np.zeros(len(judged), int))

    steep = [point(n, 1 - 4 * n**-0.5) for n in (100, 250, 500, 1000)]
    flat = [point(n, 0.8) for n in (100, 250, 500, 1000)]

    assert describe_curve(steep, 1000)["sentence"].startswith(
        "More pictures would help"
    )
    assert "would hardly help" in describe_curve(flat, 1000)["sentence"]


@pytest.mark.parametrize(
    ("level", "slope", "words"),
    [
        (0.8, 0.0, "would hardly help"),
        (0.9, 1.0, "More pictures would help"),
    ],
)
def test_a_gain_is_told_more_closely_than_what_it_leads_to(level, slope, words):
    random = np.random.default_rng(0)
    hardness = random.random(1000)

    def point(images: int) -> Point:
        told = 0.85 * hardness + 0.15 * random.random((3, 1000))
        hits = (told < level - slope * images**-0.4).astype(float)
        return Point(images / 1000, images, hits, np.zeros(1000, int))

    told = describe_curve([point(n) for n in (100, 250, 500, 1000)], 1000)

    low, high = told["ahead"][1]["interval"]
    assert high - low > 0.03  # of the accuracy with twice as many
    assert words in told["sentence"]


def test_no_gain_is_told_as_a_loss():
    random = np.random.default_rng(0)
    points = [
        Point(n / 40, n, (random.random((2, 40)) < 0.6) * 1.0, np.zeros(40, int))
        for n in (10, 20, 40)
    ]

    curve, others = Curve(0.4, 0.0, 0.5), resample_curves(points)
    gain, (low, high) = look_at_gain(curve, others, 40)

    assert gain == 0
    assert 0 <= low <= high
    assert "-" not in describe_curve(points, 40)["sentence"]


def test_a_rare_class_gains_most_from_more_of_its_own_and_a_full_one_nothing():
    features, labels = make_clouds([400, 400, 16], apart=3.0, size=40)

    gains = measure_gains(
        features, labels, np.arange(len(labels)), recipe=Recipe(1.0), exponent=0.5
    )
    told = describe_gains(gains, ["ash", "bog", "cob"])

    assert told[0]["label"] == "cob"
    assert told[0]["gain_points"] > 1
    assert "more pictures of “cob” would buy about" in told[0]["sentence"]
    assert any("would buy nothing" in row["sentence"] for row in told)
    assert all(row["interval"][0] <= row["gain_points"] + 1e-9 for row in told)


def test_no_class_is_promised_more_than_all_of_it():
    features, labels = make_clouds([60, 60, 4], apart=1.0)

    gains = measure_gains(
        features, labels, np.arange(len(labels)), recipe=Recipe(1.0), exponent=1.0
    )

    assert all(100 * gain.recall + gain.points <= 100 + 1e-9 for gain in gains)


def test_of_too_few_pictures_no_curve_is_told():
    features, labels = make_clouds(3, classes=3)

    points = measure_points(
        features, labels, np.arange(len(labels)), recipe=Recipe(1.0)
    )
    told = describe_curve(points, len(labels))

    assert [p["images"] for p in told["points"]] == sorted(
        {p["images"] for p in told["points"]}
    )
    assert told["fit"] is None
    assert told["ahead"] == []
    assert "too few pictures" in told["sentence"]


def test_of_more_pictures_than_are_fitted_shares_are_of_those(monkeypatch):
    features, labels = make_clouds(200)
    monkeypatch.setattr(learning_curve, "MOST_FITTED", 100)

    points = measure_points(
        features, labels, np.arange(len(labels)), recipe=Recipe(1.0)
    )

    counts = [point.images for point in points]
    assert counts == pytest.approx([10, 25, 50, 100], abs=1)
    # Four of five folds are 480 pictures, and the largest share is 100 of them.
    assert points[-1].share == pytest.approx(100 / 480)


def test_a_curve_is_not_followed_far_beyond_what_was_fitted():
    judged = np.arange(2000)
    points = [
        Point(n / 1000, n, (judged < 2000 * (1 - 4 * n**-0.5))[None, :] * 1.0, judged)
        for n in (100, 250, 500, 1000)
    ]

    near, far, farther = (describe_curve(points, n) for n in (1300, 2500, 5000))

    assert [row["images"] for row in near["ahead"]] == [1950, 2600, 3900]
    assert [row["images"] for row in far["ahead"]] == [3750]
    assert farther["ahead"] == []
    assert "too far beyond" in far["sentence"]
    assert "up to 1,000 pictures" in farther["sentence"]


def test_pictures_of_few_groups_leave_a_wider_outlook():
    labels, groups = np.zeros(1000, int), np.arange(1000) // 100
    random = np.random.default_rng(0)

    def list_points(of: np.ndarray | None) -> list[Point]:
        found = []
        for n in (100, 250, 500, 1000):
            # Whole groups are told right or not.
            hits = np.tile(random.permutation(10) < 6, (100, 1)).T.ravel() * 1.0
            found.append(Point(n / 1000, n, hits[None, :], labels, of))
        return found

    alone, grouped = (describe_curve(list_points(of), 1000) for of in (None, groups))

    def width(told: dict) -> float:
        low, high = told["points"][-1]["interval"]
        return high - low

    assert width(grouped) > 2 * width(alone)


def test_shares_that_draw_the_same_groups_make_one_point():
    features, labels, groups = make_patients(3)

    points = measure_points(
        features, labels, np.arange(len(labels)), recipe=Recipe(1.0), groups=groups
    )

    assert len(points) == 2
    assert describe_curve(points, len(labels))["fit"] is None


@pytest.mark.parametrize(("film", "word"), [(90, "of one group"), (1, "“rare”")])
def test_a_class_of_one_film_and_few_others_is_told_no_gain(film, word):
    features, labels = make_clouds([200, 100], classes=2, apart=1.5)
    groups = np.arange(len(labels))
    groups[np.flatnonzero(labels == 1)[:film]] = 1000

    gains = measure_gains(
        features, labels, np.arange(len(labels)), recipe=Recipe(1.0), exponent=0.5,
        groups=groups,
    )  # fmt: skip

    told = {
        row["label"]: row["sentence"] for row in describe_gains(gains, ["", "rare"])
    }
    assert word in told["rare"]
    assert ("of one group" in told["rare"]) == (film > 1)


def test_what_a_class_gains_is_told_of_itself_and_of_all():
    features, labels = make_clouds([400, 400, 16], apart=3.0, size=40)

    gains = measure_gains(
        features,
        labels,
        np.arange(len(labels)),
        recipe=Recipe(1.0),
        exponent=0.5,
    )

    rare = next(gain for gain in gains if gain.label == 2)
    # Of 816 pictures 16 are its own: all of them right would be two points.
    assert 0 < rare.overall_points < 2
    assert rare.points > 5 * rare.overall_points


def test_many_small_classes_have_a_curve_of_the_pictures_that_were_drawn():
    features, labels = make_clouds(6, classes=40, apart=6.0, size=50)

    points = measure_points(
        features, labels, np.arange(len(labels)), recipe=Recipe(None)
    )

    # A quarter of 192 is 48, and of each class whole pictures are drawn.
    assert [point.images for point in points][-1] == 192
    assert all(point.images % 40 == 0 for point in points[:-1])
    assert points[-1].accuracy > 0.9
