"""What becomes of a job when an attempt ends: the rules alone."""

import pytest

from shared.retry_policy import Counters, Ending, Limits, backoff_ms, decide_end

LIMITS = Limits()
FRESH = Counters(noprog=0, lost=0, failures=0, attempts=1, progressed=False)
CRASH = Ending("crash", charge=True)
LOST = Ending("lost", charge=False)
FILE = Ending("io", charge=False)
OUTAGE = Ending("outage", charge=False)


def decide(ending, desired="run", **spent):
    return decide_end(desired, ending, Counters(**{**vars(FRESH), **spent}), LIMITS)


@pytest.mark.parametrize(
    ("desired", "state"), [("cancel", "cancelled"), ("pause", "paused")]
)
def test_the_users_wish_comes_before_everything(desired, state):
    bad_spec = Ending("failed", charge=True, permanent=True)

    assert decide(bad_spec, desired, noprog=9).state == state


def test_the_third_charged_attempt_without_progress_fails_the_job():
    assert decide(CRASH, noprog=1).state == "queued"
    assert decide(CRASH, noprog=2).state == "failed"


def test_progress_spares_the_budget():
    verdict = decide(CRASH, noprog=2, progressed=True)

    assert (verdict.state, verdict.noprog) == ("queued", 2)


@pytest.mark.parametrize("outcome", ["lost", "killed", "gpu_lost"])
def test_losses_are_not_charged_but_counted(outcome):
    loss = Ending(outcome, charge=False)
    verdict = decide(loss, noprog=2, lost=8)

    assert (verdict.state, verdict.noprog, verdict.lost) == ("queued", 2, 9)
    assert decide(loss, lost=9).state == "failed"


def test_a_drained_worker_counts_for_nothing():
    verdict = decide(Ending("preempted", charge=False), lost=9, noprog=2)

    assert (verdict.state, verdict.lost, verdict.noprog) == ("queued", 9, 2)


def test_a_file_that_fails_attempt_after_attempt_ends_the_job():
    assert decide(FILE, files=3, noprog=2, lost=9).state == "queued"
    verdict = decide(FILE, files=4)

    assert (verdict.state, verdict.files) == ("failed", 5)
    assert "5 attempts in a row ended because a file" in verdict.why_failed


def test_progress_spares_the_budget_of_files_too():
    verdict = decide(FILE, files=4, progressed=True)

    assert (verdict.state, verdict.files) == ("queued", 4)


def test_a_job_ends_after_a_thousand_attempts():
    assert decide(LOST, attempts=1000, progressed=True).state == "failed"


def test_the_wait_doubles_up_to_a_quarter_of_an_hour():
    waits = [
        backoff_ms(
            CRASH, decide(CRASH, noprog=n), Limits(max_attempts_without_progress=99)
        )
        for n in (0, 1, 2, 50)
    ]

    for wait, full in zip(waits, (30_000, 60_000, 120_000, 900_000), strict=True):
        assert 0.8 * full <= wait <= full


@pytest.mark.parametrize(("files", "full"), [(0, 30_000), (2, 120_000)])
def test_a_job_whose_file_failed_rests_for_longer_each_time(files, full):
    wait = backoff_ms(FILE, decide(FILE, files=files), LIMITS)

    assert 0.8 * full <= wait <= full


def test_what_is_out_of_reach_is_waited_for_ever_longer_and_not_for_ever():
    verdicts = [decide(OUTAGE, lost=lost) for lost in range(10)]
    waits = [backoff_ms(OUTAGE, verdict, LIMITS) for verdict in verdicts[:9]]

    fulls = [60_000 * 2**n for n in range(6)] + [3_600_000] * 3
    for wait, full in zip(waits, fulls, strict=True):
        assert 0.8 * full <= wait <= full
    assert [verdict.state for verdict in verdicts] == ["queued"] * 9 + ["failed"]
    assert {(verdict.noprog, verdict.failures) for verdict in verdicts} == {(0, 0)}
    assert "Try the job again" in verdicts[-1].why_failed


def test_a_lost_attempt_does_not_wait():
    assert backoff_ms(LOST, decide(LOST), LIMITS) == 0
