"""Addresses that datasets may come from: what one means, and which are allowed.

`https://host/folder/pictures.zip`, or `s3://bucket/prefix/` in the form of fsspec. An
address is taken apart once, strictly, and what is fetched is put together from its
parts: so nothing that another program would read differently can pass the check.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from shared.errors import UserError

SETTING = "TRAINYARD_SOURCE_ADDRESSES"
WEB_PORTS = {"http": 80, "https": 443}
STORES = ("s3", "gs", "az")
# Other names that fsspec has for the same storages.
_ALIASES = {"s3a": "s3", "gcs": "gs", "abfs": "az"}
LONGEST_ADDRESS = 2_000
_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://")
_HOST = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?")
_AUTHORITY = re.compile(r"[^:@\s]*(:[0-9]*)?|\[[^@\]\s]*\](:[0-9]*)?")
_IPV6 = re.compile(r"[0-9a-f:.]+")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,221}")
# What a path may hold as it is; everything else is written as %XX.
_PLAIN = "/!$&'()*+,;=:@~-._%"
_DECODED_AT_MOST = 5
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Address:
    """One address, taken apart.

    Args:
        scheme: `http`, `https`, `s3`, `gs` or `az`, also where somebody wrote another
            name of that storage.
        host: Lower case; of object storage the bucket or container. Empty only in an
            entry of the allow-list that stands for every host.
        port: Of a web server; 0 of object storage.
        path: As it is fetched: of a web server with %XX and from `/` on, of object
            storage the key.
        query: What stands after `?` in a web address; may hold a secret.
    """

    scheme: str
    host: str
    port: int
    path: str
    query: str = ""

    def __str__(self) -> str:
        """The address without its query: this is what may be shown and logged."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.port and self.port != WEB_PORTS.get(self.scheme):
            host = f"{host}:{self.port}"
        separator = "/" if self.is_store else ""
        return f"{self.scheme}://{host}{separator}{self.path}"

    @property
    def is_store(self) -> bool:
        """Whether it lies in object storage."""
        return self.scheme in STORES

    @property
    def name(self) -> str:
        """The last part of its path, decoded; the host's name where there is none."""
        path = self.path if self.is_store else unquote(self.path)
        return path.rstrip("/").rsplit("/", 1)[-1] or self.host


def is_address(text: str) -> bool:
    """Whether `text` is meant as an address and not as a path."""
    return _SCHEME.match(text) is not None


def show_address(text: str) -> str:
    """Returns what may be shown of an address, whether it can be used or not.

    Neither what stands after `?` or `#`, which often holds a key, nor a name and a
    password in front of the host.
    """
    scheme, separator, rest = text.partition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    # A password may hold any of these signs: then its end is where the last @ is.
    before, _, after = rest.rpartition("@")
    is_within = "@" in authority or (before and not _AUTHORITY.fullmatch(authority))
    shown = after if is_within else rest
    return f"{scheme}{separator}{re.split('[?#]', shown, maxsplit=1)[0]}"


def parse_address(text: str, *, may_query: bool = False) -> Address:
    """Takes an address apart.

    Args:
        text: What somebody wrote.
        may_query: Whether it may have a query. One that is kept in the records may
            not: such a query often holds a key.

    Raises:
        UserError: When it is none, or can be read in two ways.
    """
    text = text.strip()
    found = _SCHEME.match(text)
    scheme = _read_scheme(found["scheme"]) if found else ""
    if scheme not in WEB_PORTS and scheme not in STORES:
        raise _odd(text, "it must begin with https://, http://, s3://, gs:// or az://")
    if len(text) > LONGEST_ADDRESS:
        raise _odd(text, f"it has more than {LONGEST_ADDRESS:,} characters")
    if not text.isprintable() or "\\" in text:
        raise _odd(text, "it holds a backslash or a character that cannot be seen")
    if scheme in STORES:
        return _parse_store(text, scheme)
    return _parse_web(text, scheme, may_query=may_query)


def parse_prefix(text: str) -> Address:
    """Takes an entry of the allow-list apart; `https://` alone means every host.

    Raises:
        UserError: When it is no address.
    """
    scheme = _read_scheme(text.strip().removesuffix("://"))
    if text.strip().endswith("://") and (scheme in WEB_PORTS or scheme in STORES):
        return Address(scheme, "", 0, "")
    return parse_address(text)


def _read_scheme(text: str) -> str:
    return _ALIASES.get(text.lower(), text.lower())


def join_address(root: Address, path: str) -> Address:
    """Returns what lies at a relative path below `root`.

    Args:
        root: A folder.
        path: Names of folders and a file as they are, without %XX. Bytes that are no
            UTF-8 may be spelled as Python does it, with halves of characters.

    Raises:
        UserError: When the path leads out of the folder or is none.
    """
    path = path.replace("\\", "/")
    while path.startswith("./"):
        path = path[2:]
    if path.startswith("/"):
        raise _odd(path, "it must be relative to the folder, without a / in front")
    below = path if root.is_store else _quote_name(path)
    whole = f"{root.path.rstrip('/')}/{below}"
    whole = whole.lstrip("/") if root.is_store else whole
    _refuse_hidden_folders(whole, path, is_encoded=not root.is_store)
    return Address(root.scheme, root.host, root.port, whole)


def _quote_name(path: str) -> str:
    try:
        return quote(path, errors="surrogateescape")
    except UnicodeEncodeError as error:
        raise _odd(path, "it holds half of a character") from error


def folder_of(address: Address) -> Address:
    """Returns the folder in which a file lies."""
    path = address.path.rpartition("/")[0]
    path = path if address.is_store else f"{path}/"
    return Address(address.scheme, address.host, address.port, path)


def is_allowed(address: Address, allowed: Sequence[Address]) -> bool:
    """Whether an entry of the allow-list covers this address."""
    return any(_covers(prefix, address) for prefix in allowed)


def require_allowed(address: Address, allowed: Sequence[Address]) -> None:
    """Raises UserError, which names the setting, unless the address is allowed."""
    if is_allowed(address, allowed):
        return
    if not allowed:
        raise UserError(
            f"This installation fetches nothing from addresses: {SETTING} is empty. An "
            f"administrator can list there what may be read. Received: {address}.",
            field="address",
        )
    shown = ", ".join(_show_prefix(prefix) for prefix in allowed[:_SHOWN])
    more = ", ..." if len(allowed) > _SHOWN else ""
    raise UserError(
        f"{address} is not among the addresses that this installation reads ({shown}"
        f"{more}); an administrator can add it to {SETTING}.",
        field="address",
    )


def _show_prefix(prefix: Address) -> str:
    return str(prefix) if prefix.host else f"{prefix.scheme}://"


def _covers(prefix: Address, address: Address) -> bool:
    if prefix.scheme != address.scheme:
        return False
    if not prefix.host:
        return True
    if (prefix.host, prefix.port) != (address.host, address.port):
        return False
    # Compared as a server reads it, so %62 is b.
    begin = prefix.path if prefix.is_store else unquote(prefix.path)
    path = address.path if address.is_store else unquote(address.path)
    folder = f"{begin.rstrip('/')}/"
    return begin in {"", "/"} or path == begin or path.startswith(folder)


def _parse_store(text: str, scheme: str) -> Address:
    bucket, _, key = text.partition("://")[2].partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise _odd(text, "what stands after :// is no name of a bucket or container")
    _refuse_hidden_folders(key, text, is_encoded=False)
    return Address(scheme, bucket, 0, key)


def _parse_web(text: str, scheme: str, *, may_query: bool) -> Address:
    try:
        parts = urlsplit(text)
        if "@" in parts.netloc:
            raise _odd(text, "name and password in it would be shown to others")
        port = parts.port
    except ValueError as error:  # its words repeat what may be secret
        raise _odd(text, "its host or port cannot be read") from error
    host = (parts.hostname or "").lower()
    if not _HOST.fullmatch(host) and not _IPV6.fullmatch(host):
        raise _odd(text, "its host is no name; write other scripts as xn--...")
    if parts.query and not may_query:
        raise _odd(
            text,
            "what stands after ? would be kept and shown to others; give an address "
            "without it",
        )
    path = quote(parts.path or "/", safe=_PLAIN)
    _refuse_hidden_folders(path, text, is_encoded=True)
    query = quote(parts.query, safe=f"{_PLAIN}?")
    return Address(scheme, host, port or WEB_PORTS[scheme], path, query)


def _refuse_hidden_folders(path: str, shown: str, *, is_encoded: bool) -> None:
    """Refuses a path that some server could read as one that leads elsewhere.

    Servers decode %XX once or twice, and some read `..;` as `..`.
    """
    slashes = path.count("/")
    for _ in range(_DECODED_AT_MOST):
        if not path.isprintable() or "\\" in path or path.count("/") != slashes:
            raise _odd(shown, "its path hides a separator or a control character")
        if any(part.split(";", 1)[0] in {".", ".."} for part in path.split("/")):
            raise _odd(shown, "its path leads out of a folder (“..”)")
        decoded = unquote(path) if is_encoded else path
        if decoded == path:
            return
        path = decoded
    raise _odd(shown, "its path is encoded over and over")


def _odd(address: str, why: str) -> UserError:
    shown = show_address(address) if "://" in address else address
    return UserError(
        f"The address cannot be used: {why}. Received: {shown[:200]!r}.",
        field="address",
    )
