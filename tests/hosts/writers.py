"""Who wrote what about which job, by the database's own account.

Triggers note each write of a worker's and the address it came from. Whether one
attempt at a time wrote, and each from one host, is read there, and from nothing that
the platform says of itself.
"""

from sqlalchemy import text

_WATCH = (
    """
    CREATE TABLE writes (
        id bigserial PRIMARY KEY, at bigint, job_id bigint, fence bigint,
        what text, address text
    )
    """,
    """
    CREATE FUNCTION note_write() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        written jsonb := to_jsonb(NEW);
        job bigint := COALESCE(written->>'job_id', written->>'id');
    BEGIN
        INSERT INTO writes (at, job_id, fence, what, address) VALUES (
            extract(epoch from clock_timestamp()) * 1000, job,
            COALESCE(
                (written->>'fence')::bigint, (SELECT fence FROM jobs WHERE id = job)
            ),
            TG_TABLE_NAME, host(inet_client_addr())
        );
        RETURN NULL;
    END $$
    """,
    *(
        f"CREATE TRIGGER note_write AFTER {event} ON {table}"
        " FOR EACH ROW EXECUTE FUNCTION note_write()"
        for table, event in (
            ("jobs", "UPDATE"),
            ("checkpoints", "INSERT"),
            ("metrics", "INSERT"),
            ("notes", "INSERT"),
            ("model_versions", "INSERT"),
        )
    ),
)


def watch_writers(database):
    """Has the database note every write about a job from now on."""
    with database.transaction() as session:
        for statement in _WATCH:
            session.execute(text(statement.replace(":=", r"\:=")))


def list_writes(site):
    """Returns the writes that came from hosts, in their order."""
    query = text("SELECT at, job_id, fence, what, address FROM writes ORDER BY id")
    with site.database.reading() as session:
        rows = list(session.execute(query))
    return [row for row in rows if site.host_at(row.address)]


def find_rivals(writes):
    """Returns where two wrote about one job at a time, or under one fence."""
    found, newest, writer = [], {}, {}
    for row in writes:
        if row.fence < newest.setdefault(row.job_id, row.fence):
            found.append(
                f"job {row.job_id}: attempt {row.fence} wrote {row.what} after attempt "
                f"{newest[row.job_id]} had begun"
            )
        newest[row.job_id] = max(row.fence, newest[row.job_id])
        address = writer.setdefault((row.job_id, row.fence), row.address)
        if address != row.address:
            found.append(
                f"job {row.job_id}: {row.address} wrote {row.what} under the fence "
                f"{row.fence} of {address}"
            )
    return found
