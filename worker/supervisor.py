"""Runs one claimed job to the end of its attempt: the supervisor's whole story.

Trace: claim -> plan (what the records say) -> guardian and child -> events into rows,
lease renewed, wishes obeyed -> the child's end -> version published or attempt ended.

The supervisor never decides what becomes of the job: it reports how the attempt ended,
under its fence, and the record decides. When the lease is lost it writes nothing.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from shared import attempt_store, queue
from shared.artifacts import CorruptFolderError
from shared.attempt_store import Claim
from shared.errors import (
    Cancelled,
    LostLease,
    OutdatedError,
    RetryableError,
    UserError,
)
from shared.job_status import JobKind, is_terminal
from shared.retry_policy import Limits
from worker import results
from worker.attempt_files import AttemptFiles
from worker.child import Child, ChildExit
from worker.endings import (
    EXIT_REJECTED,
    Ending,
    Failure,
    StopReason,
    decide,
    disk_failed,
    gpu_lost,
    outdated,
    worker_failed,
)
from worker.lease import DeadlineKeeper, LeaseKeeper
from worker.plans import Plan, build_plan
from worker.recorder import Recorder
from worker.results import Result
from worker.slots import SlotLock
from worker.wishes import PHASES_AFTER_TRAINING, START_UP_FACTOR, Wishes
from worker.workplace import Workplace

log = structlog.get_logger()
Answer = TypeVar("Answer")

LOOP_SECONDS = 0.1


def supervise(workplace: Workplace, claim: Claim, lock: SlotLock) -> Ending:
    """Returns once the claimed job's attempt has ended and nothing of it runs.

    Args:
        workplace: Where it runs.
        claim: The job, just won.
        lock: The held slot.

    Returns:
        How it ended, and for how long this slot should claim nothing.
    """
    began = time.monotonic()
    with structlog.contextvars.bound_contextvars(
        job_id=claim.job_id, attempt=claim.fence
    ):
        log.info("attempt_started", kind=claim.kind, title=claim.title)
        ending = _Attempt(workplace, claim, lock).run()
        log.info(
            "attempt_ended",
            outcome=ending.outcome,
            reason=ending.reason,
            duration_seconds=round(time.monotonic() - began, 3),
        )
    return ending


class _Attempt:
    """One attempt under supervision."""

    def __init__(self, workplace: Workplace, claim: Claim, lock: SlotLock) -> None:
        self.place = workplace
        self.settings = workplace.settings
        self.claim, self.lock = claim, lock
        self.claimed_at = time.time()
        self.lease = LeaseKeeper(
            self._renew,
            self.settings.heartbeat_seconds,
            self.settings.progress_timeout_seconds * START_UP_FACTOR,
        )
        self.files = AttemptFiles(
            workplace.storage.root,
            workplace.storage.attempt(claim.job_id, claim.fence, claim.attempt_uuid),
        )
        self.recorder = Recorder(workplace.database, claim, self.files)
        self.child: Child | None = None
        self.deadline: DeadlineKeeper | None = None
        self.wishes = Wishes(workplace, self.lease, self.recorder)
        self.is_over = False  # the whole job, and not only this attempt

    def run(self) -> Ending:
        self.lease.start()
        try:
            return self._work()
        except LostLease:
            return Ending("lost_lease", "Another attempt owns the job.")
        except RetryableError as error:
            return Ending("unrecorded", str(error), is_recorded=False)
        except OSError as error:
            return self._end_after(disk_failed(error))
        except BaseException as error:  # also MemoryError and SystemExit:
            # raised here they would take the whole worker down, not just this attempt.
            log.exception("supervisor_failed")
            return self._end_after(worker_failed(type(error).__name__))
        finally:
            self._leave_nothing_behind()

    def _work(self) -> Ending:
        self.files.make()
        self.recorder.take({"event": "claimed", "at": self.claimed_at})
        try:
            plan = self._write(
                lambda session: build_plan(
                    session, self.claim, self.place.storage, self.settings
                )
            )
        except UserError as error:
            failure = Failure(error.field or "spec", str(error), permanent=True)
            return self._end(decide(ChildExit(EXIT_REJECTED), failure=failure))
        if plan.result and self._is_usable(plan.result, plan.result_path):
            return self._complete(plan.result, plan.result_path)
        ended = self._run_child(plan)
        result = self.recorder.finished
        if result and self._is_usable(result):  # however the child ended after that
            return self._complete(result)
        return self._end(self._decide(ended), ended)

    def _run_child(self, plan: Plan) -> ChildExit:
        """Returns how the child ended that did what is planned."""
        spec_path = self.files.write_spec(plan.spec)
        self.recorder.note("info", self._opening_sentence(plan))
        kind, folder = self.claim.kind, self.files.folder
        if waiting := self.place.take_standby(kind):
            self._keep_alive(waiting)
            waiting.hand_over(spec_path, folder)
            ended = self._watch(waiting)
            if waiting.is_heard or self.wishes.asked:
                return ended
            # It died before it heard of this job, so it has done nothing of it.
            log.warning("standby_died_unheard", signal=ended.signal)
            self._dismiss_child()
        child = self.place.start_child(kind, spec_path, folder, self.lock)
        self._keep_alive(child)
        return self._watch(child)

    def _keep_alive(self, child: Child) -> None:
        self.child = child
        settings = self.settings
        self.deadline = DeadlineKeeper(
            lambda: child.extend(
                self.lease.seconds_to_live(
                    settings.lease_seconds, settings.unconfirmed_lease_seconds
                )
            ),
            lambda: self.lease.may_go_on(settings.unconfirmed_lease_seconds),
            settings.heartbeat_seconds,
        )
        self.deadline.start()

    def _watch(self, child: Child) -> ChildExit:
        """Returns how the child ended, all it has said being taken."""
        while (ended := child.poll()) is None:
            self._take_events(child)
            self.recorder.flush()
            self.wishes.tell(child)
            self._prepare_next()
            time.sleep(LOOP_SECONDS)
        while self._take_events(child):
            pass
        if child.dropped_lines:
            log.warning("event_lines_dropped", lines=child.dropped_lines)
        return ended

    def _prepare_next(self) -> None:
        """Has a child stand by for the next job once this one nears its end.

        Not earlier: it takes memory beside the one that trains.
        """
        near = self.recorder.phase in PHASES_AFTER_TRAINING
        if near and self.place.standby and not self.place.should_stop():
            self.place.standby.prepare(self.lock)

    def _take_events(self, child: Child) -> bool:
        for event in (events := child.read_events()):
            self.recorder.take(event)
        return bool(events)

    def _is_usable(self, result: Result, known_as: str | None = None) -> bool:
        """Whether the result is whole; one that is not will not be offered again."""
        try:
            results.verify(self.claim, result)
        except CorruptFolderError as error:
            log.exception("result_damaged")
            self.recorder.note("error", f"The result cannot be used: {error}")
            if known_as is not None:
                self._write(
                    lambda session: attempt_store.mark_checkpoint_corrupt(
                        session, self.claim.job_id, self.claim.fence, rel_path=known_as
                    )
                )
            return False
        return True

    def _complete(self, result: Result, known_as: str | None = None) -> Ending:
        claim, storage = self.claim, self.place.storage
        known_as = known_as or storage.relative(result.folder)
        if result.fence == claim.fence:
            results.keep_summary(result)
            self._write(
                lambda session: results.register(session, claim, storage, result)
            )
        self._flush_all()
        self.lease.check()
        forecasts = self.settings.forecast_on_add
        publication = results.publish(claim, storage, result, forecasts=forecasts)
        try:
            completed = self._write(publication.complete)
        except Cancelled:
            return self._end(decide(ChildExit(), asked=StopReason.CANCEL))
        except OutdatedError as error:
            return self._give_up(publication, known_as, error)
        self.is_over = True
        if claim.kind == JobKind.INGEST:
            results.remove_uploads(claim, storage)
            if forecasts:
                queue.ring(JobKind.FORECAST)
        return Ending("succeeded", f"Published as number {completed.version}.")

    def _give_up(
        self, publication: results.Publication, known_as: str, error: OutdatedError
    ) -> Ending:
        """Drops a dataset version that the next attempt makes from a newer one.

        Its row goes first: a folder that is left is garbage, and found as such.
        """
        self._write(
            lambda session: attempt_store.mark_checkpoint_corrupt(
                session, self.claim.job_id, self.claim.fence, rel_path=known_as
            )
        )
        if publication.dataset_path:
            self.place.storage.remove([publication.dataset_path])
        return self._end(outdated(str(error)))

    def _decide(self, ended: ChildExit) -> Ending:
        ending = decide(
            ended,
            asked=self.wishes.asked,
            failure=self.recorder.failure,
            silence_seconds=self.wishes.patience_seconds,
            unconfirmed_seconds=self.settings.unconfirmed_lease_seconds,
        )
        lost = self.place.list_lost_gpus() if ending.charge else []
        return gpu_lost(lost) if lost else ending

    def _end(self, ending: Ending, ended: ChildExit | None = None) -> Ending:
        """Tells the record how the attempt ended; the record decides what follows."""
        if ending.outcome not in ("cancelled", "paused"):
            self.recorder.note("error" if ending.charge else "warning", ending.reason)
        self._flush_all()
        return self._record_end(ending, ended or ChildExit())

    def _record_end(self, ending: Ending, ended: ChildExit) -> Ending:
        state = self._write(
            lambda session: attempt_store.end(
                session,
                self.claim.job_id,
                self.claim.fence,
                outcome=ending.outcome,
                charge=ending.charge,
                permanent=ending.permanent,
                user_failure=ending.user_failure,
                reason=ending.reason,
                failure_code=ending.failure_code or ending.outcome,
                exit_code=ended.exit_code,
                signal=ended.signal,
                error_tail=self.files.read_error_tail(),
                limits=Limits.from_settings(self.settings),
            )
        )
        self.is_over = is_terminal(state)
        return ending

    def _end_after(self, ending: Ending) -> Ending:
        """Ends the attempt for a reason that lies with us, the child stopped first."""
        try:
            ended = self.child.end_now() if self.child else ChildExit()
            try:
                return self._end(ending, ended)
            except DBAPIError:
                # An event that the database refuses may be the very cause. Without
                # this the job would run on paper until its lease is seen to run out.
                log.exception("events_dropped")
                return self._record_end(ending, ended)
        except LostLease:
            return ending
        except RetryableError:
            return replace(ending, is_recorded=False)

    def _leave_nothing_behind(self) -> None:
        try:
            if self.child:
                self.child.end_now()
        finally:  # whatever that met: a lease kept alive for nobody is never taken over
            self.lease.stop()
            self._dismiss_child()
        self.files.remove_workings(keep_proofs=not self.is_over)

    def _dismiss_child(self) -> None:
        """Gives back what belongs to a child that has ended."""
        if self.deadline:
            self.deadline.stop()
        if self.child:
            self.child.close()
        self.deadline = self.child = None

    def _flush_all(self) -> None:
        while self.recorder.has_unwritten:
            if not self.recorder.flush(now=True):
                self._wait_for_database()

    def _write(self, change: Callable[[Session], Answer]) -> Answer:
        """Carries `change` out, waiting for a database that is away.

        Raises:
            LostLease: When another attempt owns the job.
            RetryableError: When the database stayed away for too long.
        """
        while True:
            try:
                return self.place.database.tx(change, patience_seconds=1)
            except RetryableError:
                self._wait_for_database()

    def _wait_for_database(self) -> None:
        """Lets a moment pass, as long as there is hope that it helps.

        Raises:
            LostLease: When another attempt owns the job.
            RetryableError: When the lease went unconfirmed for too long, or the worker
                is being shut down: the lease runs out, and the job is taken over.
        """
        self.lease.check()
        limit = self.settings.unconfirmed_lease_seconds
        if self.place.should_stop():
            limit = min(limit, self.settings.stop_grace_seconds)
        if self.lease.unconfirmed_seconds() > limit:
            raise RetryableError("the database could not be reached")
        time.sleep(1)

    def _renew(self) -> str:
        lease_ms = int(self.settings.lease_seconds * 1000)
        return self.place.database.tx(
            lambda session: attempt_store.renew(
                session, self.claim.job_id, self.claim.fence, lease_ms=lease_ms
            ),
            patience_seconds=0,
        )

    def _opening_sentence(self, plan: Plan) -> str:
        where = f"Attempt {self.claim.fence} runs on slot {self.place.slot.name}"
        if plan.resumes_at is None:
            return f"{where}."
        return f"{where} and goes on from step {plan.resumes_at}."
