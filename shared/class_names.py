"""Names of classes in one spelling that is safe to print, wherever they come from."""

import unicodedata

_STEERING = frozenset({"Cc", "Cs", "Co"})  # control, half a character, private use
# What joins the parts of an emoji and the letters of some scripts, and the letters that
# tell flags apart: nobody sees them, and without them a name is another one.
_JOINERS = frozenset({"\u200c", "\u200d"} | {chr(c) for c in range(0xE0020, 0xE0080)})


def clean_label(text: str) -> str:
    """Brings a class name to one spelling that is safe to print.

    Composed Unicode, one blank between words and none around them. What nobody sees is
    taken out, and what would steer a terminal becomes a sign that everybody sees.
    """
    if not text.isprintable():
        text = "".join(map(_make_plain, text))
    return " ".join(unicodedata.normalize("NFC", text).split())


def _make_plain(sign: str) -> str:
    if sign.isprintable() or sign in _JOINERS:
        return sign
    if sign.isspace():
        return " "
    kind = unicodedata.category(sign)
    if kind == "Cf":  # invisible, such as the mark that begins a file
        return ""
    # Not "Cn": an emoji that is newer than this Python is a name like any other.
    return "\ufffd" if kind in _STEERING else sign
