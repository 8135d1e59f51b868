"""The jobs of a submission side by side: the best, every order, few statements."""

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import event, insert, text

from shared.child_environment import child_environment
from shared.tables import Job, Metric
from tests.web.served import serve_here

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def jobs(ana, rows):
    """Five jobs: three published, the second the best; one runs, one waits."""
    dataset = rows.dataset(ana.user_id)
    rates = (0.001, 0.01, 0.0001, 0.1, 1.0)
    numbers = [
        rows.job(
            ana.user_id, dataset, f"job {n}", "g", model="m",
            head={"dropout": 0.5 - n / 10}, frozen_learning_rate=rate,
        )
        for n, rate in enumerate(rates)
    ]  # fmt: skip
    rows.publish(numbers[0], epochs=4, accuracy=0.99)
    rows.publish(numbers[1], epochs=9, accuracy=0.90)
    rows.publish(numbers[2], epochs=2, accuracy=0.80)
    rows.run(numbers[3], epochs=20)
    return numbers


@pytest.fixture
def compare(api, ana):
    """Asks the API to compare submission `g`."""
    ask = api(ana.user_id)
    return lambda query="": ask("GET", f"/groups/g/comparison{query}")


def order(answer):
    return [row["job"] for row in answer.json["items"]]


def shown(page):
    """The numbers of the jobs that a page shows, in its order."""
    return [int(number) for number in re.findall(r'id="job-link-(\d+)"', page)]


def test_the_best_comes_first_and_what_has_no_result_last(ana, compare, jobs):
    answer = compare()

    best, second, third, runs, waits = answer.json["items"]
    assert order(answer) == [jobs[1], jobs[0], jobs[2], jobs[3], jobs[4]]
    assert [row["best"] for row in answer.json["items"]] == [True, *[False] * 4]
    assert best["val_accuracy"] == pytest.approx(0.95)
    assert (best["test_accuracy"], second["test_accuracy"]) == (0.9, 0.99)
    assert (best["epochs"], best["steps"], best["log_loss"]) == (9, 180, 0.31)
    assert best["published"] == "m:2"
    assert best["size_bytes"] > 0
    assert runs["val_accuracy"] > best["val_accuracy"], "and yet it has no result"
    assert runs["test_accuracy"] is runs["published"] is None
    assert (waits["state"], waits["val_accuracy"], waits["epochs"]) == (
        "queued",
        None,
        0,
    )
    assert answer.json["settings"] == ["head.dropout", "frozen_learning_rate"]
    assert third["settings"] == {"head.dropout": 0.3, "frozen_learning_rate": 0.0001}
    assert shown(ana.get("/groups/g").text) == order(answer)


def test_while_nothing_has_a_result_the_order_is_that_of_the_submission(
    ana, rows, compare
):
    dataset = rows.dataset(ana.user_id)
    numbers = [rows.job(ana.user_id, dataset, f"job {n}", "g", seed=n) for n in (3, 1)]
    rows.run(numbers[0])

    assert order(compare()) == numbers
    page = ana.get("/groups/g").text
    assert shown(page) == numbers
    assert "Nothing has a result yet" in page
    assert re.findall(r'aria-sort="(\w+)".*?>(\w+)<svg', page) == [("ascending", "Job")]


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("frozen_learning_rate", [2, 0, 1, 3, 4]),
        ("-frozen_learning_rate", [4, 3, 1, 0, 2]),
        ("head.dropout", [4, 3, 2, 1, 0]),
        ("val_accuracy", [2, 0, 1, 3, 4]),
        ("-val_accuracy", [3, 1, 0, 2, 4]),
        ("test_accuracy", [2, 1, 0, 3, 4]),
        ("-test_accuracy", [0, 1, 2, 3, 4]),
        ("epochs", [2, 0, 1, 3, 4]),
        ("-job", [4, 3, 2, 1, 0]),
        ("-state", [0, 1, 2, 3, 4]),
    ],
)
def test_every_column_sorts_both_ways(ana, compare, jobs, sort, expected):
    page = ana.get(f"/groups/g?sort={sort}").text

    assert order(compare(f"?sort={sort}")) == [jobs[n] for n in expected]
    assert shown(page) == [jobs[n] for n in expected]
    way = "descending" if sort.startswith("-") else "ascending"
    assert re.findall(r'aria-sort="(\w+)"', page) == [way]
    back = sort.removeprefix("-") if way == "descending" else f"-{sort}"
    assert f'href="/groups/g?sort={back}"' in page


def test_an_order_that_is_none_is_refused_by_the_api_alone(ana, compare, jobs):
    answer = compare("?sort=colour")

    assert answer.status_code == 400
    assert (
        "`sort` must be one of head.dropout, frozen_learning_rate, job"
        in (answer.json["detail"])
    )
    assert shown(ana.get("/groups/g?sort=colour").text)[0] == jobs[1]


def test_what_follows_from_a_preset_is_no_column_of_its_own(ana, rows, compare):
    cells, leaves = (rows.dataset(ana.user_id, name) for name in ("cells", "leaves"))
    rows.job(ana.user_id, cells, "a", "g", preset="fast")
    rows.job(ana.user_id, cells, "b", "g", preset="best", seed=3)
    rows.job(ana.user_id, leaves, "c", "g", preset="best", base_model="MobileNet")

    assert compare().json["settings"] == ["dataset", "preset", "base_model", "seed"]
    assert compare().json["items"][1]["settings"] == {
        "dataset": "cells", "preset": "best", "base_model": "EfficientNetLite0",
        "seed": 3,
    }  # fmt: skip


def test_every_dataset_has_a_best_of_its_own(ana, rows, compare):
    for name in ("cells", "leaves"):
        dataset = rows.dataset(ana.user_id, name)
        for seed in (1, 2):
            number = rows.job(ana.user_id, dataset, name, "g", model=name, seed=seed)
            rows.publish(number, epochs=3 + seed)

    best = [row["settings"] for row in compare().json["items"] if row["best"]]

    assert best == [{"dataset": name, "seed": 2} for name in ("cells", "leaves")]
    assert "on each dataset" in ana.get("/groups/g").text


def test_a_dataset_that_was_deleted_is_called_so(ana, rows, compare, jobs):
    with rows.database.transaction() as s:
        s.execute(text("UPDATE jobs SET dataset_id = 99 WHERE title = 'job 4'"))

    assert compare().json["items"][-1]["settings"]["dataset"] == "dataset 99 (deleted)"


def test_pages_of_a_comparison_keep_its_order(ana, compare, rows):
    dataset = rows.dataset(ana.user_id)
    jobs = [rows.job(ana.user_id, dataset, "job", "g", seed=n) for n in range(60)]

    assert order(compare("?sort=-seed&page=2&page_size=20")) == jobs[39:19:-1]
    page = ana.get("/groups/g?sort=-seed&page=2").text
    assert shown(page) == jobs[9::-1]
    assert "sort=-seed&amp;page=1" in page or "page=1&amp;sort=-seed" in page
    polled = ana.get("/groups/g/table?sort=-seed&page=1").text
    assert shown(polled) == jobs[:9:-1]


DOUBLINGS = 10


def multiply(rows):
    """Makes 1,024 jobs of the one there is, with curves of ten epochs each."""
    names = [c.name for c in Job.__table__.columns]
    kept = ", ".join(n for n in names if n not in {"id", "idempotency_key"})
    with rows.database.transaction() as s:
        for n in range(DOUBLINGS):
            s.execute(
                text(
                    f"INSERT INTO jobs (idempotency_key, {kept}) SELECT "
                    f"idempotency_key || '-{n}', {kept} FROM jobs WHERE kind = 'train'"
                )
            )
        points = [
            {"job_id": job, "name": "val_accuracy", "fence": 1, "seq": epoch,
             "step": epoch, "epoch": epoch, "value": (job % 997 + epoch) / 1100}
            for job in s.scalars(text("SELECT id FROM jobs WHERE kind = 'train'"))
            for epoch in range(10)
        ]  # fmt: skip
        s.execute(insert(Metric), points)


@pytest.fixture
def count_statements(ana, rows):
    """Counts what one answer asks of the database."""
    asked = []
    with rows.database.reading() as session:
        engine = session.get_bind().engine
    event.listen(engine, "before_cursor_execute", lambda *a: asked.append(a[2]))

    def count(path):
        ana.get(path)  # what is asked once is not counted
        asked.clear()
        answer = ana.get(path)
        assert answer.status_code == 200
        return len(asked)

    return count


def test_a_thousand_jobs_are_compared_in_as_few_statements_as_one(
    ana, rows, count_statements
):
    paths = ("/groups/g", "/groups/g/table?sort=-val_accuracy", "/groups/g/points.json")
    job = rows.job(ana.user_id, rows.dataset(ana.user_id), "job", "g")
    few = [count_statements(path) for path in paths]
    multiply(rows)

    many = [count_statements(path) for path in paths]

    assert many == few
    assert max(many) <= 7  # those of the sign-in among them
    page = ana.get("/groups/g?sort=-val_accuracy").text
    assert "Submission of 1,024 jobs" in page
    assert len(shown(page)) == 50
    assert shown(page)[0] % 997 == 996
    assert job in shown(ana.get("/groups/g").text)


def test_the_charts_show_the_best_curves_and_each_swept_number(ana, jobs):
    charts = ana.get("/groups/g/charts.json").json
    points = ana.get("/groups/g/points.json").json

    names = ["chart-curves", "chart-setting-0", "chart-setting-1"]
    assert [chart["target_id"] for chart in charts] == names
    assert "LogAxis" not in json.dumps(charts[1])
    assert "LogAxis" in json.dumps(charts[2]), "rates were drawn by magnitude"
    assert [key["job"] for key in points["keys"]] == [jobs[n] for n in (1, 0, 2, 3)]
    assert points["keys"][0]["words"] == "head.dropout 0.4 · frozen_learning_rate 0.01"
    columns = points["columns"]
    assert columns["curve-0"]["epoch"] == [*range(1, 10)]
    assert columns["curve-0"]["accuracy"][-1] == pytest.approx(0.95)
    assert columns["curve-4"]["epoch"] == []
    assert columns["setting-1"]["value"] == [0.001, 0.01, 0.0001, 0.1]
    assert columns["best-1"]["value"] == [0.01]
    page = ana.get("/groups/g").text
    assert page.count('id="chart-setting-') == 2


@pytest.fixture
def command(app, settings, rows, ana, jobs):
    """Runs `trainyard` against these jobs, as they are served."""
    with serve_here(app) as address:
        environment = child_environment(
            settings, TRAINYARD_URL=address, TRAINYARD_TOKEN=rows.token(ana.user_id)
        )

        def run(*arguments):
            return subprocess.run(
                [sys.executable, "-m", "cli", "jobs", "compare", *arguments],
                env=environment | {"COLUMNS": "200"},
                cwd=ROOT, capture_output=True, text=True, check=False,
            )  # fmt: skip

        yield run


def test_the_command_line_compares_as_words_csv_and_json(command, jobs):
    words = command("g").stdout.splitlines()
    table = list(csv.DictReader(io.StringIO(command("g", "--csv").stdout)))
    content = json.loads(command("g", "--sort=-test_accuracy", "--json").stdout)
    missing, both = command("none"), command("g", "--csv", "--json")

    assert words[0].split()[:4] == [
        "job",
        "head.dropout",
        "frozen_learning_rate",
        "state",
    ]
    assert words[1].split()[:5] == [str(jobs[1]), "best", "0.4", "0.01", "succeeded"]
    assert "95.00 %" in words[1]
    assert [row["job"] for row in table] == [str(jobs[n]) for n in (1, 0, 2, 3, 4)]
    assert (table[0]["best"], table[1]["best"]) == ("true", "false")
    assert (table[0]["frozen_learning_rate"], table[0]["published"]) == ("0.01", "m:2")
    assert table[4]["val_accuracy"] == ""
    assert content["items"][0]["job"] == jobs[0]
    assert (missing.returncode, both.returncode) == (1, 1)
    assert "no such submission" in missing.stderr
