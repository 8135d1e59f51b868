"""Where things lie on shared storage, and how a folder becomes visible there.

Nothing is ever changed in place: write new, fsync, rename, fsync the parent. A reader
sees all of a folder or none of it, whatever is killed. No framework and no database
here, so child processes use it too. The layout is told in ARCHITECTURE.md.
"""

import contextlib
import errno
import hashlib
import itertools
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from shared.durable_files import fsync_file, fsync_folder
from shared.errors import InternalError, UserError

MANIFEST = "MANIFEST.json"
# In an ingest attempt's folder: what only it can use, and what later ones take over.
SCRATCH, PROOFS = "scratch", "proofs"
# Room on the disk that is left for everybody else, and after how many written bytes one
# looks whether it is there: others fill the disk, too.
RESERVE_BYTES, LOOK_BYTES = 256 << 20, 64 << 20
# NFS may hide a new file behind a remembered "no such file" for this long.
APPEAR_SECONDS = 90.0
# A flush waits for the disk; eight at a time are nine times as fast as one by one.
_SYNCERS = 8
_BLOCK = 1000
_SAFE_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
Item = TypeVar("Item")
Answer = TypeVar("Answer")


class CorruptFolderError(UserError):
    """A folder does not hold what its manifest says."""


@dataclass(frozen=True)
class Storage:
    """The paths of everything on shared storage; makes nothing by itself.

    Args:
        root: Absolute folder that every process of the installation sees.
    """

    root: Path

    def upload(self, upload_id: str) -> Path:
        """Folder of one raw upload."""
        return self.root / "uploads" / _safe(upload_id)

    def dataset(self, dataset_id: int) -> Path:
        """Folder of all versions of a dataset."""
        return self.root / "datasets" / str(int(dataset_id))

    def dataset_version(self, dataset_id: int, version: int | str) -> Path:
        """Folder of one dataset version."""
        return self.dataset(dataset_id) / _safe(str(version))

    def forecasts(self, dataset_id: int) -> Path:
        """Folder of all forecasts of a dataset's versions."""
        return self.dataset(dataset_id) / "forecasts"

    def forecast(self, dataset_id: int, name: str) -> Path:
        """Folder of one forecast."""
        return self.forecasts(dataset_id) / _safe(name)

    @property
    def caches(self) -> Path:
        """Folder that holds the caches `packs/` and `features/`."""
        return self.root

    def features(self, key: str) -> Path:
        """Folder of one feature cache."""
        return self.root / "features" / _safe(key)

    def job(self, job_id: int) -> Path:
        """Folder of all attempts of a job."""
        return self.root / "jobs" / str(int(job_id))

    def attempt(self, job_id: int, fence: int, attempt_uuid: str) -> Path:
        """Folder that one attempt alone writes to."""
        name = f"{int(fence)}-{_safe(attempt_uuid)[:8]}"
        return self.job(job_id) / "attempts" / name

    def artifact(self, sha256: str) -> Path:
        """The immutable file whose content has this digest."""
        if not re.fullmatch(r"[0-9a-f]{64}", sha256):
            raise InternalError(f"Not a SHA-256 digest: {sha256!r}")
        return self.root / "artifacts" / "sha256" / sha256[:2] / sha256

    def relative(self, path: Path) -> str:
        """Returns `path` below the root, with `/`, as rows keep it."""
        return path.relative_to(self.root).as_posix()

    def resolve(self, rel_path: str) -> Path:
        """Returns the absolute path of what a row names.

        Raises:
            InternalError: When it would lie outside shared storage.
        """
        path = (self.root / rel_path).absolute()
        if ".." in Path(rel_path).parts or not path.is_relative_to(self.root):
            raise InternalError(f"{rel_path!r} is not on shared storage.")
        return path

    def publish_artifact(self, file: Path) -> tuple[str, int]:
        """Copies `file` among the artifacts; the same content is kept once.

        Returns:
            Its SHA-256 and its size in bytes.
        """
        digest, size_bytes = sha256_file(file), file.stat().st_size
        target = self.artifact(digest)
        if target.exists() and target.stat().st_size == size_bytes:
            os.utime(target)  # young again, so that no collection takes it now
            return digest, size_bytes
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".tmp-{digest[:8]}-{secrets.token_hex(4)}")
        try:
            shutil.copyfile(file, temporary)
            if sha256_file(temporary) != digest:
                raise OSError(errno.EIO, "the copy differs from the file", str(file))
            fsync_file(temporary)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        fsync_folder(target.parent)
        return digest, size_bytes

    def remove(self, rel_paths: list[str]) -> None:
        """Removes what rows no longer name; what is gone already is fine."""
        for rel_path in rel_paths:
            remove_tree(self.resolve(rel_path))


def sha256_file(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes, reading it in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_manifest(folder: Path, names: list[str] | None = None, **facts: Any) -> str:
    """Writes `MANIFEST.json` over the files of `folder`, all made durable.

    Args:
        folder: Its files are complete; nobody writes to it any more.
        names: The files to cover, relative to `folder`. Defaults to all of them.
        facts: What else to keep: step, fence, phase, epoch, batch, spec_sha, versions.

    Returns:
        The SHA-256 of the manifest, which stands for the whole folder.
    """
    covered = sorted(names) if names is not None else _list_files(folder)
    files: dict[str, dict[str, Any]] = {}
    for name in covered:
        path = folder / name
        fsync_file(path)
        files[name] = {"sha256": sha256_file(path), "bytes": path.stat().st_size}
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps({"files": files, **facts}, indent=1, sort_keys=True))
    fsync_file(manifest)
    fsync_folder(folder)
    return sha256_file(manifest)


def verify_manifest(
    folder: Path, manifest_sha: str | None = None, *, appear_seconds: float = 0.0
) -> dict[str, Any]:
    """Returns the manifest when every file of `folder` is as it was written.

    Args:
        folder: A published folder.
        manifest_sha: What its row says; without it the manifest is believed.
        appear_seconds: How long to wait for a folder that is not there (yet): pass
            `APPEAR_SECONDS` for what another host has written.

    Raises:
        CorruptFolderError: Naming the first file that is missing or different.
    """
    manifest = folder / MANIFEST
    _wait_for(manifest, appear_seconds)
    try:
        content = manifest.read_bytes()
        if manifest_sha and hashlib.sha256(content).hexdigest() != manifest_sha:
            raise CorruptFolderError(f"{manifest} is not the one that was registered.")
        facts: dict[str, Any] = json.loads(content)
        for name, expected in facts["files"].items():
            path = folder / name
            if path.stat().st_size != expected["bytes"]:
                raise CorruptFolderError(f"{path} has another size than it was given.")
            if sha256_file(path) != expected["sha256"]:
                raise CorruptFolderError(f"{path} has changed since it was written.")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptFolderError(f"{manifest} cannot be read: {error}") from error
    except FileNotFoundError as error:
        raise CorruptFolderError(f"{error.filename} is missing.") from error
    return facts


def publish_folder(temporary: Path, final: Path) -> None:
    """Makes `temporary` durable and visible as `final`, all of it or nothing.

    Both lie on one file system. A `final` with the same manifest that is there
    already counts as published (an NFS server may repeat a rename that it has done).

    Raises:
        FileExistsError: When `final` is there and is something else.
    """
    with ThreadPoolExecutor(_SYNCERS) as pool:
        for _ in map_in_blocks(pool, fsync_file, _walk_files(temporary)):
            pass
    for folder in [*_list_folders(temporary), temporary]:
        fsync_folder(folder)
    final.parent.mkdir(parents=True, exist_ok=True)
    try:
        temporary.rename(final)
    except OSError:
        if not _same_manifest(temporary, final):
            raise
        remove_tree(temporary)
    fsync_folder(final.parent)


def map_in_blocks(
    pool: ThreadPoolExecutor, work: Callable[[Item], Answer], items: Iterable[Item]
) -> Iterator[Answer]:
    """Yields what `work` makes of each item, in order, by the threads of `pool`.

    `pool.map` takes all items at once, and a kilobyte for each until it is done: a
    hundred megabytes for as many thousand files.
    """
    waiting = iter(items)
    while block := list(itertools.islice(waiting, _BLOCK)):
        yield from pool.map(work, block)


def list_scratch(attempt: Path) -> list[Path]:
    """Returns what an ingest attempt works with and nobody needs once it has ended."""
    return [
        path
        for path in (attempt / SCRATCH, *attempt.glob(".tmp-final-*"))
        if path.exists()
    ]


def remove_tree(path: Path) -> None:
    """Removes a file or a folder with all it holds; absent is fine."""
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
        return
    shutil.rmtree(path, ignore_errors=True)
    if path.exists():  # say why, when something is left
        shutil.rmtree(path)


def measure_tree(path: Path) -> int:
    """Returns the bytes of all files under `path`; 0 when there is nothing."""
    if path.is_file():
        return path.stat().st_size
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.lstat(Path(folder) / name).st_size
    return total


def _safe(name: str) -> str:
    if not _SAFE_NAME.match(name):
        raise InternalError(f"{name!r} cannot name anything on shared storage.")
    return name


def _wait_for(path: Path, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(min(1.0, seconds / 10))
        with contextlib.suppress(OSError):
            os.scandir(path.parent).close()  # makes an NFS client look again


def _list_files(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix()
        for path in _walk_files(folder)
        if path.name != MANIFEST
    )


def _walk_files(folder: Path) -> Iterator[Path]:
    """Yields every file below; `rglob` remembers all that it has yielded."""
    for place, _, names in os.walk(folder):
        for name in names:
            yield Path(place, name)


def _list_folders(folder: Path) -> list[Path]:
    """Folders below `folder`, deepest first."""
    below = [Path(place) for place, _, _ in os.walk(folder)][1:]
    return sorted(below, key=lambda path: len(path.parts), reverse=True)


def _same_manifest(one: Path, other: Path) -> bool:
    try:
        return (one / MANIFEST).read_bytes() == (other / MANIFEST).read_bytes()
    except OSError:
        return False
