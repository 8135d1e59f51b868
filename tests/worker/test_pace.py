"""How long a phase will take is told by what was done of it since it began here."""

import pytest

from worker import pace
from worker.pace import Pace


@pytest.fixture
def clock(monkeypatch):
    clock = {"now": 100.0}
    monkeypatch.setattr(pace.time, "monotonic", lambda: clock["now"])
    return clock


def test_nothing_is_told_before_there_is_something_to_go_by(clock):
    running = Pace("frozen")

    assert running.estimate(0, 10) is None
    clock["now"] += 5
    assert running.estimate(0, 10) is None


def test_the_rest_takes_as_long_as_what_was_done(clock):
    running = Pace("frozen")
    running.estimate(0, 10)
    clock["now"] += 6

    assert running.estimate(2, 10) == 24
    assert running.estimate(10, 10) == 0


def test_what_an_earlier_attempt_has_done_counts_for_nothing(clock):
    running = Pace("fine_tune")
    assert running.estimate(900, 1000) is None
    clock["now"] += 10

    assert running.estimate(910, 1000) == 90


def test_a_count_that_begins_anew_is_a_new_beginning(clock):
    running = Pace("prepare")
    running.estimate(50, 60)
    clock["now"] += 10

    assert running.estimate(1, 40) is None
    clock["now"] += 2
    assert running.estimate(2, 40) == 76


@pytest.mark.parametrize(("done", "total"), [(11, 10), (3, 0)])
def test_more_than_all_tells_nothing(clock, done, total):
    running = Pace("export")
    running.estimate(0, 10)

    assert running.estimate(done, total) is None
