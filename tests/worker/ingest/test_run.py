"""The ingest child as a real process: what it makes, and how it ends."""

import contextlib
import hashlib
import io
import json
import os
import random
import signal
import subprocess
import sys

import psutil
import pytest
from PIL import Image

from shared.artifacts import verify_manifest
from tests.worker.ingest.ingest_process import Ingest, IngestHere, run, run_apart
from tests.worker.ingest.uploads import (
    class_folders,
    encode,
    huge_png_header,
    pixels,
    png,
    write_tar,
    write_zip,
)
from tests.worker.processes import ROOT, wait_until
from worker.ingest.content import fingerprint_rows

GOOD = class_folders(each=20)
ROTATED = Image.Exif()
ROTATED[0x0112] = 6
ODD = {
    "cat/turned.jpg": encode(pixels(901), "JPEG", exif=ROTATED),
    "cat/print.jpg": encode(Image.fromarray(pixels(902)).convert("CMYK"), "JPEG"),
    "cat/phone.webp": encode(pixels(903), "WEBP"),
    "dog/scan.tif": encode(pixels(904), "TIFF"),
    "dog/clear.png": encode(Image.new("RGBA", (9, 9), (1, 2, 3, 4))),
}
BAD = {
    "cat/empty.jpg": b"",
    "cat/page.jpg": b"<html>404</html>",
    "cat/half.jpg": encode(pixels(905, 64, 64), "JPEG")[:2000],
    "dog/bomb.png": huge_png_header(90_000, 90_000),
    "dog/.DS_Store": b"x",
    "notes.txt": b"hello",
}
COPIES = {
    "dog/copy of 0.png": GOOD["dog/0.png"],
    "cat/1 as it was drawn.bmp": encode(
        Image.open(io.BytesIO(GOOD["cat/1.png"])).convert("RGB"), "BMP"
    ),
}
CONFLICT = {"cat/both.png": png(777), "dog/both too.png": png(777)}


@pytest.fixture(scope="module")
def messy(tmp_path_factory):
    """The version that one messy upload became."""
    folder = tmp_path_factory.mktemp("messy")
    upload = {**GOOD, **ODD, **BAD, **COPIES, **CONFLICT}
    return run_apart(folder, write_zip(folder / "pets.zip", upload))


@pytest.mark.xdist_group("messy upload")  # it is made once
class TestVersion:
    """What lies in `final/` when all is done."""

    def test_every_good_picture_is_in_the_manifest_and_no_other(self, messy):
        assert set(messy.rows()) == set(GOOD) | set(ODD)

    def test_every_original_is_kept_to_the_byte(self, messy):
        for name, row in messy.rows().items():
            kept = (messy.final / row["original"]).read_bytes()
            assert kept == (GOOD | ODD)[name]
            assert hashlib.sha256(kept).hexdigest() == row["sha256"]

    def test_training_reads_only_jpeg_and_png(self, messy):
        for name, row in messy.rows().items():
            with Image.open(messy.final / row["path"]) as image:
                assert image.format in {"JPEG", "PNG"}
                assert image.mode in {"RGB", "L"}
                assert image.getexif().get(0x0112, 1) == 1
                assert image.size == (row["width_px"], row["height_px"])
            assert (row["path"] == row["original"]) == (name in GOOD)

    def test_every_bad_file_is_named_with_its_reason(self, messy):
        report = messy.report()

        reasons = {skip["file"]: skip["reason"] for skip in report["skipped"]}
        assert set(reasons) == set(BAD) | set(COPIES) | set(CONFLICT)
        assert "empty" in reasons["cat/empty.jpg"]
        assert "HTML" in reasons["cat/page.jpg"]
        assert "cut off" in reasons["cat/half.jpg"]
        assert "90,000 x 90,000" in reasons["dog/bomb.png"]
        assert "“dog/0.png”, which is used" in reasons["dog/copy of 0.png"]
        assert "the same as “cat/1.png”" in reasons["cat/1 as it was drawn.bmp"]
        assert "“dog/both too.png”, which is “dog”" in reasons["cat/both.png"]
        assert report["skipped_total"] == len(reasons)

    def test_what_was_done_to_a_picture_is_told(self, messy):
        changes = {one["file"]: one["change"] for one in messy.report()["changed"]}

        assert set(changes) == set(ODD)
        assert "turned upright" in changes["cat/turned.jpg"]
        assert "CMYK" in changes["cat/print.jpg"]
        assert "rewritten as PNG" in changes["cat/phone.webp"]
        assert "laid on white" in changes["dog/clear.png"]

    def test_copies_are_merged_and_conflicts_set_aside(self, messy):
        report = messy.report()

        assert report["duplicates"] == len(COPIES)
        files = ["cat/both.png", "dog/both too.png"]
        assert report["conflicts"] == [
            {"files": files, "files_total": 2, "labels": ["cat", "dog"]}
        ]
        assert report["conflicts_total"] == 1

    def test_counts_are_those_of_the_manifest(self, messy):
        report, rows = messy.report(), messy.rows().values()

        assert report["classes"] == ["cat", "dog"]
        assert report["images"] == len(rows)
        for split, classes in report["counts"].items():
            for label, count in classes.items():
                found = [r for r in rows if (r["split"], r["label"]) == (split, label)]
                assert len(found) == count > 0

    def test_the_fingerprint_is_that_of_the_manifest(self, messy):
        rows = [(r["sha256"], r["label"], r["split"]) for r in messy.rows().values()]

        assert messy.report()["fingerprint"] == fingerprint_rows(rows)

    def test_samples_are_small_jpegs_of_every_class(self, messy):
        samples = messy.report()["samples"]

        assert {sample["label"] for sample in samples} == {"cat", "dog"}
        for sample in samples:
            with Image.open(messy.final / sample["path"]) as image:
                assert image.format == "JPEG"

    def test_the_folder_verifies_by_what_was_reported(self, messy):
        facts = verify_manifest(messy.final, messy.last["manifest_sha"])

        assert set(facts["files"]) == {
            "manifest.parquet", "quarantine.parquet", "contents.parquet", "report.json",
        }  # fmt: skip

    def test_nothing_else_is_left(self, messy):
        assert messy.leftovers() == []

    def test_its_events_tell_the_phases_and_the_result(self, messy):
        phases = [e["phase"] for e in messy.events if e["event"] == "phase"]
        told = [e for e in messy.events if e["event"] == "progress"]
        ends = {e["phase"]: (e["done"], e["total"]) for e in told}
        steps = [(e["phase"], e["step"]) for e in told]

        assert len(set(steps)) == len(steps)  # as what is put off is told of
        assert phases == ["unpack", "verify", "split", "write"]
        assert ends["verify"] == (len(GOOD) + len(ODD) + 3 + 1 + 2 + 2,) * 2
        assert ends["write"] == (len(GOOD) + len(ODD) + 1,) * 2  # one in quarantine
        assert messy.last["event"] == "finished"
        # Nothing that grows with the dataset: a line over 1 MiB is no event.
        assert messy.last["summary"] == {"images": len(GOOD) + len(ODD)}


def test_neither_names_nor_order_nor_packing_change_the_version(tmp_path):
    shuffled = [(name.replace("/", "/new "), data) for name, data in GOOD.items()]
    random.Random(0).shuffle(shuffled)
    unpacked = tmp_path / "pets"
    for name, data in GOOD.items():
        (unpacked / name).parent.mkdir(parents=True, exist_ok=True)
        (unpacked / name).write_bytes(data)

    versions = [
        run(tmp_path / "a", write_zip(tmp_path / "pets.zip", GOOD)),
        run(tmp_path / "b", write_tar(tmp_path / "pets.tar.gz", shuffled)),
        run(tmp_path / "c", unpacked),
    ]

    splits = [
        {row["sha256"]: row["split"] for row in version.rows().values()}
        for version in versions
    ]
    assert splits[0] == splits[1] == splits[2]
    assert len({version.report()["fingerprint"] for version in versions}) == 1
    assert {p: p.read_bytes() for p in unpacked.rglob("*.png")}.keys() == {
        unpacked / name for name in GOOD
    }


def many(tmp_path):
    """An upload that takes a while in every phase."""
    files = class_folders(each=200)
    return write_zip(tmp_path / "pets.zip", files, method=0)


@pytest.mark.parametrize("phase", ["unpack", "verify", "write"])
def test_killed_in_any_phase_the_next_run_in_the_folder_succeeds(tmp_path, phase):
    upload = many(tmp_path)
    first = Ingest(tmp_path / "job", upload)
    first.wait_for(event="progress", phase=phase)

    assert first.end(signal.SIGKILL) == -signal.SIGKILL
    second = run(tmp_path / "job", upload)

    assert second.report()["images"] == 400
    assert second.leftovers() == []


def test_run_again_after_it_was_published_gives_the_same_version(tmp_path):
    """It may be killed after the rename and before anybody heard of it."""
    upload = write_zip(tmp_path / "pets.zip", {**GOOD, **ODD, **BAD})

    first = run(tmp_path / "job", upload)
    second = run(tmp_path / "job", upload)

    assert second.last["manifest_sha"] == first.last["manifest_sha"]
    assert second.leftovers() == []


@pytest.mark.parametrize("phase", ["unpack", "verify"])
def test_asked_to_stop_it_stops_at_once_with_all_its_children(tmp_path, phase):
    ingest = Ingest(tmp_path / "job", many(tmp_path))
    ingest.wait_for(event="progress", phase=phase)

    assert ingest.end(signal.SIGTERM) == 75
    assert not ingest.final.exists()


def test_the_wish_to_finish_early_changes_nothing(tmp_path):
    ingest = Ingest(tmp_path / "job", write_zip(tmp_path / "pets.zip", GOOD))
    ingest.wait_for(event="phase", phase="verify")

    ingest.process.send_signal(signal.SIGUSR2)

    assert ingest.wait() == 0


def test_no_process_that_decodes_pictures_has_the_keys_of_a_storage(
    tmp_path, monkeypatch
):
    keys = {"AWS_SECRET_ACCESS_KEY", "GOOGLE_SERVICE_ACCOUNT_KEY", "AZURE_OWN"}
    for key in keys:
        monkeypatch.setenv(key, "very secret")
    child = Ingest(tmp_path, write_zip(tmp_path / "pets.zip", GOOD))
    child.wait_for(event="phase", phase="unpack")

    server = wait_until(lambda: find_server(child.process.pid), what="the server")
    assert not keys & set(server.environ())
    of_prover = wait_until(lambda: find_environment(server), 120, "one that decodes")
    assert not keys & set(of_prover)

    assert child.wait() == 0, child.stderr[-20:]


def find_server(pid):
    """The process that forks those which decode, once it runs its own program."""
    for child in psutil.Process(pid).children():
        if any("forkserver" in argument for argument in child.cmdline()):
            return child
    return None


def find_environment(server):
    """What a process that decodes has, as long as one lives."""
    for child in server.children():
        with contextlib.suppress(psutil.Error):
            if environment := child.environ():
                return environment
    return None


def test_a_disk_that_is_full_while_unpacking_is_said_and_given_back(tmp_path):
    upload = write_zip(
        tmp_path / "pets.zip", {**GOOD, "cat/big.bmp": os.urandom(2**20)}
    )

    ingest = Ingest(tmp_path / "job", upload, file_bytes=2**19)

    assert ingest.wait() == 74
    assert ingest.last["event"] == "failed"
    assert "A file failed: File too large" in ingest.last["message"]
    assert not ingest.last["permanent"]
    assert ingest.leftovers() == []


def test_a_disk_that_is_full_in_a_child_is_no_fault_of_the_picture(tmp_path):
    """The rewritten PNG is much larger than the WebP it comes from."""
    picture = encode(Image.effect_noise((900, 900), 90), "WEBP", quality=1)
    upload = write_zip(tmp_path / "pets.zip", {**GOOD, "cat/big.webp": picture})
    assert len(picture) < 2**18

    ingest = Ingest(tmp_path / "job", upload, file_bytes=2**18)

    assert ingest.wait() == 74
    assert "A file failed: File too large" in ingest.last["message"]
    assert ingest.leftovers() == []


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (
            {**class_folders(("cat",)), "dog/1.png": b"", "dog/2.png": b"<html>"},
            ["Found: only “cat”", "Left out: 2", "dog/1.png: The file is empty"],
        ),
        (
            {**GOOD, "emu/1.png": png(5000), "emu/2.png": png(5001)},
            ["Too small: “emu” (2)", "Add images to these classes or leave them out"],
        ),
        ({"readme.txt": b"hello"}, ["at least 2 classes", "Found: none"]),
    ],
)
def test_what_is_no_dataset_is_refused_with_the_reason(tmp_path, files, words):
    ingest = IngestHere(tmp_path / "job", write_zip(tmp_path / "pets.zip", files))

    assert ingest.wait() == 64
    assert ingest.last["event"] == "failed"
    assert ingest.last["permanent"]
    for word in words:
        assert word in ingest.last["message"]
    assert ingest.leftovers() == []


def test_a_large_file_is_unpacked_and_refused_in_flat_memory(tmp_path):
    film = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + os.urandom(2**20) * 400
    files = {**class_folders(each=3), "cat/film.jpg": film}
    upload = write_zip(tmp_path / "pets.zip", files, method=0)
    few = write_zip(tmp_path / "few.zip", class_folders(each=3))
    plain = run_apart(tmp_path / "a", few, measured=True)

    ingest = run_apart(tmp_path / "b", upload, measured=True)

    reasons = {skip["file"]: skip["reason"] for skip in ingest.report()["skipped"]}
    assert "an MP4 or QuickTime video" in reasons["cat/film.jpg"]
    assert ingest.peak_bytes < plain.peak_bytes + 100 * 2**20


def test_two_arguments_are_needed():
    done = subprocess.run(
        [sys.executable, "-m", "worker.ingest.run"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )

    assert done.returncode == 64
    assert b"usage:" in done.stderr


def test_events_go_to_the_descriptor_that_is_named(tmp_path):
    spec = tmp_path / "spec.json"
    spec.write_text("{}")
    reader, writer = os.pipe()

    done = subprocess.run(
        [sys.executable, "-m", "worker.ingest.run", spec, tmp_path / "work"],
        cwd=ROOT,
        pass_fds=[writer],
        env={**os.environ, "TRAINYARD_EVENTS_FD": str(writer)},
        capture_output=True,
        check=False,
    )
    os.close(writer)
    with contextlib.closing(os.fdopen(reader)) as events:
        last = json.loads(events.read().splitlines()[-1])

    assert done.returncode == 64
    assert done.stdout == b""
    assert last["code"] == "sources"


def test_under_a_locale_without_unicode_every_name_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("LC_ALL", "POSIX")
    monkeypatch.setenv("PYTHONUTF8", "0")
    monkeypatch.setenv("PYTHONCOERCECLOCALE", "0")
    files = class_folders(("猫", "Äpfel"), each=3)

    ingest = run_apart(tmp_path / "job", write_zip(tmp_path / "pets.zip", files))

    assert set(ingest.rows()) == set(files)
    assert ingest.report()["classes"] == ["Äpfel", "猫"]


def test_a_picture_in_several_sources_and_formats_is_stored_once(tmp_path):
    same = Image.fromarray(pixels(42))
    one = write_zip(tmp_path / "a.zip", {**GOOD, "cat/same.tif": encode(same, "TIFF")})
    other = {"cat/as drawn.bmp": encode(same, "BMP"), "dog/0.png": GOOD["dog/0.png"]}

    ingest = run(tmp_path / "job", one, write_zip(tmp_path / "b.zip", other))

    stored = [path for path in (ingest.final / "images").rglob("*") if path.is_file()]
    originals = list((ingest.final / "originals").rglob("*.*"))
    assert len(stored) == ingest.report()["images"] == len(GOOD) + 1
    assert len(originals) == 1
    assert ingest.report()["duplicates"] == 2
