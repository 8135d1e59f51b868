"""What may be wrong with a request to an upload, each with its HTTP status."""

import errno

from shared.errors import UserError
from web.datasets.upload import DiskFullError
from web.error_pages import DISK_FULL

# The last one: larger than a file may be here.
NO_ROOM = DISK_FULL | {errno.EFBIG}


class VersionError(UserError):
    """The client speaks another version of the protocol (412)."""

    status = 412


class ContentTypeError(UserError):
    """The body is not announced as a piece of an upload (415)."""

    status = 415


class LockedError(UserError):
    """Another request holds the upload for longer than one may wait (423)."""

    status = 423


class ChecksumMismatchError(UserError):
    """The piece is not the one that was sent; nothing of it was kept (460)."""

    status = 460


class GoneError(UserError):
    """The upload was not continued in time (410)."""

    status = 410


class StalledError(UserError):
    """The client has sent nothing for a long time (408)."""

    status = 408


def disk_full_while_growing() -> DiskFullError:
    """Makes the refusal of bytes for which the disk has no room."""
    return DiskFullError(
        "The server's disk is full. What has come of this upload is kept: have room "
        "made by deleting datasets, jobs or models, then continue."
    )
