"""What becomes of every odd file in an upload: writes `docs/messy-files.md`.

    ./trainyard bench messy_files --data FOLDER [--check]

FOLDER holds pictures that are damaged, unusual or hostile, and archives of such. Each
archive is one upload, and all other files together are one more; every upload also
holds good pictures, which must survive whatever lies beside them.
"""

import argparse
import difflib
import io
import json
import os
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from worker import events
from worker.ingest import run

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "docs" / "messy-files.md"
ARCHIVES = (".zip", ".tar")
# Two classes that no messy file knows, and two of the archives': alone, an archive with
# one picture a class would be refused, as it should, and nothing could survive.
GOOD_CLASSES = ("good one", "good two", "daisy", "iris")
GOOD_PER_CLASS = 6
GOOD = len(GOOD_CLASSES) * GOOD_PER_CLASS
MESSY, GOOD_NAME = "messy", "known to be good "
INTRODUCTION = """\
What becomes of damaged, unusual and hostile files in an upload: the rest of the upload
survives each of them. The sentence is the one that the dataset's page shows for the
file. Of each picture that is used, the original is kept.

Made by `benchmarks/messy_files.py`, which puts every file through the real ingest:

    ./trainyard bench messy_files --data FOLDER [--check]
"""


def write_good_pictures(archive: zipfile.ZipFile) -> None:
    """Adds the good pictures."""
    for number in range(GOOD):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 40, 3))
        buffer = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(buffer, "PNG")
        label = GOOD_CLASSES[number % len(GOOD_CLASSES)]
        archive.writestr(f"{label}/{GOOD_NAME}{number}.png", buffer.getvalue())


def ingest(sources: list[dict], folder: Path) -> dict:
    """Runs the real ingest; returns its report and rows.

    Within this process, so that the server of the children that prove pictures imports
    the framework once for all uploads.
    """
    folder.mkdir(parents=True, exist_ok=True)
    spec = {"kind": "ingest", "sources": sources, "limits": {"image_seconds": 20}}
    (folder / "spec.json").write_text(json.dumps(spec))
    with (folder / "events.jsonl").open("w+") as told:
        os.environ[events.FD_VARIABLE] = str(told.fileno())
        run.main([str(folder / "spec.json"), str(folder / "work")])
        told.seek(0)
        last = json.loads(told.read().splitlines()[-1])
    if last["event"] != "finished":
        raise RuntimeError(f"ingest failed: {last}")
    final = folder / "work" / "final"
    rows = pq.read_table(final / "manifest.parquet").to_pylist()
    return {"report": json.loads((final / "report.json").read_text()), "rows": rows}


def describe_loose(data: Path, folder: Path) -> list[tuple[str, str, str]]:
    """One row for each file that is no archive."""
    files = [path for path in list_files(data) if not is_archive(path)]
    folder.mkdir()
    upload = folder / "loose.zip"
    with zipfile.ZipFile(upload, "w") as archive:
        write_good_pictures(archive)
        for path in files:
            archive.write(path, f"{MESSY}/{path.relative_to(data).as_posix()}")
    done = ingest([source(upload)], folder / "loose")
    check_survivors(done)
    changes = {one["file"]: one["change"] for one in done["report"]["changed"]}
    outcomes = {
        row["source_name"]: describe_row(row, changes.get(row["source_name"]))
        for row in done["rows"]
    }
    for skip in done["report"]["skipped"]:
        outcomes[skip["file"]] = ("left out", skip["reason"])
    same = ("kept once", "The same picture is in the upload under another name.")
    names = [path.relative_to(data).as_posix() for path in files]
    return [(name, *outcomes.get(f"{MESSY}/{name}", same)) for name in names]


def describe_archives(data: Path, folder: Path) -> list[tuple[str, str, str]]:
    """One row for each archive: what of it was used, and every sentence."""
    table = []
    for number, path in enumerate(filter(is_archive, list_files(data))):
        place = folder / f"archive{number}"
        place.mkdir()
        good = place / "good.zip"
        with zipfile.ZipFile(good, "w") as archive:
            write_good_pictures(archive)
        name = path.relative_to(data).as_posix()
        done = ingest([source(good), source(path)], place / "run")
        check_survivors(done)
        used = len(done["rows"]) - GOOD
        skips = done["report"]["skipped"]
        sentences = [f"{s['file']}: {s['reason']}" for s in skips]
        sentences += done["report"]["notes"]
        outcome = f"pictures used: {used}, left out: {len(skips)}"
        table.append((name, outcome, " ".join(sentences)))
    return table


def list_files(data: Path) -> list[Path]:
    """Every file under `data`, in one order on every machine."""
    return sorted(path for path in data.rglob("*") if path.is_file())


def is_archive(path: Path) -> bool:
    """Whether it is uploaded as an archive of its own."""
    return path.suffix in ARCHIVES and path.name != "hopper.tar"


def source(path: Path) -> dict:
    """SPEC.json's entry for one archive."""
    return {"type": "archive", "path": str(path), "name": path.name}


def describe_row(row: dict, change: str | None) -> tuple[str, str]:
    """What happened to a picture that was taken."""
    size = f"{row['width_px']} x {row['height_px']} pixels"
    if change is None:
        return "used as it is", f"{size}."
    outcome = "used as it is" if row["path"] == row["original"] else "rewritten"
    return outcome, f"{change[0].upper()}{change[1:]}; {size}."


def check_survivors(done: dict) -> None:
    """Raises when a good picture was lost."""
    good = sum(GOOD_NAME in row["source_name"] for row in done["rows"])
    if good != GOOD:
        raise RuntimeError(f"only {good} of {GOOD} good pictures survived")


def build_page(rows: list[tuple[str, str, str]]) -> str:
    """The page, as it is committed."""
    lines = [
        "# Messy files",
        "",
        INTRODUCTION,
        "| file | outcome | sentence |",
        "|---|---|---|",
    ]
    for name, outcome, sentence in rows:
        cell = sentence.replace("|", "\\|").replace("\n", " ")
        lines.append(f"| `{name}` | {outcome} | {cell} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Writes the page, or with `--check` compares it with the committed one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="messy-files-") as folder:
        rows = describe_loose(arguments.data, Path(folder) / "loose-files")
        rows += describe_archives(arguments.data, Path(folder))
    page = build_page(rows)
    if arguments.check:
        committed = TABLE.read_text()
        print(*difflib.unified_diff(committed.splitlines(), page.splitlines(), n=0))
        return int(page != committed)
    TABLE.write_text(page)
    print(f"{len(rows)} files: {TABLE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
