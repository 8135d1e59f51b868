"""By which endings a file is meant as an archive or as a label table, everywhere alike.

What an archive really is, its content decides (`worker/ingest/unpack.py`).
"""

from shared.errors import UserError
from shared.source_addresses import Address

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
JSON_TABLES = (".jsonl", ".ndjson")
PARQUET_TABLES = (".parquet",)
TABLES = (".csv", ".tsv", *JSON_TABLES, *PARQUET_TABLES)
# Of a file that somebody names by its path or address; among others, or dropped on a
# page, a `.txt` is most often something else.
NAMED_TABLES = (*TABLES, ".txt")
ARCHIVES_IN_WORDS = ".zip, .tar, .tar.gz, .tar.bz2 or .tar.xz"
TABLES_IN_WORDS = ".csv, .tsv, .parquet, .jsonl"


def require_source(address: Address) -> None:
    """Refuses what no dataset can be read from: a folder of a web server, for example.

    Raises:
        UserError: Naming the fix.
    """
    path = address.path.lower()
    if address.is_store or path.endswith(ARCHIVES + NAMED_TABLES):
        return
    raise UserError(
        f"{address} names no {ARCHIVES_IN_WORDS} and no label table "
        f"({TABLES_IN_WORDS}): a web server does not say what lies in a folder. Name a "
        "label table that lists its files.",
        field="address",
    )
