"""The allow-list of addresses cannot be fooled, and nothing else reads an address."""

from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import UserError
from shared.source_addresses import (
    folder_of,
    is_allowed,
    join_address,
    parse_address,
    parse_prefix,
    require_allowed,
    show_address,
)

ALLOWED = [
    parse_prefix(entry)
    for entry in (
        "https://data.example.org/sets/",
        "https://files.example.org",
        "http://10.0.0.7:9000/a",
        "s3://bucket/pre",
        "gs://",
        "az://container",
    )
]


def covers(text):
    return is_allowed(parse_address(text, may_query=True), ALLOWED)


@pytest.mark.parametrize(
    "address",
    [
        "https://data.example.org/sets/a.zip",
        "HTTPS://DATA.Example.ORG:443/sets/a.zip",
        "https://data.example.org/s%65ts/a%20b.zip",
        "https://data.example.org/sets/a.zip?x=/../..",
        "https://files.example.org/anything/at/all.csv",
        "https://files.example.org",
        "http://10.0.0.7:9000/a",
        "http://10.0.0.7:9000/a/b",
        "s3://bucket/pre",
        "s3://bucket/pre/a%2e%2e/b.zip",
        "gs://any-bucket/any",
        "GCS://any-bucket/any",
        "s3a://bucket/pre/a",
        "abfs://container/a",
    ],
)
def test_what_lies_below_an_entry_is_allowed(address):
    assert covers(address)


@pytest.mark.parametrize(
    "address",
    [
        "http://data.example.org/sets/a.zip",
        "https://data.example.org/setsx/a.zip",
        "https://data.example.org/other/a.zip",
        "https://data.example.org/Sets/a.zip",
        "https://data.example.org/",
        "https://data.example.org:8443/sets/a.zip",
        "https://data.example.org.evil.com/sets/a.zip",
        "https://evil.com/data.example.org/sets/a.zip",
        "https://evil.com/https://data.example.org/sets/",
        "https://evil.com?https://data.example.org/sets/",
        "https://xdata.example.org/sets/a.zip",
        "https://data-example.org/sets/a.zip",
        "https://data.example.org//sets/a.zip",
        "http://10.0.0.7/a",
        "http://10.0.0.7:9000/ab",
        "http://167772167:9000/a",
        "http://[::ffff:10.0.0.7]:9000/a",
        "s3://bucket/prefix/a",
        "s3://bucket2/pre/a",
        "s3://Bucket/pre/a",
        "az://bucket/pre/a",
    ],
)
def test_what_only_looks_like_it_is_not_allowed(address):
    assert not covers(address)
    with pytest.raises(UserError, match="TRAINYARD_SOURCE_ADDRESSES"):
        require_allowed(parse_address(address, may_query=True), ALLOWED)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "a.zip",
        "/etc/passwd",
        "file:///etc/passwd",
        "ftp://data.example.org/sets/a",
        "https:/data.example.org/sets/a",
        "https://",
        "https:///sets/a.zip",
        "https://user@data.example.org/sets/a",
        "https://user:word@data.example.org/sets/a",
        "https://data.example.org@evil.com/sets/a",
        "https://data.example.org\\@evil.com/sets/a",
        "https://evil.com\\.data.example.org/sets/a",
        "https://data.example.org\t.evil.com/sets/a",
        "https://data.example.org\n/sets/a",
        "https://data.example.org:port/sets/a",
        "https://data.example.org:99999/sets/a",
        "https://data.example.org./sets/a",
        "https://dätä.example.org/sets/a",
        "https://data。example.org/sets/a",
        "https://[fe80::1%25eth0]/sets/a",
        "https://data.example.org/sets/../a",
        "https://data.example.org/sets/..",
        "https://data.example.org/sets/./a",
        "https://data.example.org/sets/%2e%2e/a",
        "https://data.example.org/sets/.%2E/a",
        "https://data.example.org/sets/%252e%252e/a",
        "https://data.example.org/sets/%25252e%25252e/a",
        "https://data.example.org/sets/..%2fa",
        "https://data.example.org/sets/..%5ca",
        "https://data.example.org/sets/..;/a",
        "https://data.example.org/sets/..;x=1/a",
        "https://data.example.org/sets/a%00.zip",
        "https://data.example.org/sets/a%0d%0aHost:%20evil",
        "https://data.example.org/sets/" + "a" * 2_000,
        "s3://",
        "s3:///pre/a",
        "s3://bucket:80/pre/a",
        "s3://user@bucket/pre/a",
        "s3://bucket/pre/../other",
        "s3://bucket/../x",
        "s3://pict\\ures/pre/a",
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(address):
    with pytest.raises(UserError, match="The address cannot be used"):
        parse_address(address, may_query=True)


@pytest.mark.parametrize(
    ("other", "usual"), [("s3a", "s3"), ("gcs", "gs"), ("abfs", "az")]
)
def test_two_names_of_a_storage_are_one(other, usual):
    assert str(parse_address(f"{other}://bucket/a")) == f"{usual}://bucket/a"
    for entry in (f"{other}://", f"{other}://bucket"):
        assert is_allowed(parse_address(f"{usual}://bucket/a"), [parse_prefix(entry)])


def test_a_query_that_would_be_kept_is_refused_and_not_repeated():
    address = "https://data.example.org/sets/a.zip?X-Amz-Signature=hidden"

    with pytest.raises(UserError, match="shown to others") as caught:
        parse_address(address)

    assert "hidden" not in str(caught.value)
    assert "hidden" not in str(parse_address(address, may_query=True))


@given(st.text(max_size=60))
def test_no_address_written_after_a_host_leaves_the_host(text):
    try:
        address = parse_address(f"https://data.example.org{text}", may_query=True)
    except UserError:
        return

    whole = urlsplit(str(address))
    assert address.host == whole.hostname
    again = parse_address(str(address))
    assert again == parse_address(str(again))
    if is_allowed(address, ALLOWED):
        assert address.host == "data.example.org"
        assert unquote(address.path).startswith("/sets/")


PARTS = ["..", ".", "a", "%2e%2e", "%2f", "\\", ";", "é", ""]


@given(st.lists(st.sampled_from(PARTS)))
def test_no_relative_path_leads_out_of_its_root(parts):
    for root in ("https://data.example.org/sets/list.csv", "s3://bucket/pre/list.csv"):
        try:
            joined = join_address(folder_of(parse_address(root)), "/".join(parts))
        except UserError:
            continue
        assert is_allowed(joined, ALLOWED)
        path = joined.path if joined.is_store else unquote(joined.path)
        assert ".." not in path.split("/")


def test_a_relative_path_is_a_name_as_it_is():
    root = folder_of(parse_address("https://data.example.org/sets/list.csv"))

    joined = join_address(root, "a b/#1?é%.png")

    assert joined.path == "/sets/a%20b/%231%3F%C3%A9%25.png"
    assert joined.name == "#1?é%.png"
    store = folder_of(parse_address("s3://bucket/list.csv"))
    assert str(join_address(store, "x/#1?.png")) == "s3://bucket/x/#1?.png"


def test_a_name_of_bytes_that_are_no_utf8_is_asked_for_by_them():
    root = parse_address("https://h/sets/")
    store = parse_address("s3://bucket/sets")
    named = "pr\udce9.png"  # as Python lists the byte E9

    assert join_address(root, named).path == "/sets/pr%E9.png"
    for folder, name in ((root, "\ud83d.png"), (store, named)):
        with pytest.raises(UserError, match="cannot be used") as caught:
            join_address(folder, name)
        assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "address",
    [
        "https://user:PASS@h/a.png",
        "https://user:PASS@h:port/a.png",
        "https://user:PASS@[h/a.png",
        "https://PASS\u2100@h/a.png",
        "https://h/a.png?sig=PASS\u200b",
        "https://h:port/a.png?sig=PASS",
        "https://h!/a.png?sig=PASS",
        "https://h/../a.png?sig=PASS",
        "https://h/a.png#PASS\u200b",
        "ftp://user:PASS@h/a.png?token=PASS",
        "https://user:PASS/PASS@h/a.png",
        "https://user:PASS?PASS@h/a.png",
        "https://user:PASS#PASS@PASS@h/a.png",
        "s3://user:PASS@h/a.png?token=PASS",
        "s3://h?token=PASS",
        "https://h/" + "a" * 2_000 + "?sig=PASS",
    ],
)
@pytest.mark.parametrize("may_query", [True, False])
def test_what_may_be_secret_in_an_address_is_not_repeated(address, may_query):
    with pytest.raises(UserError) as refused:
        parse_address(address, may_query=may_query)

    assert "PASS" not in str(refused.value)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://h:8443/img/a@2x.png", "https://h:8443/img/a@2x.png"),
        ("https://[::1]:80/a@2x.png?x=1", "https://[::1]:80/a@2x.png"),
        ("s3://bucket/a@2x.png", "s3://bucket/a@2x.png"),
        ("https://me@h/a@2x.png", "https://2x.png"),  # which @ is meant, nobody knows
    ],
)
def test_what_is_no_secret_in_an_address_is_shown(address, shown):
    assert show_address(address) == shown
