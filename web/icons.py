"""Bootstrap's icons, taken from the installed package and put into the page.

Inline, each page carries the dozen it shows instead of fetching the whole sprite.
"""

import re
from functools import lru_cache
from pathlib import Path

import flask_bootstrap
from markupsafe import Markup

SPRITE = (
    Path(flask_bootstrap.__file__).parent
    / "static" / "bootstrap5" / "icons" / "bootstrap-icons.svg"
)  # fmt: skip
_SYMBOL = re.compile(
    r'<symbol[^>]*?viewBox="(?P<box>[^"]+)"[^>]*?id="(?P<id>[^"]+)"[^>]*>(?P<body>.*?)</symbol>',
    re.DOTALL,
)


@lru_cache(maxsize=1)
def _symbols() -> dict[str, tuple[str, str]]:
    text = SPRITE.read_text(encoding="utf-8")
    return {m["id"]: (m["box"], m["body"]) for m in _SYMBOL.finditer(text)}


@lru_cache(maxsize=256)
def icon(name: str) -> Markup:
    """Returns the icon called `name` as decoration: readers of screens skip it.

    Raises:
        KeyError: When the package has no such icon.
    """
    box, body = _symbols()[name]
    return Markup(  # noqa: S704 - the installed package's own drawing
        f'<svg class="icon" viewBox="{box}" fill="currentColor" aria-hidden="true" '
        f'focusable="false">{body}</svg>'
    )
