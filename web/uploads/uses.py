"""Uploads together with the jobs that have them, or had them."""

from shared import upload_use_store
from shared.artifacts import remove_tree
from shared.file_locks import is_gone, try_lock
from shared.garbage import UPLOAD_LOCK
from shared.upload_use_store import UploadUses
from web.auth.datastore import Account
from web.installation import Installation
from web.uploads import store
from web.uploads.digests import running
from web.uploads.store import Upload


def read_uses(here: Installation, account: Account) -> UploadUses:
    """Returns what has become of this user's uploads."""
    with here.database.reading() as session:
        return upload_use_store.list_uses(session, account.id)


def open_upload(here: Installation, account: Account, upload_id: str) -> Upload:
    """Returns the upload that this user may use under this id.

    What a failed or cancelled job keeps does not expire.

    Raises:
        NotFoundError: When there is none, or it is somebody else's.
        GoneError: When its last byte came too long ago.
    """
    return store.open_upload(
        here.storage,
        account.id,
        upload_id,
        is_kept=lambda: upload_id in read_uses(here, account).let_go,
    )


def remove_unneeded(here: Installation, rel_path: str) -> None:
    """Removes an upload whose job is gone, unless another one needs it by now.

    Its lock keeps off who would make a dataset of it. Where somebody is just at that,
    it stays, and garbage collection sees to it.

    Args:
        here: The installation.
        rel_path: Of the upload's folder, below shared storage.
    """
    folder = here.storage.resolve(rel_path)
    if not (folder / UPLOAD_LOCK).is_file():  # it came in one request
        remove_tree(folder)
        return
    try:
        lock = try_lock(folder / UPLOAD_LOCK, shared=False)
    except OSError as error:
        if is_gone(error):
            return
        raise
    if lock is None:
        return
    with lock:
        with here.database.reading() as session:
            needed = upload_use_store.list_needed(session, ())
        if folder.name not in needed:
            running.forget(folder.name)
            remove_tree(folder)
