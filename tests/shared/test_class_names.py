import pytest

from shared.class_names import clean_label


@pytest.mark.parametrize(
    ("text", "label"),
    [
        (" cat ", "cat"),
        ("hot \t\n dog", "hot dog"),
        ("hot\u00a0dog", "hot dog"),
        ("\x1b[31mred\x1b[0m", "\ufffd[31mred\ufffd[0m"),
        ("a\x9b2Jb\x00", "a\ufffd2Jb\ufffd"),
        ("\ufeffcat\u200b", "cat"),
        ("\u202etac", "tac"),
        ("half\ud83d", "half\ufffd"),
        ("\u00ad", ""),
    ],
)
def test_a_label_holds_nothing_that_steers_a_terminal(text, label):
    assert clean_label(text) == label


@pytest.mark.parametrize(
    "label",
    [
        "\U0001f468\u200d\U0001f33e",  # a farmer: two signs, joined
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian, not joined
        "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "\U0001fabf",  # a goose, which is younger than some Pythons
        "\u96cf\u83ca",
    ],
)
def test_a_label_keeps_what_its_script_needs(label):
    assert clean_label(label) == label
