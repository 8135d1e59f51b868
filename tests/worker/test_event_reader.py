"""The reader of a child's pipe: whatever comes down, only events come out."""

import json
import os

import pytest

from worker.event_reader import LONGEST_LINE_BYTES, EventReader


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    yield EventReader(reading), writing
    os.close(reading)
    os.close(writing)


def write(descriptor, *lines):
    os.write(descriptor, b"".join(line + b"\n" for line in lines))


def test_nothing_has_arrived_is_no_event(pipe):
    reader, _ = pipe

    assert reader.read_available() == []


def test_events_come_out_in_order(pipe):
    reader, writing = pipe
    write(writing, b'{"event":"phase","phase":"a"}', b'{"event":"phase","phase":"b"}')

    assert [e["phase"] for e in reader.read_available()] == ["a", "b"]


def test_line_torn_between_two_reads_is_put_together(pipe):
    reader, writing = pipe
    os.write(writing, b'{"event":"no')
    first = reader.read_available()
    os.write(writing, b'te"}\n')

    assert first == []
    assert reader.read_available() == [{"event": "note"}]


@pytest.mark.parametrize(
    "line",
    [
        b"hello",
        b"{}",
        b"[1]",
        b"3",
        b'{"event":5}',
        b"\xff\xfe\x00",
        b'{"event":"x"',
        b"[" * 200_00,
    ],
)
def test_anything_else_is_counted_and_skipped(pipe, line):
    reader, writing = pipe
    write(writing, line, b'{"event":"after"}')

    assert reader.read_available() == [{"event": "after"}]
    assert reader.dropped_lines == 1


def test_line_without_an_end_takes_no_memory_and_the_next_one_is_heard(pipe):
    reader, writing = pipe
    for _ in range(3 * LONGEST_LINE_BYTES // 65536):
        os.write(writing, b"x" * 65536)
        assert reader.read_available() == []
        assert len(reader._unread) <= LONGEST_LINE_BYTES
    write(writing, b"still the same line", b'{"event":"after"}')

    assert reader.read_available() == [{"event": "after"}]
    assert reader.dropped_lines == 1


def test_closed_pipe_is_no_event(pipe):
    reader, writing = pipe
    other, end = os.pipe()
    os.close(end)
    closed = EventReader(other)

    assert closed.read_available() == []
    os.close(other)
    write(writing, json.dumps({"event": "x"}).encode())
    assert len(reader.read_available()) == 1
