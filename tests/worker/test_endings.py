"""The table of a child's ends: what is charged, what is final, what the user reads."""

import errno
import signal

import pytest

from worker.child import ChildExit
from worker.endings import (
    SLOT_REST_SECONDS,
    Failure,
    StopReason,
    decide,
    disk_failed,
    worker_failed,
)


@pytest.mark.parametrize(
    ("ended", "outcome", "charge", "permanent"),
    [
        (ChildExit(exit_code=0), "no_result", True, False),
        (ChildExit(exit_code=64), "rejected", False, True),
        (ChildExit(exit_code=69), "outage", False, False),
        (ChildExit(exit_code=70), "failed", True, False),
        (ChildExit(exit_code=71), "gpu_oom", False, True),
        (ChildExit(exit_code=74), "io", False, False),
        (ChildExit(exit_code=75), "killed", False, False),
        (ChildExit(exit_code=1), "crash", True, False),
        (ChildExit(exit_code=127), "crash", True, False),
        (ChildExit(signal=signal.SIGTERM), "killed", False, False),
        (ChildExit(signal=signal.SIGKILL), "killed", False, False),
        (ChildExit(signal=signal.SIGKILL, oom=True), "oom", True, False),
        (ChildExit(signal=signal.SIGSEGV), "crash", True, False),
        (ChildExit(signal=signal.SIGABRT), "crash", True, False),
        (ChildExit(signal=200), "crash", True, False),
        (ChildExit(), "killed", False, False),
    ],
)
def test_unasked_end(ended, outcome, charge, permanent):
    ending = decide(ended)

    assert (ending.outcome, ending.charge, ending.permanent) == (
        outcome,
        charge,
        permanent,
    )
    assert ending.reason.endswith(".")


@pytest.mark.parametrize(
    ("asked", "outcome", "charge"),
    [
        (StopReason.CANCEL, "cancelled", False),
        (StopReason.PAUSE, "paused", False),
        (StopReason.DRAIN, "preempted", False),
        (StopReason.STALLED, "stalled", True),
        (StopReason.UNCONFIRMED, "unconfirmed", False),
    ],
)
@pytest.mark.parametrize(
    "ended", [ChildExit(exit_code=75), ChildExit(signal=15), ChildExit(signal=9)]
)
def test_asked_end(asked, outcome, charge, ended):
    ending = decide(ended, asked=asked)

    assert (ending.outcome, ending.charge) == (outcome, charge)


def test_failure_while_stopping_is_still_a_failure():
    ending = decide(ChildExit(exit_code=70), asked=StopReason.DRAIN)

    assert (ending.outcome, ending.user_failure) == ("failed", True)


def test_child_speaks_for_itself():
    failure = Failure("image_size", "`image_size_px` must be 32 to 1024.")
    ending = decide(ChildExit(exit_code=64), failure=failure)

    assert ending.reason == "`image_size_px` must be 32 to 1024."
    assert ending.failure_code == "image_size"


def test_what_is_out_of_reach_is_nobodys_failure():
    failure = Failure("outage", "https://a/b.zip could not be fetched.")
    ending = decide(ChildExit(exit_code=69), failure=failure)

    assert (ending.user_failure, ending.slot_rest_seconds) == (False, 0)
    assert ending.reason == "https://a/b.zip could not be fetched."


def test_child_may_say_that_trying_again_cannot_help():
    failure = Failure("weights", "The weights are not there.", permanent=True)

    assert decide(ChildExit(exit_code=70), failure=failure).permanent


def test_what_a_killed_child_had_said_is_not_its_end():
    failure = Failure("weights", "The weights are not there.", permanent=True)

    assert not decide(ChildExit(signal=9), failure=failure).permanent


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.7, "0.7 seconds"), (90, "90 seconds"), (900, "15 min")]
)
def test_limits_are_named_as_people_say_them(seconds, words):
    ending = decide(
        ChildExit(signal=9), asked=StopReason.STALLED, silence_seconds=seconds
    )

    assert words in ending.reason


def test_full_disk_rests_the_slot_and_charges_nobody():
    ending = disk_failed(OSError(errno.ENOSPC, "No space left on device", "/data/x"))

    assert (ending.outcome, ending.charge) == ("io", False)
    assert ending.slot_rest_seconds == SLOT_REST_SECONDS
    assert "No space left on device (/data/x)" in ending.reason


def test_file_name_that_is_no_text_can_be_told_to_the_record():
    ending = disk_failed(OSError(errno.EIO, "Input/output error", "/data/\udcff.png"))

    assert ending.reason.encode().endswith(b"(/data/?.png).")


def test_own_error_names_its_class():
    assert "KeyError" in worker_failed("KeyError").reason
