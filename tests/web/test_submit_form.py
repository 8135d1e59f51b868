"""Queue, time and sweep in the form: the API's words, beside the field."""

import re
from datetime import UTC, datetime
from html import unescape

import pytest

from shared import job_read_store


@pytest.fixture
def values(ana, rows):
    """The form, filled in as far as it must be."""
    return {
        "dataset": [rows.dataset(ana.user_id)],
        "preset": ["fast"],
        "base_model": ["EfficientNetLite0"],
        "key": "form-key",
    }


def list_jobs(rows):
    """Every training job, the first one first."""
    with rows.database.reading() as session:
        found = job_read_store.list_jobs(session, kind="train", page_size=500)
    return found.items[::-1]


def sweep(*lines, **more):
    """The fields of a sweep: (setting, how, values) for each row."""
    fields = {}
    for place, line in enumerate(lines):
        for name, value in zip(("setting", "how", "values"), line, strict=True):
            fields[f"sweep.{place}.{name}"] = value
    return fields | {f"sweep.{name}": value for name, value in more.items()}


def find_error(page, place):
    """What a page says beside one field; '' for nothing."""
    found = re.search(rf'id="e-{re.escape(place)}">([^<]*)<', page)
    return unescape(found[1]) if found else ""


def is_open(page, summary):
    """Whether a collapsed group of the form is open."""
    head = page[: page.index(f">{summary}</summary>")]
    return "open" in re.findall(r"<details[^>]*>", head)[-1]


def test_at_first_both_groups_are_closed_and_name_every_setting(ana, values):
    page = ana.get("/jobs/new").text

    assert not is_open(page, "When and where")
    assert not is_open(page, "Sweep")
    for setting in ("head.dropout", "frozen_learning_rate", "augmentation.rotation"):
        assert page.count(f"<option >{setting}</option>") == 3
    assert "in UTC" in page


def test_when_and_where_reach_the_job(ana, rows, values):
    rows.worker("large gpu", queues=["night"], gpu_mem_mb=8000)

    ana.send(
        "/jobs/new", "/jobs/new", **values, queue="night", priority="-7",
        gpu_mem_mb="8000", not_before="2100-01-01T12:30", zone="+05:30",
        preemptible="true",
    )  # fmt: skip

    (job,) = list_jobs(rows)
    assert (job.queue, job.priority, job.gpu_mem_mb) == ("night", -7, 8000)
    due = datetime(2100, 1, 1, 7, 0, tzinfo=UTC)
    assert job.not_before == due.timestamp() * 1000
    assert job.preemptible


def test_a_browser_that_tells_no_time_zone_means_utc(ana, rows, values):
    ana.send("/jobs/new", "/jobs/new", **values, not_before="2100-01-01T12:30")

    (job,) = list_jobs(rows)
    due = datetime(2100, 1, 1, 12, 30, tzinfo=UTC)
    assert job.not_before == due.timestamp() * 1000
    assert (job.queue, job.priority, job.gpu_mem_mb) == ("default", 0, 0)


def test_the_form_makes_the_jobs_that_the_api_makes(ana, api, rows, values):
    rate = {"low": 1e-5, "high": 1e-2, "log": True}
    asked = {
        "grid": {"head.units": [[], [64, 32]], "optimizer": ["adam", "sgd"]},
        "random": {"frozen_learning_rate": rate, "head.dropout": [0.1, 0.2, 0.3]},
        "trials": 3,
        "seed": 9,
    }
    lines = [
        ("head.units", "each", "[], [64, 32]"),
        ("optimizer", "each", "adam, sgd"),
        ("frozen_learning_rate", "each", "1e-5 : 1e-2 : log"),
        ("head.dropout", "drawn", "0.1, 0.2, 0.3"),
    ]
    api(ana.user_id)(
        "POST", "/jobs", json={"datasets": values["dataset"], "spec": {"sweep": asked}}
    )
    by_api = [job.spec for job in list_jobs(rows)]

    answer = ana.send(
        "/jobs/new", "/jobs/new", **values, **sweep(*lines, trials="3", seed="9")
    )

    assert "/groups/" in answer.location
    assert len(by_api) == 12
    assert [job.spec for job in list_jobs(rows)][12:] == by_api


FAULTS = [
    ({"priority": "101"}, {"priority": 101}, "priority"),
    ({"gpu_mem_mb": "-1"}, {"gpu_mem_mb": -1}, "gpu_mem_mb"),
    ({"gpu_mem_mb": "9"}, {"gpu_mem_mb": 9}, "gpu_mem_mb"),
    ({"queue": "nosuch"}, {"queue": "nosuch"}, "queue"),
    ({"model_name": "a/b"}, {"model_name": "a/b"}, "model_name"),
    ({"set.head.units": "0"}, {"spec": {"overrides": {"head": {"units": [0]}}}},
     "set.head.units"),
    (sweep(("seed", "each", "1, x")), {"spec": {"sweep": {"grid": {"seed": [1, "x"]}}}},
     "sweep.0"),
    (sweep(("seed", "each", "")), {"spec": {"sweep": {"grid": {"seed": []}}}},
     "sweep.0"),
    (sweep(("", "", ""), ("head.units", "each", "[0]")),
     {"spec": {"sweep": {"grid": {"head.units": [0]}}}}, "sweep.1"),
    (sweep(("seed", "drawn", "9:1")),
     {"spec": {"sweep": {"random": {"seed": {"low": 9, "high": 1}}}}}, "sweep.0"),
    (sweep(("seed", "drawn", "1:9"), ("fit", "each", "pad, crop"), trials="1001"),
     {"spec": {"sweep": {"random": {"seed": {"low": 1, "high": 9}},
                         "grid": {"fit": ["pad", "crop"]}, "trials": 1001}}},
     "sweep.trials"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "body", "place"), FAULTS)
def test_a_fault_is_told_beside_its_field_as_the_api_tells_it(  # noqa: PLR0917
    ana, api, rows, values, fields, body, place
):
    refused = api(ana.user_id)(
        "POST", "/jobs", json={"datasets": values["dataset"], **body}
    )

    answer = ana.send("/jobs/new", "/jobs/new", **values | fields)

    page = answer.text
    assert answer.status_code == refused.status_code >= 400
    assert find_error(page, place) == refused.json["detail"] != ""
    assert page.count('id="e-') == 1
    assert 'aria-invalid="true"' in page
    for value in fields.values():
        assert f'value="{value}"' in page or f"selected>{value}<" in page
    assert list_jobs(rows) == []


def test_all_faults_of_a_request_are_told_at_once(ana, values):
    fields = {"priority": "high", "gpu_mem_mb": "lots", "not_before": "soon"}

    answer = ana.send("/jobs/new", "/jobs/new", **values, **fields)

    assert answer.status_code == 422
    for place, text in fields.items():
        assert f"`{place}`: Input should be a valid" in find_error(answer.text, place)
        assert f'value="{text}"' in answer.text
    assert is_open(answer.text, "When and where")
    assert not is_open(answer.text, "Sweep")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (sweep(("seed", "each", "1"), ("seed", "each", "2")), "is there twice"),
        (sweep(("fit", "each", "pad"), ("", "each", "1, 2")), "takes these values: 1"),
        (sweep(("fit", "each", "pad"), ("seed", "drawn", "1:x")), "for example"),
    ],
)
def test_rows_that_cannot_be_read_are_told_of(ana, values, fields, words):
    answer = ana.send("/jobs/new", "/jobs/new", **values, **fields)

    assert answer.status_code == 400
    assert words in find_error(answer.text, "sweep.1")
    assert is_open(answer.text, "Sweep")


def test_faults_of_the_draws_stand_beside_their_own_fields(ana, values):
    fields = sweep(("seed", "drawn", "1:9"), trials="0", seed="x")

    page = ana.send("/jobs/new", "/jobs/new", **values, **fields).text

    assert "greater than or equal to 1" in find_error(page, "sweep.trials")
    assert "valid integer" in find_error(page, "sweep.seed")
    assert find_error(page, "sweep.0") == ""


def test_more_than_two_thousand_jobs_are_refused_with_their_number(ana, rows, values):
    fields = sweep(("seed", "drawn", "1:99999"), trials="1500")

    answer = ana.send(
        "/jobs/new", "/jobs/new", **values | {"preset": ["fast", "best"]}, **fields
    )

    assert answer.status_code == 400
    assert find_error(answer.text, "sweep") == (
        "One submission makes at most 2000 jobs. Received: 2001 or more."
    )
    assert list_jobs(rows) == []


def test_the_number_of_trainings_is_told_while_a_sweep_is_filled_in(ana):
    def count(*lines, **more):
        return ana.send("/jobs/new/sweep", "/jobs/new", **sweep(*lines, **more)).json

    assert count() == {"trainings": 1}
    assert count(trials="5") == {"trainings": 1}
    assert count(("seed", "each", "1, 2, 2")) == {"trainings": 2}
    drawn = [("seed", "each", "1, 2"), ("mixup", "each", "0.1:0.9")]
    assert count(*drawn, trials="30") == {"trainings": 60}
    long = ", ".join(map(str, range(1500)))
    assert count(("seed", "each", long)) == {"trainings": 1500}
    assert "Asked for: 4000" in count(*drawn, trials="2000")["problem"]
    assert "`trials`" in count(*drawn, trials="many")["problem"]


def test_an_odd_number_of_a_row_is_left_out(ana, rows, values):
    odd = {"sweep.99.setting": "seed", "sweep.x.values": "1", "sweep.0.colour": "red"}

    answer = ana.send("/jobs/new", "/jobs/new", **values, **odd)

    assert answer.status_code == 302
    assert len(list_jobs(rows)) == 1
