"""The reaper while somebody holds a lock, on both databases."""

import contextlib
import threading
import time

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from shared import attempt_store, job_read_store
from shared.reconciler import Reconciler
from shared.settings import Settings
from shared.tables import Job
from tests import factories
from tests.services import wait_until


def hold_locks(database, job_id):
    """Keeps every other writer from the job; returns what ends that."""
    session = Session(database.engine)
    session.execute(select(Job).where(Job.id == job_id).with_for_update())
    return session.close


@pytest.mark.parametrize("held_seconds", [4.5, 6.0])
def test_who_waited_for_the_same_lock_is_not_dead(database, tmp_path, held_seconds):
    """Held a little longer than a lease, or much: the reaper must not come first."""
    settings = Settings(data_dir=tmp_path, lease_seconds=4, heartbeat_seconds=0.2)
    with database.transaction() as s:
        factories.make_job(s)
        claim = factories.claim(s, lease_ms=4000)
    stop, renewed = threading.Event(), []

    def renew():
        while not stop.wait(settings.heartbeat_seconds):
            database.tx(
                lambda s: attempt_store.renew(
                    s, claim.job_id, claim.fence, lease_ms=4000
                )
            )
            renewed.append(time.monotonic())

    def sweep():
        reconciler = Reconciler(database, settings)
        while not stop.wait(0.1):
            with contextlib.suppress(Exception):
                reconciler._reap()

    works = (renew, sweep, sweep, sweep)
    threads = [threading.Thread(target=work, daemon=True) for work in works]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: renewed)
        release = hold_locks(database, claim.job_id)
        time.sleep(held_seconds)
        release()
        released_at = time.monotonic()
        wait_until(lambda: renewed[-1] > released_at)
    finally:
        stop.set()
    for thread in threads:
        thread.join()

    with database.reading() as s:
        job = job_read_store.get_job(s, claim.job_id)
    assert (job.state, job.lost, job.fence) == ("running", 0, claim.fence)
