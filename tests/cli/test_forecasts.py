"""What `forecast`, `dataset doctor` and `promises` print of a real installation."""

import json

import pytest
from typer.testing import CliRunner

from cli.app import app as commands
from cli.output import out
from shared import job_read_store
from shared.artifacts import Storage
from shared.database import Database
from shared.settings import Settings, get_settings
from tests.web.rows import Rows, make_told
from tests.web.served import serve


@pytest.fixture
def house(sqlite_url, tmp_path, monkeypatch):
    """A web server, and the command line as one of its users."""
    settings = Settings(
        data_dir=tmp_path / "data", database_url=sqlite_url, secret_key="k" * 32
    )
    settings.storage.mkdir(parents=True)
    database = Database(settings.database_address)
    rows = Rows(database, Storage(settings.storage))
    owner = rows.user()
    with serve(settings, tmp_path / "web.log") as (address, _):
        monkeypatch.setattr(out, "width", 200)  # tables are not wrapped
        monkeypatch.setenv("TRAINYARD_URL", address)
        monkeypatch.setenv("TRAINYARD_TOKEN", rows.token(owner))
        monkeypatch.setenv("TRAINYARD_DATA_DIR", str(settings.data_dir))
        get_settings.cache_clear()
        yield rows, owner, rows.dataset(owner, "cells")
    get_settings.cache_clear()
    database.dispose()


def run(*arguments):
    done = CliRunner().invoke(commands, arguments)
    assert done.exit_code == 0, done.output
    return done.output


def test_forecast_findings_and_promises_are_told_in_the_terminal(house):
    rows, owner, dataset = house

    queued = run("forecast", "cells")
    assert "forecasts it. Follow with `trainyard watch" in queued
    state = json.loads(run("forecast", "cells", "--json"))
    assert (state["job"]["state"], state["created"]) == ("queued", False)
    run("cancel", str(state["job"]["id"]))

    rows.forecast(owner, dataset)
    told = run("forecast", "cells", "--version", "1", "--wait")
    assert "Moderate: a linear classifier on frozen features gets 87.5 %" in told
    pair = next(line for line in told.splitlines() if "11.0 %" in line)
    assert pair.split() == ["defective", "intact", "21", "11.0", "%"]
    assert "91.0 % (87.0 to 94.0)" in told
    assert "Times are those of worker host cpu." in told
    assert "7 min 0 s (5 min 0 s to 10 min 40 s)" in told
    assert "Twice as many pictures would bring it to about 90 %." in told
    assert "EfficientNetLite1 best" in told
    assert "Findings: 18 (label conflict: 1, split leak: 2" in told

    found = run("dataset", "doctor", "cells", "--kind", "near_duplicate")
    assert found.count("near duplicate: ") == 3
    assert "near_duplicate/000-0.jpg" in found
    assert len(json.loads(run("dataset", "doctor", "cells", "--json"))) == 18

    assert "None yet." in run("promises")
    run("submit", "-d", "cells")
    rows.publish(4, accuracy=0.86)
    kept = run("promises")
    assert "Accuracy: 100 % of 1 trainings ended within the promised range" in kept
    assert "88.0 % (84.0 to 91.0)" in kept
    assert "86.0 %" in kept


def test_base_models_are_named_in_the_terminal(house):
    rows, owner, dataset = house
    rows.worker(base_models=make_told(["MobileNet", "VGG16"]))
    rows.forecast(owner, dataset)

    told = run("forecast", "cells")
    queued = run(
        "forecast", "cells", "--base-model", "VGG16", "--base-model", "MobileNet"
    )

    assert "2 of 4 available base models were compared." in told
    row = next(line for line in told.splitlines() if "EfficientNetLite0" in line)
    assert row.split() == ["EfficientNetLite0", "87.5", "%", "4.1", "3.4", "M"]
    assert "forecasts it. Follow with `trainyard watch" in queued
    with rows.database.reading() as s:
        found = job_read_store.list_jobs(s, kind="forecast", dataset_id=dataset)
    assert found.items[0].spec["base_models"] == ["VGG16", "MobileNet"]
    done = CliRunner().invoke(commands, ["forecast", "cells", "--base-model", "VG16"])
    assert done.exit_code == 1
    assert "Did you mean VGG16" in str(done.exception)


def test_findings_are_decided_from_the_terminal(house):
    rows, owner, dataset = house
    rows.forecast(owner, dataset)
    found = json.loads(run("dataset", "doctor", "cells", "--json"))
    keys = {finding["kind"]: finding["key"] for finding in found}

    told = run(
        "dataset", "decide", "cells", "--accept", keys["blurred"],
        "--relabel", f"{keys['label_conflict']}=intact", "--exclude", keys["outlier"],
        "--all", "suspect_label=relabel", "--deal", "folder", "--no-wait",
    )  # fmt: skip

    assert "1 finding accepted" in told
    assert "pictures relabelled." in told
    assert "1 picture excluded." in told
    assert "makes the next version." in told
    with rows.database.reading() as s:
        job = job_read_store.list_jobs(s, kind="ingest", dataset_id=dataset).items[0]
    assert {edit["action"] for edit in job.spec["edits"]} == {"relabel", "exclude"}
    assert job.spec["split"] == {"by": "folder", "again": True}
    for wrong in (["--all", "blurred"], ["--deal", "nonsense"]):
        done = CliRunner().invoke(commands, ["dataset", "decide", "cells", *wrong])
        assert done.exit_code == 1
        assert "Received: " in str(done.exception)
