"""The idempotency key of a filled form.

A page carries a fresh key. Sent twice by a double click, the same content makes nothing
a second time; sent again with other content, after a look back, it is another request.
"""

import hashlib

from werkzeug.datastructures import MultiDict

_NOT_CONTENT = ("key", "csrf_token")


def form_key(values: MultiDict[str, str]) -> str | None:
    """Returns the page's key with a digest of what was filled in; None without one."""
    page_key = values.get("key")
    if not page_key:
        return None
    filled = sorted(list_content(values))
    return f"{page_key[:100]}-{hashlib.sha256(repr(filled).encode()).hexdigest()[:32]}"


def list_content(values: MultiDict[str, str]) -> list[tuple[str, str]]:
    """Returns what was filled in, field by field, without what the page adds itself."""
    return [
        (name, value)
        for name, value in values.items(multi=True)
        if name not in _NOT_CONTENT
    ]
