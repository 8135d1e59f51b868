"""What a worker's row says of its base models, on both databases."""

from shared import worker_store
from tests.factories import make_worker

HAS_ONE = {"ready": ["MobileNet"], "folders": ["/weights"], "download": True}
HAS_TWO = HAS_ONE | {"ready": ["MobileNet", "VGG16"]}


def read(database, worker_id):
    with database.reading() as session:
        return worker_store.get_worker(session, worker_id).base_models


def test_a_worker_that_trains_nothing_says_nothing(database):
    with database.transaction() as session:
        worker_id = make_worker(session, "host/cpu")

    assert read(database, worker_id) is None


def test_a_beat_without_news_leaves_what_the_row_says(database):
    with database.transaction() as session:
        worker_id = make_worker(session, "host/cpu", base_models=HAS_ONE)
        worker_store.beat(session, worker_id)

    assert read(database, worker_id) == HAS_ONE


def test_a_beat_with_news_replaces_it(database):
    with database.transaction() as session:
        worker_id = make_worker(session, "host/cpu", base_models=HAS_ONE)
        worker_store.beat(session, worker_id, base_models=HAS_TWO)

    assert read(database, worker_id) == HAS_TWO


def test_a_restarted_worker_says_it_anew(database):
    with database.transaction() as session:
        worker_id = make_worker(session, "host/cpu", base_models=HAS_TWO)
        again = make_worker(session, "host/cpu", base_models=HAS_ONE)

    assert again == worker_id
    assert read(database, worker_id) == HAS_ONE
