"""A quick look at label tables that were uploaded; ingest is who reads them."""

import re
from pathlib import Path

PIECE_BYTES = 1 << 20
LARGEST_BYTES = 512 << 20  # which ingest refuses to read
_OVERLAP_BYTES = 16
# As JSON may write it, too. Texts of two bytes a letter lose their zeros first.
_ADDRESS = re.compile(rb":\\?/\\?/")
_PACKED = ".parquet"


def may_name_addresses(path: Path) -> bool:
    """Whether any line of the table at `path` may name its picture by address.

    Of what cannot be seen here it may: the columns of a Parquet file are compressed.
    """
    is_packed = path.suffix.lower() == _PACKED
    if is_packed or path.stat().st_size > LARGEST_BYTES:
        return True
    before = b""
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            seen = before + piece.replace(b"\0", b"")
            if _ADDRESS.search(seen):
                return True
            before = seen[-_OVERLAP_BYTES:]
    return False
