"""What becomes of every odd file in an upload: writes `docs/messy-files.md`.

    ./trainyard bench messy_files --data FOLDER [--check]

FOLDER holds pictures that are damaged, unusual or hostile, and archives of such. Each
archive is one upload, and all other files together are one more; every upload also
holds two classes of good pictures, which must survive whatever lies beside them.
"""

import argparse
import io
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "docs" / "messy-files.md"
ARCHIVES = (".zip", ".tar")
GOOD_PER_CLASS = 6
MESSY = "messy"
INTRODUCTION = (
    "What becomes of damaged, unusual and hostile files in an upload. The rest of the "
    "upload survives each of them. Made by `benchmarks/messy_files.py`, which puts "
    "every file through the real ingest."
)


def write_good_pictures(archive: zipfile.ZipFile) -> None:
    """Adds two classes of good pictures."""
    for number in range(2 * GOOD_PER_CLASS):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 40, 3))
        buffer = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(buffer, "PNG")
        archive.writestr(f"good{number % 2}/{number}.png", buffer.getvalue())


def ingest(sources: list[dict], folder: Path) -> dict:
    """Runs the real ingest; returns its report and rows, or why it refused."""
    folder.mkdir(parents=True, exist_ok=True)
    spec = {"kind": "ingest", "sources": sources, "limits": {"image_seconds": 20}}
    (folder / "spec.json").write_text(json.dumps(spec))
    command = [sys.executable, "-m", "worker.ingest.run"]
    done = subprocess.run(
        [*command, str(folder / "spec.json"), str(folder / "work")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    last = json.loads(done.stdout.strip().splitlines()[-1])
    if last.get("code") == "rejected":
        return {"refused": last["message"]}
    if last["event"] != "finished":
        raise RuntimeError(f"ingest failed: {last} {done.stderr[-2000:]}")
    final = folder / "work" / "final"
    rows = pq.read_table(final / "manifest.parquet").to_pylist()
    return {"report": json.loads((final / "report.json").read_text()), "rows": rows}


def describe_loose(data: Path, folder: Path) -> list[tuple[str, str, str]]:
    """One row for each file that is no archive."""
    files = [
        path
        for path in sorted(data.rglob("*"))
        if path.is_file() and not is_archive(path)
    ]
    folder.mkdir()
    upload = folder / "loose.zip"
    with zipfile.ZipFile(upload, "w") as archive:
        write_good_pictures(archive)
        for path in files:
            archive.write(path, f"{MESSY}/{path.relative_to(data).as_posix()}")
    done = ingest([source(upload)], folder / "loose")
    check_survivors(done)
    outcomes = {row["source_name"]: describe_row(row) for row in done["rows"]}
    for skip in done["report"]["skipped"]:
        outcomes[skip["file"]] = ("left out", skip["reason"])
    same = ("kept once", "The same picture is in the upload under another name.")
    names = [path.relative_to(data).as_posix() for path in files]
    return [(name, *outcomes.get(f"{MESSY}/{name}", same)) for name in names]


def describe_archives(data: Path, folder: Path) -> list[tuple[str, str, str]]:
    """One row for each archive: what of it was used, and every sentence."""
    table = []
    for number, path in enumerate(sorted(filter(is_archive, data.rglob("*")))):
        place = folder / f"archive{number}"
        place.mkdir()
        good = place / "good.zip"
        with zipfile.ZipFile(good, "w") as archive:
            write_good_pictures(archive)
        name = path.relative_to(data).as_posix()
        done = ingest([source(good), source(path)], place / "run")
        if "refused" in done:
            table.append((name, "the dataset is refused", done["refused"]))
            continue
        check_survivors(done)
        used = len(done["rows"]) - 2 * GOOD_PER_CLASS
        skips = done["report"]["skipped"]
        sentences = [f"{s['file']}: {s['reason']}" for s in skips]
        sentences += done["report"]["notes"]
        outcome = f"{used} pictures used, {len(skips)} files left out"
        table.append((path.relative_to(data).as_posix(), outcome, " ".join(sentences)))
    return table


def is_archive(path: Path) -> bool:
    """Whether it is uploaded as an archive of its own."""
    return path.suffix in ARCHIVES and path.name != "hopper.tar"


def source(path: Path) -> dict:
    """SPEC.json's entry for one archive."""
    return {"type": "archive", "path": str(path), "name": path.name}


def describe_row(row: dict) -> tuple[str, str]:
    """What happened to a picture that was taken."""
    size = f"{row['width_px']} x {row['height_px']} pixels"
    if row["path"] == row["original"]:
        return "kept", f"Used as it is, {size}."
    return "rewritten", f"The original is kept; training reads an upright PNG, {size}."


def check_survivors(done: dict) -> None:
    """Raises when a good picture was lost."""
    good = sum(row["label"].startswith("good") for row in done["rows"])
    if good != 2 * GOOD_PER_CLASS:
        raise RuntimeError(f"only {good} good pictures survived")


def build_page(rows: list[tuple[str, str, str]]) -> str:
    """The page, as it is committed."""
    lines = [
        "# Messy files",
        "",
        INTRODUCTION,
        "",
        "| file | outcome | sentence |",
        "|---|---|---|",
    ]
    for name, outcome, sentence in rows:
        cell = sentence.replace("|", "\\|").replace("\n", " ")
        lines.append(f"| `{name}` | {outcome} | {cell} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Writes the page, or with `--check` compares it with the committed one."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="messy-files-") as folder:
        rows = describe_loose(arguments.data, Path(folder) / "loose-files")
        rows += describe_archives(arguments.data, Path(folder))
    page = build_page(rows)
    if arguments.check:
        if page == TABLE.read_text():
            return 0
        print("docs/messy-files.md differs from what ingest does now")
        return 1
    TABLE.write_text(page)
    print(f"{len(rows)} files: {TABLE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
