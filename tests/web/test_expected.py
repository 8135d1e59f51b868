"""What the submit form tells before anything is submitted, and what will be short."""

import dataclasses
import json
import re
import subprocess
import sys

import pytest

from shared import worker_store
from shared.presets import build_training_spec
from tests.web.forecast_example import make_forecast
from tests.web.served import serve_here
from web.jobs.form import DEFAULT_BASE_MODEL
from web.jobs.shortage import Wanted, find_shortages

GIB = 2**30


@pytest.fixture
def dataset(ana, rows):
    return rows.dataset(ana.user_id, "cells")


@pytest.fixture
def here(app):
    return app.extensions["trainyard"]


def need(preset="fast", *, disk=None, memory=None):
    """Entries of a forecast whose preset needs so much, in bytes."""
    presets = make_forecast()["presets"]
    if disk is not None:
        presets[preset]["disk_bytes"] = disk
    if memory is not None:
        presets[preset]["memory_bytes"] = memory
    return {"presets": presets}


def want(dataset, *presets, **overrides):
    specs = [(name, build_training_spec(name, overrides)) for name in presets]
    return Wanted([dataset], specs, "default")


class TestShortages:
    def test_disk_that_will_not_do_says_what_is_missing(self, ana, rows, here, dataset):
        rows.forecast(ana.user_id, dataset, **need(disk={"total": 2**60}))

        (warning,) = find_shortages(here, want(dataset, "fast"))

        assert "This job takes about 1048576.0 TiB of disk" in warning
        assert re.search(r"shared storage has .+ free: .+ are missing", warning)
        assert find_shortages(here, want(dataset, "balanced")) == []

    def test_trainings_of_a_sweep_share_pack_and_features(
        self, ana, rows, here, dataset
    ):
        parts = {"pack": 2**50, "features": 2**50, "checkpoints": 2**49}
        rows.forecast(
            ana.user_id, dataset, **need(disk={**parts, "total": sum(parts.values())})
        )
        ways = [
            ("fast", build_training_spec("fast", {"seed": seed})) for seed in range(4)
        ]

        (alike,) = find_shortages(here, Wanted([dataset], ways, "default"))
        other = build_training_spec("fast", {"image_size_px": 160})
        (more,) = find_shortages(
            here, Wanted([dataset], [*ways, ("fast", other)], "default")
        )

        assert "These 4 jobs take about 4096.0 TiB" in alike
        # Of 160 px a pack takes (160 / 224) ** 2 of what it takes of 224 px.
        assert "These 5 jobs take about 6154.4 TiB" in more

    def test_what_the_forecast_has_left_is_not_counted_again(
        self, ana, rows, here, dataset
    ):
        parts = {"pack": 2**50, "features": 2**50, "checkpoints": 2**49}
        there = {"there": 2**50 + 2**49, "total": sum(parts.values())}
        rows.forecast(ana.user_id, dataset, **need(disk=parts | there))

        (plain,) = find_shortages(here, want(dataset, "fast"))
        (other,) = find_shortages(here, want(dataset, "fast", image_size_px=160))

        assert "takes about 1024.0 TiB" in plain
        assert "takes about 2058.4 TiB" in other

    def test_preset_that_could_not_be_trained_is_told(self, ana, rows, here, dataset):
        presets = make_forecast()["presets"]
        presets["best"] |= {"obstacle": "it does not fit", "memory_bytes": None}
        rows.forecast(ana.user_id, dataset, presets=presets)

        (warning,) = find_shortages(here, want(dataset, "fast", "best"))

        assert warning == (
            "“cells” with best could not be trained on the worker that forecast it: it "
            "does not fit."
        )
        assert find_shortages(here, want(dataset, "fast")) == []

    def test_memory_is_compared_with_the_largest_worker_that_could(
        self, ana, rows, here, dataset
    ):
        rows.forecast(ana.user_id, dataset, **need(memory=6 * GIB))
        assert find_shortages(here, want(dataset, "fast")) == [], "nobody has told"
        tell_memory(rows, "small", 2048)
        tell_memory(rows, "middle", 4096)
        tell_memory(rows, "reads datasets", 65536, kinds=("ingest",))
        tell_memory(rows, "serves others", 65536, queues=("gpu",))

        (warning,) = find_shortages(here, want(dataset, "fast", "best"))

        assert "“cells” with fast holds about 6.0 GiB of memory" in warning
        assert "middle, has 4.0 GiB: 2.0 GiB are missing" in warning
        tell_memory(rows, "large", 8192)
        assert find_shortages(here, want(dataset, "fast")) == []

    @pytest.mark.parametrize("status", ["draining", "quarantined"])
    def test_memory_of_a_worker_that_takes_no_jobs_counts_for_nothing(
        self, ana, rows, here, dataset, status
    ):
        rows.forecast(ana.user_id, dataset, **need(memory=6 * GIB))
        tell_memory(rows, "small", 4096)
        large = tell_memory(rows, "large", 8192)
        with here.database.transaction() as session:
            worker_store.set_status(session, large, status)

        (warning,) = find_shortages(here, want(dataset, "fast"))

        assert "small, has 4.0 GiB" in warning

    @pytest.mark.parametrize(
        "change",
        [
            {"batch_size": 8},
            {"image_size_px": 128},
            {"base_model": "MobileNet"},
            {"fine_tune_epochs": 3},
            {"unfreeze_from": 0.1, "fine_tune_epochs": 1},
        ],
    )
    def test_memory_of_what_is_no_preset_any_more_is_not_told(
        self, ana, rows, here, dataset, change
    ):
        rows.forecast(ana.user_id, dataset, **need(memory=6 * GIB))
        tell_memory(rows, "small", 2048)

        assert find_shortages(here, want(dataset, "fast", **change)) == []

    @pytest.mark.parametrize(
        "change",
        [{"seed": 7}, {"frozen_learning_rate": 0.1}, {"image_size_px": 224}],
    )
    def test_memory_of_what_holds_as_much_is(self, ana, rows, here, dataset, change):
        rows.forecast(ana.user_id, dataset, **need(memory=6 * GIB))
        tell_memory(rows, "small", 2048)

        (warning,) = find_shortages(here, want(dataset, "fast", **change))

        assert "holds about 6.0 GiB of memory" in warning

    def test_storage_that_is_out_of_sight_warns_of_nothing(
        self, ana, rows, here, dataset, tmp_path
    ):
        rows.forecast(ana.user_id, dataset, **need(disk={"total": 2**60}))
        settings = here.settings.model_copy(update={"data_dir": tmp_path / "gone"})
        away = dataclasses.replace(here, settings=settings)

        assert find_shortages(away, want(dataset, "fast")) == []

    def test_without_a_forecast_or_with_an_odd_one_nothing_is_said(
        self, ana, rows, here, dataset
    ):
        assert find_shortages(here, want(dataset, "fast")) == []
        rows.forecast(ana.user_id, dataset, presets={"fast": {"memory_bytes": "much"}})
        tell_memory(rows, "small", 1)

        assert find_shortages(here, want(dataset, "fast")) == []
        assert find_shortages(here, Wanted([99], [], "default")) == []


class TestForm:
    def test_address_fills_the_form_and_its_promises_are_shown(
        self, ana, rows, dataset
    ):
        rows.forecast(ana.user_id, dataset)

        shown = ana.get(f"/jobs/new?dataset={dataset}&preset=balanced&preset=no").text

        assert is_checked(shown, "preset", "balanced")
        assert not is_checked(shown, "preset", "fast")
        assert is_checked(shown, "base_model", DEFAULT_BASE_MODEL)
        assert "What to expect" in shown
        assert "87\N{EN DASH}94 %" in shown
        assert "5\N{EN DASH}11 min" in shown
        assert "EfficientNetLite1 told these pictures apart best." in shown
        assert "Use EfficientNetLite1" in shown
        assert not is_checked(shown, "base_model", "EfficientNetLite1")

    def test_better_base_model_is_not_offered_when_it_is_chosen(
        self, ana, rows, dataset
    ):
        rows.forecast(ana.user_id, dataset)

        path = f"/jobs/new?dataset={dataset}&base_model=EfficientNetLite1"
        shown = ana.get(path).text

        assert is_checked(shown, "base_model", "EfficientNetLite1")
        assert "told these pictures apart" not in shown

    def test_form_without_chosen_datasets_promises_nothing(self, ana, dataset):
        assert "What to expect" not in ana.get("/jobs/new").text
        shown = ana.get(f"/jobs/new?dataset={dataset}").text
        assert "No forecast of its newest version yet" in shown

    def test_change_is_answered_with_the_parts_that_it_changes(
        self, ana, rows, dataset
    ):
        rows.forecast(ana.user_id, dataset, **need(disk={"total": 2**60}))
        chosen = {"dataset": dataset, "base_model": DEFAULT_BASE_MODEL}

        fast = ana.send("/jobs/new/expected", preset="fast", **chosen).text
        balanced = ana.send("/jobs/new/expected", preset="balanced", **chosen).text
        nothing = ana.send("/jobs/new/expected").text
        many = ana.send("/jobs/new/expected", dataset=list(range(40_000)))

        assert 'data-into="expected"' in fast
        assert "It can be submitted anyway" in fast
        assert "87\N{EN DASH}94 %" in balanced
        assert "It can be submitted anyway" not in balanced
        assert "What to expect" not in nothing
        assert many.status_code == 200

    def test_without_script_a_button_shows_it_and_submits_nothing(
        self, ana, rows, dataset
    ):
        rows.forecast(ana.user_id, dataset, **need(disk={"total": 2**60}))
        values = {
            "dataset": dataset, "preset": "fast", "base_model": DEFAULT_BASE_MODEL,
        }  # fmt: skip

        shown = ana.send("/jobs/new", **values, look="yes").text

        assert "are missing" in shown
        assert "Submit anyway</button>" in shown
        assert not made_jobs(ana)
        answer = ana.send("/jobs/new", **values)
        assert answer.status_code == 302
        assert "Submitted, but: This job takes" in ana.get(answer.location).text


class TestApi:
    def test_answer_to_a_submission_warns(self, ana, api, rows, dataset):
        rows.forecast(ana.user_id, dataset, **need(memory=6 * GIB))
        tell_memory(rows, "small", 1024)
        client = api(ana.user_id)
        body = {"datasets": [dataset], "specs": [{"preset": "fast"}]}

        short = client("POST", "/jobs", json=body)
        body["specs"] = [{"preset": "balanced"}]
        larger = client("POST", "/jobs", json={**body, "queue": "default"})

        assert short.status_code == 201
        assert "holds about 6.0 GiB of memory" in short.json["warnings"][0]
        assert "1.4 GiB" in larger.json["warnings"][0]

    def test_command_line_prints_the_warnings_beside_the_result(
        self, app, ana, rows, dataset, monkeypatch
    ):
        rows.forecast(ana.user_id, dataset, **need(disk={"total": 2**60}))
        monkeypatch.setenv("TRAINYARD_TOKEN", rows.token(ana.user_id))

        with serve_here(app) as address:
            monkeypatch.setenv("TRAINYARD_URL", address)
            done = subprocess.run(
                [sys.executable, "-m", "cli", "submit", "-d", "cells", "--json"],
                capture_output=True, text=True, timeout=120, check=True,
            )  # fmt: skip

        assert "Warning: This job takes about" in done.stderr
        assert len(json.loads(done.stdout)["warnings"]) == 1


def tell_memory(rows, name, memory_mb, **more):
    """A worker that was seen just now and has told of its memory; its number."""
    return rows.worker(name, facts={"memory_mb": memory_mb}, **more)


def is_checked(html, name, value):
    """Whether the box of this field and value is ticked."""
    box = re.search(rf'<input[^>]*name="{name}" value="{value}"[^>]*>', html)
    return box is not None and "checked" in box[0]


def made_jobs(person):
    """Whether the table of jobs lists a training."""
    return "job-link-" in person.get("/jobs").text
