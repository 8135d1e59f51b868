"""Rows 27, 28, 30, 31 and 45: full disks; checkpoints damaged, late; curves doubled."""

import contextlib
import shutil
import subprocess
import time

from shared.artifacts import verify_manifest
from tests.chaos.records import KERAS, TOY
from tests.chaos.rows import (
    CannotInject,
    expect,
    expect_success,
    find_attempts,
    outcomes,
    read_events,
    recover,
    row,
)

BOTH = (TOY, KERAS)
DISK_MEGABYTES = 96
PIECE_BYTES = 1 << 20


@row(
    27, "a disk that is full when a checkpoint is written",
    "it is skipped, the one before is whole, the page says so, training goes on",
    engines=(KERAS,),
)  # fmt: skip
def fill_disk(arena, random):
    for host in arena.hosts:
        host.stop()
    job = arena.submit()
    with _small_disk(arena.storage / "jobs" / str(job.job_id)) as disk:
        for host in arena.hosts:
            host.start()
        arena.wait_for_checkpoint(job, 1)
        time.sleep(random.uniform(0, 0.5))
        filler = _fill(disk)
        arena.wait(
            lambda: any("skipped" in note for note in arena.notes(job)),
            "the page to tell of a skipped checkpoint",
        )
        saved = [c for c in arena.checkpoints(job) if c.status == "ok"][-1]
        # Raises when it is not whole; older ones are swept away, this one is the last.
        verify_manifest(arena.storage / saved.rel_path, saved.manifest_sha)
        filler.unlink()
        arena.wait_for_checkpoint(job, saved.step)
        expect_success(arena, job)
        expect(arena.job(job).attempts == 1, "the attempt was to go on")


@contextlib.contextmanager
def _small_disk(folder):
    """Mounts a disk with little room at `folder`; what is left of it stays there."""
    folder.mkdir(parents=True)
    size = f"size={DISK_MEGABYTES}m"
    mount = ["mount", "-t", "tmpfs", "-o", size, "trainyard-chaos", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotInject(f"mounting is not allowed here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        kept = folder.with_name(f"{folder.name}.kept")
        shutil.copytree(folder, kept)
        subprocess.run(["umount", "-l", str(folder)], check=True)
        folder.rmdir()
        kept.rename(folder)


def _fill(disk):
    """Writes a file until nothing more fits; returns it."""
    path = disk / "filler"
    with path.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while stream.write(bytes(PIECE_BYTES)):
            pass
        while stream.write(b"0"):
            pass
    return path


@row(
    28, "a checkpoint torn, changed by one bit, emptied or gone; or all of them",
    "the one before it is used, or training starts anew, and the page says so",
    engines=BOTH,
)  # fmt: skip
def damage_checkpoints(arena, random):
    job = arena.submit_and_wait(step=12)
    arena.wait_for_checkpoint(job, 8)
    arena.client.ask(job, "pause")
    arena.wait_for_state(job, "paused")
    rows = [c for c in arena.checkpoints(job) if c.kind != "final" and c.status == "ok"]
    spare = random.random() < 0.7
    damaged = rows[-1:] if spare else rows
    for checkpoint in damaged:
        _damage(arena.storage / checkpoint.rel_path, random, arena.engine)
    arena.client.ask(job, "resume")
    expect_success(arena, job)
    expected = rows[-2].step if spare and len(rows) > 1 else 0
    resumed = _resumed_at(arena, job)
    expect(resumed == expected, f"it went on from step {resumed}, not from {expected}")
    corrupt = [c.step for c in arena.checkpoints(job) if c.status == "corrupt"]
    expect(damaged[-1].step in corrupt, f"only {corrupt} are known to be damaged")
    told = [note for note in arena.notes(job) if "was damaged" in note]
    expect(told, "its page does not tell")


def _damage(folder, random, engine):
    # The real engine waits a minute and a half for files that another host may have
    # written a moment ago.
    ways = ["tear", "flip", "empty"] + (["remove"] if engine == TOY else [])
    way = random.choice(ways)
    if way == "remove":
        shutil.rmtree(folder)
        return
    files = sorted(p for p in folder.iterdir() if p.is_file() and p.stat().st_size)
    path = random.choice(files)
    data = bytearray(path.read_bytes())
    if way == "tear":
        data = data[: random.randrange(len(data))]
    elif way == "flip":
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    else:
        data = b""
    path.write_bytes(bytes(data))


def _resumed_at(arena, job):
    last = find_attempts(arena, job)[-1]
    steps = [e["step"] for e in read_events(last) if e.get("event") == "resumed"]
    return steps[0] if steps else 0


@row(
    30, "storage on which every fsync takes long, or fails",
    "training goes on, or the attempt ends and is tried elsewhere",
)  # fmt: skip
def slow_storage(arena, random):
    step = random.randint(3, 12)
    if random.random() < 0.5:
        fault = {"step": step, "do": "slow_fsync", "fences": [1], "seconds": 0.5}
        job = arena.submit(steps=30, faults=[fault])
        expect_success(arena, job)
        expect(arena.job(job).attempts == 1, "a slow disk is no reason to end")
        return None
    fault = {"step": step, "do": "fail_fsync", "fences": [1]}
    job = arena.submit(faults=[fault])
    arena.wait_for_step(job, step)
    host = arena.host_of(job)
    facts = recover(arena, job, lambda: None)
    expect(outcomes(arena, job)[0] == "io", f"ended as {outcomes(arena, job)}")
    # Its slot rests for minutes; a new worker does not.
    host.stop()
    host.start()
    return facts


@row(
    31, "a checkpoint whose files show only after its row",
    "it is waited for, and not taken for damaged", engines=BOTH,
)  # fmt: skip
def delay_files(arena, random):
    job = arena.submit_and_wait(step=8)
    arena.wait_for_checkpoint(job, 2)
    arena.client.ask(job, "pause")
    arena.wait_for_state(job, "paused")
    newest = [c for c in arena.checkpoints(job) if c.kind != "final"][-1]
    folder = arena.storage / newest.rel_path
    hidden = folder.with_name(f"hidden-{folder.name}")
    folder.rename(hidden)
    arena.client.ask(job, "resume")
    arena.wait_for_attempt(job, 2)
    time.sleep(random.uniform(0.5, 2.5))
    hidden.rename(folder)
    expect_success(arena, job)
    resumed = _resumed_at(arena, job)
    expect(resumed == newest.step, f"it went on from {resumed}, not {newest.step}")
    statuses = {c.status for c in arena.checkpoints(job)}
    expect("corrupt" not in statuses, "it was taken for damaged")


@row(
    45, "metrics sent twice and out of order", "every point is on record once",
)  # fmt: skip
def replay_metrics(arena, random):
    faults = [
        {"step": step, "do": "replay", "fences": [1]}
        for step in random.sample(range(4, 40), 5)
    ]
    job = arena.submit_and_wait(step=random.randint(5, 30), faults=faults)
    facts = recover(arena, job, lambda: arena.trainer(job).kill())
    expect_success(arena, job)
    return facts
