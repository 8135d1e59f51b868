"""The page of all promises: its record, its charts, a thousand rows."""

import json
import re

import pytest

from shared.forecast_tables import TrainingPromise


@pytest.fixture
def promised(rows):
    """Writes promises; every fourth has not delivered yet, every fifth was missed."""

    def write(count):
        with rows.database.transaction() as s:
            s.add_all(make_promise(number) for number in range(1, count + 1))

    return write


def make_promise(number):
    delivered = number % 4 != 0
    accuracy = 0.5 if number % 5 == 0 else 0.88
    return TrainingPromise(
        job_id=number, forecast_id=1, dataset_name=f"cells {number}", preset="fast",
        accuracy_low=0.84, accuracy=0.87, accuracy_high=0.91, seconds_low=25.0,
        seconds=40.0, seconds_high=70.0, made_at=1_700_000_000_000 + number,
        delivered_accuracy=accuracy if delivered else None,
        delivered_seconds=50.0 if delivered else None,
        delivered_at=2 if delivered else None,
    )  # fmt: skip


def test_without_promises_the_page_says_how_they_come_about(ana):
    assert "Nothing was promised yet" in ana.get("/promises").text
    assert 'href="/promises"' in ana.get("/jobs").text


def test_promises_that_are_not_due_have_no_record_yet(ana, rows):
    with rows.database.transaction() as s:
        s.add(make_promise(4))

    shown = ana.get("/promises").text

    assert "None of these trainings has finished yet" in shown
    assert "data-chart" not in shown
    assert "84\N{EN DASH}91 %" in shown


def test_a_thousand_promises_come_in_pages_with_their_record(ana, promised):
    promised(1000)

    first = ana.get("/promises").text
    last = ana.get("/promises?page=20").text
    chart = ana.get("/promises/accuracy.json").json

    assert "80 %" in first
    assert "of 750 trainings" in first
    assert "1\N{EN DASH}50 of 1,000 promises" in first
    assert first.count("<tr>") == last.count("<tr>") == 51
    assert "outside the promised range" in first
    columns = chart["columns"]
    assert len(columns["accuracy-kept"]["job"]) == 600
    assert len(columns["accuracy-missed"]["job"]) == 150
    assert columns["accuracy-kept"]["job"][0] == 1, "the oldest comes first"


@pytest.mark.parametrize("chart", ["accuracy", "minutes"])
def test_kept_and_missed_promises_differ_by_more_than_their_colour(
    ana, promised, chart
):
    promised(3)

    drawn = json.dumps(ana.get(f"/promises/{chart}.json").json["chart"])
    shown = ana.get("/promises").text

    marks = re.findall(r'"marker": {"type": "value", "value": "(\w+)"}', drawn)
    assert drawn.count('"name": "Scatter"') > len(marks) > 0, "a circle is not named"
    assert set(marks) == {"inverted_triangle"}
    assert shown.count("; the newest of the same numbers are in the table below") == 2


def test_minutes_have_a_line_of_those_that_took_what_was_promised(ana, promised):
    promised(3)

    chart = ana.get("/promises/minutes.json").json

    assert chart["chart"]["target_id"] == "chart-promised-minutes"
    assert chart["columns"]["as-promised"]["taken"] == pytest.approx([2 / 3, 5 / 6])
    assert chart["columns"]["minutes-missed"]["job"] == []


def test_promise_of_a_deleted_job_leads_nowhere(ana, rows, promised):
    rows.job(ana.user_id, rows.dataset(ana.user_id))  # job 2
    promised(3)

    shown = ana.get("/promises").text

    assert 'href="/jobs/2"' in shown
    assert 'href="/jobs/3"' not in shown
    assert "Job 3" in shown


def test_people_who_are_not_signed_in_see_none(person):
    assert person.get("/promises").status_code == 302
    assert person.get("/promises/accuracy.json").status_code == 302
