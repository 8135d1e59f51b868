"""The invariants I1 to I7, asked of the records, the files and the client.

Written apart from the platform's own checks, which are asked as well: an oracle that
shared its code with what it judges would share its mistakes.

I1 at most one running claim a job, and fences strictly rise.
I2 nothing is written under a fence once its attempt has ended.
I3 a job has succeeded if and only if it has exactly one version; numbers have no gaps.
I4 a job whose cancellation was acknowledged never succeeds, unless tried again.
I5 every job that waits is tried in the end.
I6 an attempt goes on from the newest checkpoint that verifies.
I7 a job fails only by an error of its own, or when its budget is spent.
"""

import hashlib
import json
from itertools import pairwise

from sqlalchemy import select, text

from shared import reconcile_store
from shared.tables import Attempt, Checkpoint, Job, Note
from tests.chaos import oplog

# Of one row in the database and of its clock: written in the same moment.
SAME_MOMENT_MS = 5
FINAL = "final"


def find_violations(arena):
    """Returns what contradicts I1, I2, I3 and I6 in an arena's records now.

    May be asked while jobs run.
    """
    with arena.database.reading() as session:
        found = [f"platform: {v}" for v in reconcile_store.find_violations(session)]
        attempts = _by_job(session, Attempt, Attempt.fence)
        for job_id, rows in attempts.items():
            job = session.get(Job, job_id)
            found += _check_fences(job, rows)
            found += _check_late_writes(session, rows)
            found += _check_resumes(arena, session, job, rows)
        found += _check_points(session)
    return found


def judge(collected, unsettled, operations):
    """Returns (lost, doubled, violations of I3, I4, I5 and I7) by what a client has.

    Args:
        collected: From `Client.collect`.
        unsettled: Promises whose jobs never ended.
        operations: The operation log.
    """
    found = [f"I5 job {p.job_id} never ended" for p in unsettled]
    cancelled = oplog.list_cancelled(operations)
    asked = oplog.list_asked_to_cancel(operations)
    for row in collected:
        wrongs = _find_wrong(row, row["job"] in cancelled, row["job"] in asked)
        found += [f"job {row['job']}: {wrong}" for wrong in wrongs]
    kept = {row["job"] for row in collected if not _is_lost(row)}
    lost = [job for job in oplog.list_accepted(operations) if job not in kept]
    return lost, _list_doubled(collected), found


def _is_lost(row):
    has_ended = row["state"] in ("succeeded", "failed", "cancelled")
    return not has_ended or (row["state"] == "succeeded" and not row["archives"])


def _list_doubled(collected):
    return [row["job"] for row in collected if len(row["archives"]) > 1]


def _find_wrong(row, is_cancelled, was_asked):
    promise, state, archives = row["promise"], row["state"], row["archives"]
    wrong = {
        "I3 it published a damaged archive": not all(a["whole"] for a in archives),
        f"I3 it is {state} and has a version": archives and state != "succeeded",
        "I4 it was cancelled and succeeded": state == "succeeded" and is_cancelled,
        "I4 nobody cancelled it and it is": state == "cancelled" and not was_asked,
        f"I7 it failed: {row['reason']}": state == "failed" and not promise.may_fail,
    }
    return [sentence for sentence, is_wrong in wrong.items() if is_wrong]


def _by_job(session, table, *order):
    rows = {}
    for row in session.scalars(select(table).order_by(table.job_id, *order)):
        rows.setdefault(row.job_id, []).append(row)
    return rows


def _check_fences(job, attempts):
    found = []
    fences = [attempt.fence for attempt in attempts]
    if fences != list(range(1, len(fences) + 1)) or fences[-1] != job.fence:
        found.append(f"I1 job {job.id} has fence {job.fence} and attempts {fences}")
    still = [a.fence for a in attempts if a.ended_at is None]
    if still not in ([], [job.fence]):
        found.append(f"I1 job {job.id} has open attempts {still}")
    for earlier, later in pairwise(attempts):
        if earlier.ended_at and earlier.ended_at > later.started_at + SAME_MOMENT_MS:
            found.append(
                f"I1 job {job.id}: attempt {later.fence} began before attempt "
                f"{earlier.fence} had ended"
            )
    return found


def _check_late_writes(session, attempts):
    """Whether anything came under a fence after its attempt had ended."""
    ends = {attempt.fence: attempt.ended_at for attempt in attempts}
    job_id, found = attempts[0].job_id, []
    for table in (Checkpoint, Note):
        for row in session.scalars(select(table).where(table.job_id == job_id)):
            ended = ends.get(row.fence)
            if ended and row.created_at > ended + SAME_MOMENT_MS:
                found.append(
                    f"I2 job {job_id}: a {table.__tablename__} row of attempt "
                    f"{row.fence} came {row.created_at - ended} ms after its end"
                )
    return found


def _check_resumes(arena, session, job, attempts):
    """Whether each attempt went on from the newest checkpoint there was that verifies.

    A checkpoint that has been damaged, or swept away, since cannot be asked any more:
    an attempt may then seem to have had a better choice, never a worse one.
    """
    query = select(Checkpoint).where(
        Checkpoint.job_id == job.id, Checkpoint.kind != FINAL
    )
    rows = list(session.scalars(query))
    found = []
    for attempt in attempts:
        resumed = _read_resumed(arena, attempt)
        if resumed is None:
            continue
        usable = [
            row.step
            for row in rows
            if row.fence < attempt.fence
            and row.created_at <= attempt.started_at
            and row.status == "ok"
            and _verifies(arena, row)
        ]
        if usable and resumed < max(usable):
            found.append(
                f"I6 job {job.id}: attempt {attempt.fence} went on from step "
                f"{resumed} and not from {max(usable)}"
            )
        known = {
            step
            for job_id, step, fence in arena.seen_checkpoints
            if job_id == job.id and fence < attempt.fence
        }
        if resumed and resumed not in known:
            found.append(
                f"I6 job {job.id}: attempt {attempt.fence} went on from step "
                f"{resumed}, of which no checkpoint is on record"
            )
    return found


def _check_points(session):
    """Whether any attempt has a point of its curves twice."""
    doubled = session.execute(
        text(
            "SELECT count(*) FROM (SELECT 1 FROM metrics"
            " GROUP BY job_id, name, fence, step HAVING count(*) > 1) AS doubled"
        )
    ).scalar_one()
    return [f"I2 {doubled} points of curves are there twice"] if doubled else []


def count_redone(arena, job_id):
    """Returns the most steps that any attempt of a job trained again.

    By the trainers' own logs: what a curve lacks was trained all the same.
    """
    with arena.database.reading() as session:
        attempts = _by_job(session, Attempt, Attempt.fence).get(job_id, [])
    most, reached = 0, 0
    for attempt in attempts:
        resumed = _read_resumed(arena, attempt)
        if resumed is not None:
            most = max(most, reached - resumed)
        steps = [
            e["step"] for e in _read_log(arena, attempt) if e["event"] == "metrics"
        ]
        reached = max([reached, *steps])
    return most


def _read_resumed(arena, attempt):
    """The step that an attempt says it went on from, 0 for none; None if it never
    said anything of its training."""
    events = _read_log(arena, attempt)
    resumed = [event["step"] for event in events if event.get("event") == "resumed"]
    if resumed:
        return resumed[0]
    trained = any(event.get("event") == "metrics" for event in events)
    return 0 if trained else None


def _read_log(arena, attempt):
    """The whole lines of an attempt's log."""
    folder = arena.storage / "jobs" / str(attempt.job_id) / "attempts"
    events = []
    for path in folder.glob(f"{attempt.fence}-{attempt.uuid[:8]}*/log.jsonl"):
        for line in path.read_bytes().splitlines():
            try:
                events.append(json.loads(line))
            except ValueError:
                continue
    return events


def _verifies(arena, row):
    """Whether every file of a checkpoint has the hash that its manifest says."""
    folder = arena.storage / row.rel_path
    try:
        manifest = (folder / "MANIFEST.json").read_bytes()
        files = json.loads(manifest)["files"]
        return hashlib.sha256(manifest).hexdigest() == row.manifest_sha and all(
            hashlib.sha256((folder / name).read_bytes()).hexdigest() == facts["sha256"]
            for name, facts in files.items()
        )
    except (OSError, ValueError, KeyError):
        return False
