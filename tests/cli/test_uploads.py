"""What the command line uploads: packed on the way, continued, together."""

import os
import secrets
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli import resumable, uploads
from cli.api_client import ApiClient
from cli.zip_folder import zip_folder
from shared import dataset_store, job_read_store
from shared.artifacts import Storage, sha256_file
from shared.database import Database
from shared.errors import UserError
from shared.settings import Settings
from tests.proxy import Proxy
from tests.web.rows import Rows, make_archive
from tests.web.served import serve
from tests.worker.ingest.test_list_folder import as_nobody
from tests.worker.ingest.uploads import names, unpack

MEBI = 2**20


@dataclass
class Site:
    """An installation with one user, and a way to it that breaks."""

    rows: Rows
    client: ApiClient
    proxy: Proxy

    def add(self, path, *, name=None, labels=None):
        source = uploads.send_one(self.client, path, labels)
        return uploads.add(self.client, [source], name=name)

    def sources(self, added):
        with self.rows.database.reading() as session:
            spec = job_read_store.get_job(session, added["job_id"]).spec
        for source in spec["sources"]:
            yield source | {"path": self.rows.storage.resolve(source["path"])}

    def members(self, added):
        (source,) = self.sources(added)
        with zipfile.ZipFile(source["path"]) as archive:
            assert archive.testzip() is None
            return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def site(tmp_path, sqlite_url):
    settings = Settings(
        data_dir=tmp_path / "data",
        database_url=sqlite_url,
        secret_key=secrets.token_hex(32),
    )
    settings.storage.mkdir(parents=True)
    database = Database(sqlite_url)
    rows = Rows(database, Storage(settings.storage))
    token = rows.token(rows.user())
    with serve(settings, tmp_path / "web.log") as (address, _):
        host, port = address.removeprefix("http://").split(":")
        proxy = Proxy((host, int(port)))
        yield Site(rows, ApiClient(f"http://127.0.0.1:{proxy.port}", token), proxy)
        proxy.close()
    database.dispose()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "birds" / "robin").mkdir(parents=True)
    (tmp_path / "birds" / "robin" / "1.jpg").write_bytes(b"a picture")
    (tmp_path / "birds" / "labels.csv").write_text("filename,label\n1.jpg,old\n")
    return tmp_path / "birds"


def test_a_folder_is_packed_while_it_is_sent(site, folder, tmp_path):
    (folder / "robin" / "1.jpg").chmod(0o600)
    os.utime(folder / "robin" / "1.jpg", (0, 0))  # earlier than a zip can say
    table = tmp_path / "mine.csv"
    table.write_text("filename,label\n1.jpg,new\n")

    plain = site.add(folder)
    labelled = site.add(folder, name="b", labels=table)

    assert (plain["name"], labelled["name"]) == ("birds", "b")
    assert set(site.members(plain)) == {"robin/1.jpg", "labels.csv"}
    # A table that is named is the only one.
    assert site.members(labelled) == {
        "robin/1.jpg": b"a picture",
        "labels.csv": table.read_bytes(),
    }


def test_names_in_an_old_encoding_are_sent_as_they_are(site, folder, tmp_path):
    (folder / "robin" / os.fsdecode(b"gr\xfcn.jpg")).write_bytes(b"green")
    archive = tmp_path / os.fsdecode(b"gr\xfcn.zip")
    archive.write_bytes(make_archive())

    packed, whole = site.add(folder), site.add(archive)

    members = {
        name.encode("cp437"): data for name, data in site.members(packed).items()
    }
    assert members[b"robin/gr\xfcn.jpg"] == b"green"
    (source,) = site.sources(whole)
    assert source["path"].read_bytes() == make_archive()


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "gbk"])
def test_the_server_reads_a_packed_name_whatever_its_encoding(tmp_path, encoding):
    folder = {"utf-8": "猫", "latin-1": "Bäume", "gbk": "猫咪"}[encoding]
    path = tmp_path / "picture"
    path.write_bytes(b"a picture")
    inside = [os.fsdecode(f"{folder}/{at}.png".encode(encoding)) for at in range(2)]
    archive = tmp_path / "packed.zip"

    blocks = zip_folder([(name, path) for name in inside], lambda _: None)
    archive.write_bytes(b"".join(blocks))

    found, skips = unpack(archive, tmp_path)
    assert names(found) == [f"{folder}/0.png", f"{folder}/1.png"]
    assert skips.total == 0


def test_a_connection_that_breaks_costs_little(site, tmp_path, monkeypatch):
    monkeypatch.setattr(resumable, "LARGEST_BYTES", MEBI)
    archive = tmp_path / "cells.zip"
    archive.write_bytes(os.urandom(5 * MEBI))
    site.proxy.lose_answer_to(
        b"PATCH", then=lambda: site.proxy.lose_answer_to(b"POST /api/v1/datasets")
    )

    added = site.add(archive)

    assert site.proxy.lost == 2
    (source,) = site.sources(added)
    assert sha256_file(source["path"]) == source["sha256"] == sha256_file(archive)
    assert added["created"] is False, "the answer that was lost had made it"
    with site.rows.database.reading() as session:
        assert dataset_store.list_datasets(session).total == 1


def test_a_command_that_is_given_again_goes_on_and_may_take_more(
    site, tmp_path, monkeypatch
):
    monkeypatch.setattr(resumable, "LARGEST_BYTES", MEBI)
    archive, other = tmp_path / "cells.zip", tmp_path / "more.zip"
    archive.write_bytes(os.urandom(3 * MEBI))
    other.write_bytes(make_archive())
    table = tmp_path / "labels.csv"
    table.write_text("filename,label\n1.jpg,new\n")
    with monkeypatch.context() as interrupted:
        interrupted.setattr("cli.uploads.transfer_progress", _Interrupting)
        with pytest.raises(KeyboardInterrupt):
            uploads.send_one(site.client, archive, None)
    (begun,) = site.client.get("/uploads")["items"]

    sent = uploads.send_together(site.client, [archive, other, table], None)
    added = uploads.add(site.client, sent, name="all")

    assert begun["offset"] == MEBI
    assert added["name"] == "all"
    sources = list(site.sources(added))
    assert [source["type"] for source in sources] == ["archive", "archive", "csv"]
    assert sources[0]["path"].parent.name == begun["id"]
    assert [source["path"].read_bytes() for source in sources] == [
        path.read_bytes() for path in (archive, other, table)
    ]


def test_a_table_alone_says_where_its_pictures_lie(site, tmp_path):
    table, archive = tmp_path / "list.csv", tmp_path / "cells.zip"
    table.write_text("filename,label\nhttps://data.example.org/1.png,red\n")
    archive.write_bytes(make_archive())

    alone = site.add(table)
    sent = uploads.send_together(site.client, [archive, table], None, "s3://pictures")

    assert [source["type"] for source in site.sources(alone)] == ["csv"]
    assert [source.get("root") for source in sent] == [None, "s3://pictures"]


class _Interrupting:
    """A progress bar at whose first step somebody presses Ctrl-C."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def add_task(self, *_, **__):
        return 0

    def update(self, *_, **__):
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("path", "labels", "sentence"),
    [
        ("missing", None, "There is nothing at"),
        ("birds/robin/1.jpg", None, "nor a table of labels"),
        ("birds", "missing.csv", "there is no file"),
        ("empty", None, "holds no files"),
    ],
)
def test_what_cannot_be_packed_is_said(folder, tmp_path, path, labels, sentence):
    (tmp_path / "empty").mkdir()
    table = tmp_path / labels if labels else None
    nowhere = ApiClient("http://127.0.0.1:9", "no token")

    with pytest.raises(UserError, match=sentence):
        uploads.send_one(nowhere, tmp_path / path, table)


@pytest.mark.parametrize(
    ("closed", "added"),
    [
        ("birds/robin/1.jpg", ["birds"]),
        ("birds/robin", ["birds"]),
        ("more.zip", ["birds", "more.zip"]),
    ],
)
def test_what_may_not_be_read_is_named_before_anything_is_sent(closed, added):
    nowhere = ApiClient("http://127.0.0.1:9", "no token")
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        top.chmod(0o755)  # unlike the folders of pytest
        (top / "birds" / "robin").mkdir(parents=True)
        (top / "birds" / "robin" / "1.jpg").write_bytes(b"a picture")
        (top / "more.zip").write_bytes(make_archive())
        (top / closed).chmod(0)

        with (
            as_nobody(),
            pytest.raises(UserError, match=f"/{closed} cannot be read: Permission"),
        ):
            uploads.send_together(nowhere, [top / one for one in added], None)


def test_a_file_on_a_bad_sector_is_named():
    blocks = zip_folder([("1.jpg", Path("/proc/self/mem"))], lambda _: None)

    with pytest.raises(UserError, match="/proc/self/mem cannot be read: Input/output"):
        list(blocks)
