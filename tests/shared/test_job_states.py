"""Every order of events leads only where the state table allows, on both databases.

A random story of claims, checkpoints, endings and requests is played against the
stores and, beside it, against a plain-Python reading of the table in
`shared/job_status.py`. Whatever the stores do beyond it, refuse within it, or write
for a stale attempt, is a failure; Hypothesis shrinks the story to the shortest one.
"""

import uuid
from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import func, select

from shared import attempt_store, job_store, reconcile_store
from shared.errors import Cancelled, ConflictError, LostLease
from shared.job_status import TRANSITIONS, Event, JobStatus
from shared.retry_policy import Limits
from shared.tables import Audit, Checkpoint, Job, Metric, ModelVersion, Note
from tests import factories

LIMITS = Limits(retry_backoff_seconds=0)
REQUESTS = {
    Event.CANCEL: job_store.cancel,
    Event.PAUSE: job_store.pause,
    Event.RESUME: job_store.resume,
    Event.FINISH_NOW: job_store.finish_now,
    Event.RETRY: job_store.retry,
}


@dataclass
class Expected:
    """What the table says about one job."""

    state: str = "queued"
    desired: str = "run"
    fence: int = 0
    step: int = 0
    noprog: int = 0
    moved: bool = False  # this attempt made progress
    published: bool = False
    states: list[str] = field(default_factory=list)

    def grants(self, event):
        """Whether the table and its guards let a user's request through."""
        if (self.state, event) not in TRANSITIONS:
            return False
        if self.state != JobStatus.RUNNING or event == Event.CANCEL:
            return True
        return self.desired == ("pause" if event == Event.RESUME else "run")

    def grant(self, event):
        """Does what the request asks."""
        wishes = {"cancel": "cancel", "pause": "pause", "finish_now": "finish"}
        self.desired = wishes.get(event, "run")
        (after,) = TRANSITIONS[self.state, event]
        self.state = str(after)
        if event == Event.RETRY:
            self.noprog = 0

    def end(self, *, charge, permanent):
        """Does what the end of an attempt means."""
        if charge and not self.moved:
            self.noprog += 1
        if self.desired == "cancel":
            self.state = "cancelled"
        elif self.desired == "pause":
            self.state = "paused"
        elif permanent or (charge and self.noprog >= 3):
            self.state = "failed"
        else:
            self.state = "queued"


class Story(RuleBasedStateMachine):
    """A random story; `database` is set by the test."""

    database = None

    def __init__(self):
        super().__init__()
        self.queue = uuid.uuid4().hex  # nobody else's jobs are in it
        self.jobs = {}
        self.claims = []
        with self.database.transaction() as s:
            self.owner_id = factories.make_user(s).id
            self.model_id = factories.make_model(s, self.owner_id).id

    @rule()
    @precondition(lambda self: len(self.jobs) < 3)
    def submit(self):
        with self.database.transaction() as s:
            job_id = factories.make_job(
                s, self.owner_id, model_id=self.model_id, queue=self.queue
            )
        self.jobs[job_id] = Expected()

    @rule(twice=st.booleans())
    def claim(self, twice):
        attempt_uuid = uuid.uuid4().hex
        for _ in range(2 if twice else 1):
            claim = self.database.tx(
                lambda s: factories.claim(
                    s, queues=[self.queue], attempt_uuid=attempt_uuid
                )
            )
        due = [
            job_id
            for job_id, job in self.jobs.items()
            if job.state == "queued" and job.desired in {"run", "finish"}
        ]
        if claim is None:
            assert not due
            return
        assert claim.job_id in due
        job = self.jobs[claim.job_id]
        job.state, job.fence, job.moved = "running", job.fence + 1, False
        assert claim.fence == job.fence
        self.claims.append(claim)

    @rule(pick=st.integers(0, 2), event=st.sampled_from(list(REQUESTS)))
    @precondition(lambda self: self.jobs)
    def ask(self, pick, event):
        job_id, job = self.pick(pick)
        try:
            state = self.database.tx(
                lambda s: REQUESTS[event](s, job_id, actor="user:1")
            )
        except ConflictError:
            assert not job.grants(event)
            return
        assert job.grants(event)
        job.grant(event)
        assert state == job.state

    @rule(pick=st.integers(0, 9), forward=st.integers(0, 2))
    @precondition(lambda self: self.claims)
    def checkpoint(self, pick, forward):
        claim, job, current = self.pick_claim(pick)
        step = job.step + forward

        def write(s):
            factories.checkpoint(s, claim.job_id, claim.fence, step)
            attempt_store.add_metrics(
                s,
                claim.job_id,
                claim.fence,
                [attempt_store.MetricPoint("loss", step, step, 1.0)],
            )

        if self.refused(write, unless=current):
            return
        if step > job.step:
            job.step, job.moved, job.noprog = step, True, 0

    @rule(pick=st.integers(0, 9))
    @precondition(lambda self: self.claims)
    def renew(self, pick):
        claim, job, current = self.pick_claim(pick)
        answers = []
        refused = self.refused(
            lambda s: answers.append(
                attempt_store.renew(s, claim.job_id, claim.fence, lease_ms=1000)
            ),
            unless=current,
        )
        assert refused or answers == [job.desired]

    @rule(pick=st.integers(0, 9))
    @precondition(lambda self: self.claims)
    def complete(self, pick):
        claim, job, current = self.pick_claim(pick)
        again = job.published and job.state == "succeeded" and job.fence == claim.fence
        done = []
        try:
            refused = self.refused(
                lambda s: done.append(factories.complete(s, claim.job_id, claim.fence)),
                unless=current or again,
            )
        except Cancelled:
            assert current
            assert job.desired == "cancel"
            return
        if refused:
            return
        assert job.desired != "cancel"
        assert done[0].already == again
        job.state, job.published = "succeeded", True

    @rule(
        pick=st.integers(0, 9),
        how=st.sampled_from(
            [("crash", True, False), ("lost", False, False), ("failed", True, True)]
        ),
    )
    @precondition(lambda self: self.claims)
    def end(self, pick, how):
        claim, job, current = self.pick_claim(pick)
        outcome, charge, permanent = how
        if not current:
            self.end_stale(claim)
            return
        state = self.database.tx(
            lambda s: attempt_store.end(
                s,
                claim.job_id,
                claim.fence,
                outcome=outcome,
                charge=charge,
                permanent=permanent,
                limits=LIMITS,
            )
        )
        assert JobStatus(state) in TRANSITIONS[JobStatus.RUNNING, Event.END]
        job.end(charge=charge, permanent=permanent)
        assert state == job.state

    def end_stale(self, claim):
        before = self.dump()
        try:
            self.database.tx(
                lambda s: attempt_store.end(
                    s, claim.job_id, claim.fence, outcome="zombie", charge=True
                )
            )
        except LostLease:
            assert self.dump() == before
        else:
            raise AssertionError("a stale attempt ended a job")

    def refused(self, write, *, unless):
        """Plays one write of an attempt; a refused one must leave no trace."""
        before = None if unless else self.dump()
        try:
            self.database.tx(write)
        except Cancelled:
            raise
        except LostLease:
            assert not unless
            assert self.dump() == before
            return True
        assert unless, "a stale attempt wrote"
        return False

    def pick(self, number):
        job_id = sorted(self.jobs)[number % len(self.jobs)]
        return job_id, self.jobs[job_id]

    def pick_claim(self, number):
        claim = self.claims[-1 - number % len(self.claims)]
        job = self.jobs[claim.job_id]
        return claim, job, job.state == "running" and job.fence == claim.fence

    def read(self):
        """Every job of this story as plain values, by number."""
        columns = (Job.state, Job.desired, Job.fence, Job.last_step, Job.noprog, Job.hb)
        with self.database.reading() as s:
            rows = s.execute(select(Job.id, *columns).where(Job.queue == self.queue))
            return {row[0]: tuple(row[1:]) for row in rows}

    def dump(self):
        tables = (Checkpoint, Metric, Note, ModelVersion, Audit)
        counts = [select(func.count()).select_from(t).scalar_subquery() for t in tables]
        with self.database.reading() as s:
            return self.read(), tuple(s.execute(select(*counts)).one())

    @invariant()
    def rows_are_as_expected(self):
        seen = {job_id: row[:-1] for job_id, row in self.read().items()}
        assert seen == {
            job_id: (job.state, job.desired, job.fence, job.step, job.noprog)
            for job_id, job in self.jobs.items()
        }

    def teardown(self):
        with self.database.reading() as s:
            assert reconcile_store.find_violations(s) == []


def test_only_moves_of_the_table_happen(database):
    machine = type("Story", (Story,), {"database": database})

    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=15,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )


def test_the_table_never_leaves_succeeded_and_only_a_user_leaves_the_other_ends():
    for status, event in TRANSITIONS:
        assert status != JobStatus.SUCCEEDED
        if status in {JobStatus.FAILED, JobStatus.CANCELLED}:
            assert event == Event.RETRY
