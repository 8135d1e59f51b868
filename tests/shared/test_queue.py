"""The doorbell, with a real broker."""

import time

import pytest
from celery.app.defaults import NAMESPACES, flatten

from shared import queue
from shared.settings import Settings
from tests.services import wait_until


@pytest.fixture
def bell(broker, monkeypatch, tmp_path):
    """The bell of a process that is set to the test's broker."""
    settings = Settings(data_dir=tmp_path, redis_url=broker.url)
    monkeypatch.setattr(queue, "get_settings", lambda: settings)
    queue.build_producer.cache_clear()
    yield queue
    while not queue._bell()._kicks.empty():
        queue._bell()._kicks.get_nowait()
    queue.build_producer().close()
    queue.build_producer.cache_clear()


def test_a_ring_is_heard_in_the_queue_of_its_kind(bell):
    bell.ring("train")
    bell.ring("ingest")

    for name in (queue.TRAIN_QUEUE, queue.CPU_QUEUE):
        wait_until(lambda name=name: bell.queue_length(name) == 1, what=name)


def test_ringing_never_waits_and_never_fails(bell, broker):
    broker.kill()
    started_at = time.monotonic()

    for _ in range(1000):
        bell.ring("train")

    assert time.monotonic() - started_at < 2


def test_the_bell_works_again_when_the_broker_is_back(bell, broker):
    broker.kill()
    bell.ring("train")
    broker.start()

    def heard():
        bell.ring("train")
        return bell.queue_length(queue.TRAIN_QUEUE)

    wait_until(heard, what="the bell")


def test_a_kick_says_nothing_but_its_queue(bell, broker):
    bell.kick(queue.TRAIN_QUEUE)

    lists = list(broker.client().scan_iter(_type="list"))
    assert lists == [b"trainyard:trainyard.train"]
    (key,) = lists
    message = broker.client().lrange(key, 0, -1)[0]
    assert b'"task": "trainyard.kick"' in message
    assert b"pickle" not in message


def test_every_setting_of_the_producer_is_one_that_celery_knows(bell):
    known = {name.lower() for name in flatten_names()}

    ours = set(bell.build_producer().conf.changes) - {"deprecated_settings"}
    assert ours <= known


def flatten_names():
    """Names of all of Celery's settings."""
    return [name for name, _ in flatten(NAMESPACES)]


def test_each_kind_has_one_queue():
    assert queue.queue_of("train") == queue.TRAIN_QUEUE
    assert queue.kinds_of(queue.TRAIN_QUEUE) == ["train", "forecast"]
    assert queue.kinds_of(queue.CPU_QUEUE) == ["ingest", "predict"]
