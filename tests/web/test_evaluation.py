"""What pages make of an evaluation, whatever it holds."""

from tests.web.rows import make_evaluation
from web.models.evaluation import MAX_CONFUSIONS
from web.models.evaluation import make_evaluation as make_shown


def names(count):
    return [f"class {i}" for i in range(count)]


def test_few_classes_are_shown_as_a_matrix():
    shown = make_shown(make_evaluation(names(3)))

    assert [row["label"] for row in shown["confusion"]] == names(3)
    assert [cell["hit"] for cell in shown["confusion"][1]["cells"]] == [0, 1, 0]
    assert shown["confusions"] == []


def test_many_classes_are_shown_by_their_most_frequent_mistakes():
    content = make_evaluation(names(40))
    content["confusion"][7][3] = 9

    shown = make_shown(content)

    assert shown["confusion"] == []
    assert len(shown["confusions"]) == MAX_CONFUSIONS
    assert shown["confusions"][0] == {
        "truth": "class 7",
        "said": "class 3",
        "count": 9,
    }


def test_an_empty_evaluation_has_empty_tables():
    shown = make_shown({})

    assert shown["accuracy"] is None
    assert shown["confusion"] == shown["confusions"] == shown["per_class"] == []
