"""Reading text whose encoding nobody recorded."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.ingest.name_encoding import decode_names, detect_encoding, open_text


def read(data):
    with open_text(io.BytesIO(data), newline="") as text:
        return text.read(), text.encoding


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_utf8_is_always_read_as_such(text):
    assert read(text.encode())[0] == text.removeprefix("\ufeff")


@given(st.binary())
def test_no_bytes_fail(data):
    text, encoding = read(data)

    text.encode()  # no half of a character is in it, which would raise
    assert encoding


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("plain.png", "utf-8"),
        ("小狗/照片一.png", "gbk"),
        ("ネコの写真/ひとつ.png", "shift_jis"),
        ("кошки/первая.png", "cp1251"),
        ("кошки/первая.png", "cp866"),
        ("Müller/Größe.png", "latin-1"),
        ("élève/forêt.png", "cp437"),
    ],
)
def test_each_encoding_is_told_from_the_others(text, encoding):
    assert detect_encoding(text.encode(encoding)) == encoding


def test_all_names_of_an_archive_decide_together():
    """One short name alone could be anything."""
    names = ["Ä.png", "Müller.png", "Größe.png", "Öl.png"]

    read = decode_names([name.encode("latin-1") for name in names])

    assert read.names == names
    assert (read.encoding, read.guessed) == ("latin-1", 4)


def test_names_that_are_utf8_are_read_so_where_most_are():
    good = [f"猫/照片 {number}.png" for number in range(99)]
    old = "Müller/Größe.png"

    read = decode_names([old.encode("latin-1"), *(name.encode() for name in good)])

    assert read.names == [old, *good]
    assert (read.encoding, read.guessed) == ("latin-1", 1)


def test_a_short_name_that_is_utf8_by_chance_goes_with_the_others():
    names = ["猫", "小狗照片", "猫咪图片", "动物收容所"]
    by_chance = b"\xc4\xa7"  # a Chinese sign in GBK, and a letter of Maltese in UTF-8

    read = decode_names([by_chance, *(name.encode("gbk") for name in names)])

    assert (read.encoding, read.guessed) == ("gbk", 5)
    assert read.names == [by_chance.decode("gbk"), *names]


def test_plain_names_are_nothing_to_guess():
    read = decode_names([b"cat/1.png", b"dog/2.png"])

    assert (read.names, read.guessed) == (["cat/1.png", "dog/2.png"], 0)


@pytest.mark.parametrize("mark", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_obeyed_and_taken_off(mark):
    assert read("猫,cat".encode(mark))[0] == "猫,cat"
