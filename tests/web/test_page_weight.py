"""Pages of many rows: as few questions to the database, and no more on one page."""

import pytest
from sqlalchemy import event

MANY = 60  # more than a page holds


@pytest.fixture
def count_queries(app, root):
    """Counts what one page asks of the database."""
    asked = []
    database = app.extensions["trainyard"].database
    with database.reading() as session:
        engine = session.get_bind().engine
    event.listen(engine, "before_cursor_execute", lambda *a: asked.append(a[2]))

    def count(path):
        root.get(path)
        asked.clear()
        answer = root.get(path)
        assert answer.status_code == 200
        return len(asked)

    return count


def test_the_tables_ask_the_same_of_many_rows(root, rows, count_queries):
    paths = ("/jobs", "/jobs/table", "/datasets", "/jobs/new", "/users")
    dataset = rows.dataset(root.user_id, "first")
    rows.job(root.user_id, dataset)
    few = [count_queries(path) for path in paths]
    for number in range(MANY):
        rows.dataset(rows.user(f"user-{number}"), f"dataset {number}")
        rows.job(root.user_id, dataset, f"job {number}")

    many = [count_queries(path) for path in paths]

    assert min(few) > 0
    assert many == few
    assert "61 jobs" in root.get("/jobs").text
    assert "61 datasets" in root.get("/datasets").text
    assert "61 users" in root.get("/users").text
    assert root.get("/users").text.count("Make admin") < MANY
    assert "user-9<" in root.get("/users?page=2").text
    assert "user-9<" in root.get("/users?page=999").text
