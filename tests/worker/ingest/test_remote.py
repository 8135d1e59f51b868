"""Fetching from real web servers that break, lie, lead astray and hang."""

import hashlib
import json
import os
import socket

import pytest

from shared.errors import OutageError, UserError
from shared.source_addresses import parse_address
from tests.worker.ingest.test_collect import fill, labels, source
from tests.worker.ingest.uploads import class_folders, png, write_zip
from worker.ingest.collect import collect
from worker.ingest.found import SkipList
from worker.ingest.limits import Basket, Limits
from worker.ingest.remote.courier import Courier, Means
from worker.ingest.remote.kept_files import KeptFiles
from worker.ingest.remote.rules import parse_rules
from worker.ingest.request import load_request

HERE = ["127.0.0.0/8", "::1/128"]
QUICK = {"tries": 3, "backoff_seconds": 0.01, "stall_seconds": 0.6, "parallel": 2}
BODY = os.urandom(300_000)


def make_courier(tmp_path, server, limits=None, tell=None, kept=None, **rules):
    rules = {"allowed": [f"{server.url}/"], "networks": HERE, **QUICK, **rules}
    limits = Limits(**(limits or {}))
    return Courier(
        parse_rules(rules),
        Means(kept or KeptFiles(tmp_path), tell=tell or (lambda *_: None)),
        limits=limits,
        basket=Basket(tmp_path / "basket", limits),
    )


def fetch(tmp_path, server, path="/a.zip", **rules):
    courier = make_courier(tmp_path, server, **rules)
    return courier.fetch_whole(parse_address(f"{server.url}{path}")).read_bytes()


def run(tmp_path, server, *sources, **rules):
    spec = {
        "sources": list(sources),
        "addresses": {
            "allowed": [f"{server.url}/"], "networks": HERE, **QUICK, **rules
        },
    }  # fmt: skip
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(spec))
    skips = SkipList()
    request = load_request(path)
    collected = collect(request, tmp_path / "work", skips, lambda *_: None)
    return collected, {skip.file: skip.reason for skip in skips.items}


def address(server, path, **fields):
    return {"type": "address", "address": f"{server.url}{path}", **fields}


def test_a_file_is_fetched_whole_and_its_hash_is_told(tmp_path, serve):
    server = serve({"/a.zip": BODY})
    courier = make_courier(tmp_path, server)

    path = courier.fetch_whole(parse_address(f"{server.url}/a.zip"))

    assert path.read_bytes() == BODY
    assert hashlib.sha256(BODY).hexdigest() in courier.notes[0]
    assert "293.0 KiB" in courier.notes[0]


@pytest.mark.parametrize(
    "faults", [[500], [503, 429], ["cut", 502], ["mute"], ["slow"]]
)
def test_a_server_that_fails_for_a_while_is_asked_again(tmp_path, serve, faults):
    server = serve({"/a.zip": BODY})
    server.faults["/a.zip"] = list(faults)

    assert fetch(tmp_path, server) == BODY


def test_a_broken_transfer_goes_on_where_it_broke(tmp_path, serve):
    server = serve({"/a.zip": BODY})
    server.faults["/a.zip"] = ["cut"] * 6  # more than tries, but each got further

    assert fetch(tmp_path, server) == BODY

    begins = [headers.get("range") for headers in server.asked("/a.zip")]
    assert begins[:3] == [None, "bytes=150000-", "bytes=225000-"]


def test_a_file_that_changed_meanwhile_is_fetched_from_the_front(tmp_path, serve):
    server = serve({"/a.zip": BODY})
    server.faults["/a.zip"] = ["cut"]
    other = os.urandom(1000)
    answer = server.answer

    def change(handler, fault, **options):
        if fault is None:
            server.files["/a.zip"], server.tag = other, '"two"'
        answer(handler, fault, **options)

    server.answer = change

    assert fetch(tmp_path, server) == other


def test_a_server_without_ranges_is_asked_for_all_of_it(tmp_path, serve):
    server = serve({"/a.zip": BODY}, ranges=False)
    server.faults["/a.zip"] = ["cut"]

    assert fetch(tmp_path, server) == BODY
    assert all("Range" not in headers for headers in server.asked("/a.zip"))


@pytest.mark.parametrize(
    ("fault", "words", "error"),
    [
        (404, "answers 404 (Not Found)", UserError),
        (403, "answers 403 (Forbidden)", UserError),
        (500, "answers 500 (Internal Server Error)", OutageError),
        ("long", "ended the transfer early", OutageError),
        ("mute", "does not answer in time", OutageError),
        ("slow", "does not answer in time", OutageError),
    ],
)
def test_what_a_server_does_is_said_in_a_sentence(tmp_path, serve, fault, words, error):
    server = serve({"/a.zip": BODY}, ranges=False)
    server.faults["/a.zip"] = [fault] * 9

    with pytest.raises(error) as caught:
        fetch(tmp_path, server)

    assert f"{server.url}/a.zip could not be fetched. Its server" in str(caught.value)
    assert words in str(caught.value)
    assert not [path for path in tmp_path.rglob("0*") if path.is_file()]


def test_a_server_that_is_not_there_may_come_back(tmp_path, serve):
    server = serve({})
    server.close()

    with pytest.raises(OutageError, match="cannot be reached"):
        fetch(tmp_path, server)


def test_nothing_is_fetched_while_no_address_is_allowed(tmp_path, serve):
    server = serve({"/a.zip": BODY})

    with pytest.raises(UserError, match="TRAINYARD_SOURCE_ADDRESSES is empty"):
        fetch(tmp_path, server, allowed=[])
    with pytest.raises(UserError, match="TRAINYARD_SOURCE_NETWORKS does not allow it"):
        fetch(tmp_path, server, networks=[])
    assert server.got == []


@pytest.mark.parametrize(
    "host", ["localhost", "2130706433", "0x7f.1", "[::ffff:7f00:1]"]
)
def test_a_name_of_a_private_address_is_refused_whatever_it_looks_like(
    tmp_path, serve, host
):
    server = serve({"/a.zip": BODY})
    whole = f"http://{host}:{server.port}/a.zip"
    courier = make_courier(tmp_path, server, allowed=["http://"], networks=[])

    with pytest.raises(UserError, match="not at a public address"):
        courier.fetch_whole(parse_address(whole))
    assert server.got == []


def test_redirects_are_followed_to_what_is_allowed_alone(tmp_path, serve):
    inner, server = serve({"/secret": BODY}), serve({"/a.zip": BODY, "/b.zip": b"b"})
    server.faults["/a.zip"] = [f"{server.url}/b.zip?signature=hidden"]
    assert fetch(tmp_path, server) == b"b"

    server.faults["/a.zip"] = [f"{inner.url}/secret"]
    with pytest.raises(UserError, match=r"redirects elsewhere.* TRAINYARD_SOURCE_ADD"):
        fetch(tmp_path, server)
    assert inner.got == []

    server.faults["/a.zip"] = [f"http://127.0.0.2:{inner.port}/secret"]
    with pytest.raises(UserError, match="not at a public address"):
        fetch(tmp_path, server, allowed=["http://"], networks=["127.0.0.1/32"])

    server.faults["/a.zip"] = [f"{server.url}/a.zip"] * 9
    with pytest.raises(UserError, match="redirects more than 5 times"):
        fetch(tmp_path, server)


def test_the_address_that_was_looked_at_is_the_one_connected_to(
    tmp_path, serve, monkeypatch
):
    server = serve({"/a.zip": BODY})
    answers = iter(["127.0.0.1", "127.0.0.9"])  # what the name means, time after time
    real = socket.getaddrinfo

    def rebind(host, port, *args, **kw):
        return real(next(answers) if host == "data.example.org" else host, port, **kw)

    monkeypatch.setattr("socket.getaddrinfo", rebind)
    courier = make_courier(
        tmp_path, server, allowed=[f"http://data.example.org:{server.port}/"],
        networks=["127.0.0.1/32"], tries=1,
    )  # fmt: skip
    whole = parse_address(f"http://data.example.org:{server.port}/a.zip")

    assert courier.fetch_whole(whole).read_bytes() == BODY
    assert next(answers) == "127.0.0.9"  # asked once


def test_an_archive_at_an_address_is_unpacked(tmp_path, serve):
    path = write_zip(tmp_path / "pets.zip", class_folders(each=2))
    server = serve({"/sets/pets.zip": path.read_bytes()})

    collected, skips = run(tmp_path, server, address(server, "/sets/pets.zip"))

    assert len(collected.files) == 4
    assert skips == {}


def test_the_files_of_a_table_are_fetched_and_what_fails_is_left_out(tmp_path, serve):
    table = (
        "filename,label\nimg/1 é.png,cat\nimg/2.png,dog\nimg/3.png,dog\n"
        "../secret.png,dog\n{url}/other/4.png?key=hidden,cat\nhttps://evil/5.png,cat\n"
        "img/2.png,cat\nhttps://me:hidden@evil/6.png,cat\n"
    )
    server = serve({"/sets/img/1%20%C3%A9.png": png(1), "/sets/img/2.png": png(2)})
    server.files["/sets/list.csv"] = table.replace("{url}", server.url).encode()
    server.files["/other/4.png"] = png(4)

    collected, skips = run(tmp_path, server, address(server, "/sets/list.csv"))

    assert labels(collected) == {
        "img/1 é.png": ("cat", None),
        f"{server.url}/other/4.png": ("cat", None),
        "img/2.png": ("cat", None),
    }
    assert [entry.also for entry in collected.files] == [(), (), ("dog",)]
    assert "answers 404" in skips["list.csv, line 4"]
    assert "leads out of a folder" in skips["list.csv, line 5"]
    assert "not among the addresses" in skips["list.csv, line 7"]
    assert "name and password" in skips["list.csv, line 9"]
    assert "Fetched 3 of 7 files." in collected.notes
    assert "hidden" not in repr(collected) + repr(skips)
    assert "/other/4.png?key=hidden" in [path for path, _ in server.got]


def test_a_table_on_the_server_may_have_its_pictures_at_an_address(tmp_path, serve):
    server = serve({"/img/a.png": png(1), "/img/b.png": png(2)})
    lines = '{"file": "a.png", "label": "cat"}\n{"file": "b.png", "label": "dog"}\n'
    folder = fill(tmp_path / "tables", {"list.jsonl": lines, "stray.png": png(9)})
    entry = source(folder / "list.jsonl", root=f"{server.url}/img") | {"type": "csv"}

    collected, skips = run(tmp_path, server, entry)

    assert labels(collected) == {"a.png": ("cat", None), "b.png": ("dog", None)}
    assert skips == {}


def test_a_table_of_addresses_alone_makes_a_dataset(tmp_path, serve):
    server = serve({"/a.png": png(1), "/b.png": png(2)})
    lines = f"url,label\n{server.url}/a.png,cat\n{server.url}/b.png,dog\n"
    # As uploads lie: with what the server keeps of them.
    upload = fill(tmp_path / "uploads", {"l.csv": lines, "info.json": "{}", "lock": ""})

    collected, skips = run(tmp_path, server, source(upload / "l.csv"))

    assert sorted(label for label, _ in labels(collected).values()) == ["cat", "dog"]
    assert skips == {}


def test_a_table_may_lie_elsewhere_than_its_pictures(tmp_path, serve):
    pictures = fill(tmp_path / "pictures", {"a.png": png(1), "x/b.png": png(2)})
    whole = pictures / "x" / "b.png"
    lines = f"file,label\na.png,cat\n{whole},dog\n"
    table = fill(tmp_path / "tables", {"l.csv": lines})
    entry = source(table / "l.csv", root=str(pictures))

    collected, skips = run(tmp_path, serve({}), entry)

    assert labels(collected) == {"a.png": ("cat", None), "x/b.png": ("dog", None)}
    assert skips == {}


def test_a_table_in_an_archive_may_name_addresses(tmp_path, serve):
    server = serve({"/b.png": png(2)})
    table = f"file,label\na.png,cat\n{server.url}/b.png,dog\n"
    path = write_zip(tmp_path / "pets.zip", {"a.png": png(1), "labels.csv": table})

    collected, skips = run(tmp_path, server, source(path))

    assert sorted(label for label, _ in labels(collected).values()) == ["cat", "dog"]
    assert skips == {}


def list_pictures(server, places):
    """Has a server give a table of pictures at these places."""
    lines = "".join(f"{place}.png,{'cat' if at % 2 else 'dog'}\n"
                    for at, place in enumerate(places))  # fmt: skip
    server.files["/l.csv"] = f"file,label\n{lines}".encode()
    return address(server, "/l.csv")


def fail_all(server, numbers):
    server.faults |= {f"/{at}.png": [503] * 9 for at in numbers}


@pytest.mark.parametrize("rows", [30, 3])
def test_a_server_that_is_down_ends_the_attempt_and_not_the_dataset(
    tmp_path, serve, rows
):
    server = serve({})
    fail_all(server, range(rows))

    with pytest.raises(OutageError, match=r"0\.png could not be .*answers 503"):
        run(tmp_path, server, list_pictures(server, range(rows)), outage=6)

    assert len(server.got) < 20 * 3


def test_a_server_that_falls_silent_ends_the_attempt(tmp_path, serve):
    server = serve({f"/{at}.png": png(at) for at in range(40)})
    fail_all(server, range(10, 40))

    with pytest.raises(OutageError, match="answers 503"):
        run(tmp_path, server, list_pictures(server, range(40)), outage=6)


def test_a_dead_server_among_living_ones_costs_its_own_files(tmp_path, serve):
    dead, server = serve({}), serve({f"/{at}.png": png(at) for at in range(5)})
    fail_all(dead, range(40))
    places = [*(f"{dead.url}/{at}" for at in range(40)), *range(5)]
    allowed = [f"{server.url}/", f"{dead.url}/"]

    collected, skips = run(
        tmp_path, server, list_pictures(server, places), allowed=allowed, outage=6
    )

    assert len(collected.files) == 5
    assert len(skips) == 40
    assert all("Its server answers 503" in reason for reason in skips.values())
    assert len({path for path, _ in dead.got}) < 20, "it is not asked for ever"


def test_a_name_that_nobody_has_costs_its_own_files(tmp_path, serve, monkeypatch):
    server = serve({f"/{at}.png": png(at) for at in range(2)})
    asked, real = [], socket.getaddrinfo

    def look_up(host, *args, **kw):
        if host == "gone.example.org":
            asked.append(host)
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, *args, **kw)

    monkeypatch.setattr("socket.getaddrinfo", look_up)
    places = [*(f"http://gone.example.org/{at}" for at in range(4)), 0, 1]
    allowed = [f"{server.url}/", "http://gone.example.org/"]

    collected, skips = run(
        tmp_path, server, list_pictures(server, places), allowed=allowed
    )

    assert len(collected.files) == 2
    assert all("no server of this name" in reason for reason in skips.values())
    assert len(asked) == len(skips) == 4, "asking again would not help"


def test_a_web_folder_is_refused_with_what_would_do(tmp_path, serve):
    server = serve({})

    with pytest.raises(UserError, match="Name a label table that lists its files"):
        run(tmp_path, server, address(server, "/pictures/"))


def test_the_column_of_groups_is_that_of_tables_from_addresses_too(tmp_path, serve):
    table = b"filename,label,patient\na.png,cat,p1\nb.png,dog,p2\n"
    files = {"/set/a.png": png(1), "/set/b.png": png(2), "/set/list.csv": table}
    server = serve(files)
    spec = {
        "sources": [address(server, "/set/list.csv")],
        "addresses": {"allowed": [f"{server.url}/"], "networks": HERE, **QUICK},
        "split": {"by": "column", "column": "Patient"},
    }
    (tmp_path / "spec.json").write_text(json.dumps(spec))

    collected = collect(
        load_request(tmp_path / "spec.json"),
        tmp_path / "work",
        SkipList(),
        lambda *_: None,
    )

    assert sorted(entry.group for entry in collected.files) == ["p1", "p2"]
    # By its digest a later attempt knows what was proved.
    assert {entry.file.sha256 for entry in collected.files} == {
        hashlib.sha256(png(number)).digest() for number in (1, 2)
    }
