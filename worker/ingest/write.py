"""Writes a dataset version: pictures by content, tables, report, thumbnails.

It is written into a new folder which is renamed to `final/` when everything in it is
durable; nobody changes it afterwards. Because of that, files of the parent are linked,
not copied: a picture is stored once, and is there for as long as one version has it.
"""

import json
import shutil
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from shared.artifacts import (
    PROOFS,
    map_in_blocks,
    publish_folder,
    sha256_file,
    write_manifest,
)
from shared.durable_files import fsync_file, link_or_copy
from shared.errors import UserError
from worker.ingest.assemble import Version
from worker.ingest.diff import list_rows
from worker.ingest.disk import Reserve
from worker.ingest.join import AnyPicture
from worker.ingest.report import build_report
from worker.ingest.thumbnails import write_thumbnails
from worker.ingest.verify import Picture
from worker.ingest.version_source import KeptPicture
from worker.ingest.version_tables import (
    CONTENTS_TABLE,
    DIFF_TABLE,
    MANIFEST_TABLE,
    QUARANTINE_TABLE,
    REPORT,
    write_table,
)

DIFF = "diff.json"
# Copying waits for the disk, not for the processor.
_WRITERS = 8


def write_version(
    version: Version, workdir: Path, report: Callable[[int, int], None]
) -> tuple[Path, str, dict[str, Any]]:
    """Publishes `WORKDIR/final`.

    Args:
        version: What goes into it.
        workdir: The attempt's folder.
        report: Called with written and all pictures.

    Returns:
        The folder, the SHA-256 of its manifest, and the report.

    Raises:
        UserError: A file of a folder on the server changed meanwhile.
        OSError: The disk is full.
    """
    folder = workdir / f".tmp-final-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    _place_all(version, workdir, folder, report)
    names = _write_tables(version, folder)
    facts = build_report(version)
    facts["samples"] = write_thumbnails(
        version, folder, lambda picture: folder / _paths(picture)[0]
    )
    _write_json(folder / REPORT, facts)
    names += _write_diff(version, folder)
    manifest_sha = write_manifest(folder, [*names, REPORT], step=0)
    final = workdir / "final"
    publish_folder(folder, final)
    return final, manifest_sha, facts


def _paths(picture: AnyPicture) -> tuple[str, str]:
    """Where training reads a picture and where its original lies, both relative."""
    name = f"{picture.sha256[:2]}/{picture.sha256}"
    if picture.rewritten is None:
        path = f"images/{name}{picture.suffix}"
        return path, path
    return f"images/{name}.png", f"originals/{name}{picture.suffix}"


def _list_all(version: Version) -> list[AnyPicture]:
    aside = [entry.picture for entry in version.joined.quarantine]
    return [*version.joined.pictures, *aside]


def _place_all(
    version: Version,
    workdir: Path,
    folder: Path,
    report: Callable[[int, int], None],
) -> None:
    pictures = _list_all(version)
    for parent in {Path(path).parent for one in pictures for path in _paths(one)}:
        (folder / parent).mkdir(parents=True, exist_ok=True)
    reserve = Reserve(folder)
    with ThreadPoolExecutor(_WRITERS) as writers:
        placed = map_in_blocks(
            writers, lambda picture: _place(picture, workdir, folder, reserve), pictures
        )
        for done, _ in enumerate(placed, start=1):
            report(done, len(pictures))


def _place(picture: AnyPicture, workdir: Path, folder: Path, reserve: Reserve) -> None:
    if isinstance(picture, KeptPicture):
        _link(picture, folder)
    else:
        _move(picture, workdir, folder, reserve)


def _link(picture: KeptPicture, folder: Path) -> None:
    """Puts a picture of the parent here, too; its bytes stay where they are."""
    path, original = _paths(picture)
    link_or_copy(picture.path, folder / original)
    if picture.rewritten is not None:
        link_or_copy(picture.rewritten, folder / path)


def _move(picture: Picture, workdir: Path, folder: Path, reserve: Reserve) -> None:
    """Puts a new picture where it stays; the original is kept untouched."""
    path, original = _paths(picture)
    if picture.rewritten is not None:
        # Not moved: should this attempt be killed, the next takes the proof over. So it
        # does with what was fetched.
        link_or_copy(picture.rewritten, folder / path)
        fsync_file(folder / path)
    if picture.path.is_relative_to(workdir / PROOFS):
        reserve.count(picture.size_bytes)  # where the file system has no links
        link_or_copy(picture.path, folder / original)
    elif picture.path.is_relative_to(workdir):
        picture.path.replace(folder / original)
    else:
        reserve.count(picture.size_bytes)
        shutil.copyfile(picture.path, folder / original)
        if sha256_file(folder / original) != picture.sha256:
            raise UserError(
                f"“{picture.name}” changed while it was read. Add the dataset again "
                "when nobody writes to its folder."
            )
    # Counted when it is durable: the flush at the end, of which nobody hears, is short.
    fsync_file(folder / original)


def _write_tables(version: Version, folder: Path) -> list[str]:
    rows = zip(version.joined.pictures, version.splits, strict=True)
    write_table(folder, MANIFEST_TABLE, (_row(one, split) for one, split in rows))
    write_table(folder, QUARANTINE_TABLE, _quarantine_rows(version))
    write_table(folder, CONTENTS_TABLE, map(_content_row, _list_all(version)))
    return [MANIFEST_TABLE, QUARANTINE_TABLE, CONTENTS_TABLE]


def _write_diff(version: Version, folder: Path) -> list[str]:
    """Writes what changed, the whole of it a part at a time; nothing without parent."""
    if version.parent is None or version.diff is None:
        return []
    _write_json(folder / DIFF, version.diff)
    changes = list_rows(version.parent, version.joined, version.splits)
    write_table(folder, DIFF_TABLE, changes)
    return [DIFF, DIFF_TABLE]


def _row(picture: AnyPicture, split: str) -> dict[str, Any]:
    path, original = _paths(picture)
    return {
        "path": path,
        "original": original,
        "source_name": picture.name,
        "label": picture.label,
        "split": split,
        "sha256": picture.sha256,
        "width_px": picture.width_px,
        "height_px": picture.height_px,
        "group": picture.group,
    }


def _quarantine_rows(version: Version) -> Iterator[dict[str, Any]]:
    for entry in version.joined.quarantine:
        row = _row(entry.picture, entry.picture.split or "")
        yield row | {"reason": entry.reason, "labels": entry.labels}


def _content_row(picture: AnyPicture) -> dict[str, Any]:
    is_kept = isinstance(picture, KeptPicture)
    return {
        "sha256": picture.sha256,
        "content": picture.known_content if is_kept else picture.content,
        "picture_hash": picture.picture_hash,
        "size_bytes": picture.size_bytes,
        "given_group": picture.given,
    }


def _write_json(path: Path, facts: dict[str, Any]) -> None:
    text = json.dumps(facts, ensure_ascii=False, indent=1)
    # Names were made such as can be written; one that was not must not cost the rest.
    path.write_text(text, encoding="utf-8", errors="replace")
