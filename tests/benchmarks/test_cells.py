"""Finished cells of a benchmark are kept, and only as long as their facts hold."""

import json
import multiprocessing
import threading

import pytest

from benchmarks import cells
from benchmarks.cells import Cells


class Measurement:
    """Counts how often it is taken."""

    def __init__(self, **values):
        self.values = values
        self.taken = 0

    def __call__(self):
        self.taken += 1
        return self.values


def test_a_finished_cell_is_not_measured_again(tmp_path):
    run = Measurement(seconds=1.5)

    first = Cells("speed", {"data": "a"}, tmp_path).measure("ours 1", {"seed": 1}, run)
    again = Cells("speed", {"data": "a"}, tmp_path).measure("ours 1", {"seed": 1}, run)

    assert run.taken == 1
    assert again == first
    assert first["seconds"] == 1.5
    assert len(first["measured"]["load"]) == 2


@pytest.mark.parametrize(
    ("shared_facts", "facts"),
    [({"data": "b"}, {"seed": 1}), ({"data": "a"}, {"seed": 2})],
)
def test_other_facts_are_another_cell(tmp_path, shared_facts, facts):
    run = Measurement(seconds=1.5)
    Cells("speed", {"data": "a"}, tmp_path).measure("ours", {"seed": 1}, run)

    Cells("speed", shared_facts, tmp_path).measure("ours", facts, run)

    assert run.taken == 2


def test_facts_with_tuples_are_found_again(tmp_path):
    run = Measurement(seconds=1.5)
    table = Cells("speed", {"shares": (0.8, 0.2)}, tmp_path)
    table.measure("ours", {}, run)

    table.measure("ours", {}, run)

    assert run.taken == 1


def test_a_fresh_measurement_replaces_the_kept_one(tmp_path):
    table = Cells("speed", {}, tmp_path)
    table.measure("ours", {}, Measurement(seconds=1.5))

    table.measure("ours", {}, Measurement(seconds=2.5), fresh=True)

    kept = table.measure("ours", {}, Measurement(seconds=3.5))
    assert kept["seconds"] == 2.5


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"facts": {}}'])
def test_a_damaged_cell_is_measured_again(tmp_path, damage):
    run = Measurement(seconds=1.5)
    table = Cells("speed", {}, tmp_path)
    table.measure("ours", {}, run)
    (file,) = (tmp_path / "speed").glob("*.json")
    file.write_text(damage)

    values = table.measure("ours", {}, run)

    assert run.taken == 2
    assert values["seconds"] == 1.5
    assert json.loads(file.read_text())["values"] == values


def test_a_measurement_that_fails_keeps_nothing(tmp_path):
    def fail():
        raise RuntimeError("the contender fell over")

    with pytest.raises(RuntimeError, match="fell over"):
        Cells("speed", {}, tmp_path).measure("ours", {}, fail)

    assert list((tmp_path / "speed").glob("*.json")) == []


def test_two_runs_never_measure_at_once(tmp_path):
    busy, most = multiprocessing.Value("i", 0), multiprocessing.Value("i", 0)

    def measure_one(number):
        def run():
            with busy.get_lock():
                busy.value += 1
                most.value = max(most.value, busy.value)
            threading.Event().wait(0.2)
            with busy.get_lock():
                busy.value -= 1
            return {}

        Cells("speed", {}, tmp_path).measure("ours", {"seed": number}, run)

    fork = multiprocessing.get_context("fork")
    runs = [fork.Process(target=measure_one, args=(number,)) for number in range(3)]
    for process in runs:
        process.start()
    for process in runs:
        process.join()

    assert [process.exitcode for process in runs] == [0, 0, 0]
    assert len(list((tmp_path / "speed").glob("*.json"))) == 3
    assert most.value == 1


def test_changed_code_has_another_digest(tmp_path, monkeypatch):
    monkeypatch.setattr(cells, "ROOT", tmp_path)
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "a.py").write_text("x = 1\n")
    (tmp_path / "alone.py").write_text("y = 1\n")
    before = cells.digest_sources("engine", "alone.py")
    same = cells.digest_sources("alone.py", "engine")

    (tmp_path / "engine" / "a.py").write_text("x = 2\n")

    assert before == same
    assert cells.digest_sources("engine", "alone.py") != before
