"""The two threads of a lease: what they say, and when they fall silent."""

import threading
import time

import pytest

from shared.errors import LostLease
from tests.worker.processes import wait_until
from worker.lease import DeadlineKeeper, LeaseKeeper

HEARTBEAT_SECONDS = 0.02


@pytest.fixture
def make_keeper():
    started = []

    def make(renew, loop_seconds=60.0):
        keeper = LeaseKeeper(renew, HEARTBEAT_SECONDS, loop_seconds)
        keeper.start()
        started.append(keeper)
        return keeper

    yield make
    for keeper in started:
        keeper.stop()


def refuse():
    raise LostLease("taken over")


def fail():
    raise OSError("no route")


def test_answers_of_the_renewals_are_remembered(make_keeper):
    keeper = make_keeper(lambda: "pause")

    wait_until(lambda: keeper.desired == "pause")
    assert keeper.may_go_on(60)


def test_refused_renewal_ends_everything(make_keeper):
    keeper = make_keeper(refuse)

    wait_until(lambda: keeper.lost)
    assert not keeper.may_go_on(60)
    with pytest.raises(LostLease):
        keeper.check()


def test_failed_renewals_end_it_only_after_the_limit(make_keeper):
    keeper = make_keeper(fail)
    time.sleep(0.2)

    keeper.check()
    assert keeper.may_go_on(60)
    assert not keeper.may_go_on(0.1)


def test_child_may_live_for_a_lease_but_not_beyond_the_limit(make_keeper):
    keeper = make_keeper(fail)
    time.sleep(0.2)

    assert keeper.seconds_to_live(10, 60) == 10
    assert keeper.seconds_to_live(10, 1) <= 0.8 + HEARTBEAT_SECONDS
    assert keeper.seconds_to_live(10, 0.1) == HEARTBEAT_SECONDS


def test_loop_that_hangs_is_not_renewed(make_keeper):
    beats = []
    keeper = make_keeper(lambda: beats.append(1) or "run", loop_seconds=0.2)
    wait_until(lambda: beats)

    wait_until(lambda: not keeper.may_go_on(60))
    heard = len(beats)
    time.sleep(0.2)
    assert len(beats) <= heard + 1  # one may have been under way


def test_loop_that_turns_again_is_renewed_again(make_keeper):
    keeper = make_keeper(lambda: "run", loop_seconds=0.1)
    wait_until(lambda: not keeper.may_go_on(60))

    keeper.check()

    assert keeper.may_go_on(60)


def test_renewal_that_hangs_counts_as_unconfirmed(make_keeper):
    released = threading.Event()
    keeper = make_keeper(lambda: released.wait(10) and "run")
    time.sleep(0.2)

    assert not keeper.may_go_on(0.1)
    released.set()
    wait_until(lambda: keeper.may_go_on(0.1))


def test_deadline_is_moved_on_only_while_the_child_may_go_on():
    said, allowed = [], threading.Event()
    keeper = DeadlineKeeper(
        lambda: said.append(1), allowed.is_set, heartbeat_seconds=0.02
    )
    keeper.start()
    time.sleep(0.1)
    assert said == []

    allowed.set()

    wait_until(lambda: len(said) > 2)
    keeper.stop()


def test_nothing_is_said_after_the_stop():
    said = []
    keeper = DeadlineKeeper(lambda: said.append(1), lambda: True, 0.01)
    keeper.start()
    wait_until(lambda: said)
    keeper.stop()
    heard = len(said)
    time.sleep(0.1)

    assert len(said) == heard
