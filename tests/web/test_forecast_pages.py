"""The section on forecasts of a dataset's page, in every state and with every gap."""

import dataclasses

import pytest

from shared import (
    attempt_progress_store,
    dataset_store,
    forecast_store,
    queue_pause_store,
)
from shared.tables import DatasetVersion
from tests.web.forecast_example import make_forecast
from web.datasets.forecast_bases import make_base_models, tell_winner
from web.datasets.forecast_curve import list_columns, make_curve, read_fit
from web.datasets.forecast_difficulty import make_difficulty
from web.datasets.forecast_presets import make_presets
from web.ranges import Span, draw_bar, read_interval, read_span, say_shares, say_times

EN_DASH = "\N{EN DASH}"
ENTRIES = ("difficulty", "presets", "learning_curve", "base_models", "winner")


@pytest.fixture
def dataset(ana, rows):
    return rows.dataset(ana.user_id)


@pytest.fixture
def page(ana, dataset):
    """Reads the dataset's page."""
    return lambda: ana.get(f"/datasets/{dataset}").text


class TestSection:
    def test_grade_bars_recall_and_confusions_are_shown(self, ana, rows, dataset, page):
        job = rows.forecast(ana.user_id, dataset)

        shown = page()

        assert "How hard is it?" in shown
        assert "moderate</span>" in shown
        assert "Always saying “intact”" in shown
        assert "84\N{EN DASH}90 %" in shown
        assert "Recognised" in shown
        assert "21 pictures, 11 % of its class" in shown
        address = shown.split(f"/datasets/{dataset}/forecasts/{job}/thumbnails/")[1]
        thumbnail = address.split('"')[0]
        answer = ana.get(f"/datasets/{dataset}/forecasts/{job}/thumbnails/{thumbnail}")
        assert answer.mimetype == "image/jpeg"

    def test_each_preset_has_its_promise_and_leads_to_the_form(
        self, ana, rows, dataset, page
    ):
        rows.forecast(ana.user_id, dataset)

        shown = page()

        assert "87\N{EN DASH}94 %" in shown
        assert "5\N{EN DASH}11 min" in shown
        assert "1.4 GiB" in shown
        assert f'href="/jobs/new?dataset={dataset}&amp;preset=balanced"' in shown

    def test_worker_that_timed_the_minutes_is_named(self, ana, rows, dataset, page):
        rows.forecast(ana.user_id, dataset)
        named, form = page(), ana.get(f"/jobs/new?dataset={dataset}").text
        rows.forecast(ana.user_id, dataset, worker={"id": None, "name": None})
        without = page()

        assert named.count("timed on worker host cpu") == 3
        assert form.count("timed on worker host cpu") == 1
        assert "timed on worker" not in without
        assert "timed on worker" not in ana.get(f"/jobs/new?dataset={dataset}").text

    def test_what_cannot_be_told_or_done_is_said(self, ana, rows, dataset, page):
        told = make_forecast(
            doubts="Many labels of the training pictures may be wrong.",
            base_models_left_out=[{"name": "ResNet50", "reason": "It has no weights."}],
        )
        told["presets"]["best"] |= {
            "seconds": None,
            "memory_bytes": None,
            "obstacle": "it does not fit into the memory of this worker",
        }
        told.pop("findings")
        rows.forecast(ana.user_id, dataset, **told)

        shown = page()

        assert "Many labels of the training pictures may be wrong." in shown
        assert "ResNet50 could not be compared: It has no weights." in shown
        assert "it does not fit into the memory of this worker" in shown

    def test_chart_has_its_numbers_beside_it(self, ana, rows, dataset, page):
        job = rows.forecast(ana.user_id, dataset)

        shown = page()
        chart = ana.get(f"/datasets/{dataset}/forecasts/{job}/chart.json").json

        assert "Twice as many pictures of defective" in shown
        assert "outlook</td>" in shown
        assert chart["chart"]["target_id"] == "chart-learning-curve"
        assert chart["columns"]["points"]["images"] == [42, 105, 210, 420]
        assert chart["columns"]["ahead"]["low"] == [0.86]
        assert chart["columns"]["band"]["images"] == [420, 840]
        fit = chart["columns"]["fit"]["accuracy"]
        assert fit == sorted(fit)
        assert (
            ana.get(f"/datasets/{dataset}/forecasts/77/chart.json").status_code == 404
        )

    def test_winner_of_the_leaderboard_is_marked_and_offered(
        self, ana, rows, dataset, page
    ):
        rows.forecast(ana.user_id, dataset)

        shown = page()

        assert "EfficientNetLite1 told these pictures apart best." in shown
        assert "base_model=EfficientNetLite1" in shown
        assert shown.count("suits best") == 1

    def test_winner_that_is_not_the_most_accurate_says_why(self):
        summary = make_forecast(winner="EfficientNetLite0")
        for row in summary["base_models"]:
            row["is_winner"] = row["name"] == "EfficientNetLite0"

        name, sentence = tell_winner(make_base_models(summary))

        assert name == "EfficientNetLite0"
        assert "as well as EfficientNetLite1, within what chance explains" in sentence

    def test_promises_of_its_trainings_are_compared(self, ana, api, rows, dataset):
        timer = {"id": rows.worker("claimer train"), "name": "claimer train"}
        rows.forecast(ana.user_id, dataset, worker=timer)
        body = {"datasets": [dataset], "specs": [{"preset": "fast"}]}
        made = api(ana.user_id)("POST", "/jobs", json=body).json["jobs"][0]["id"]
        before = ana.get(f"/jobs/{made}").text
        rows.publish(made, accuracy=0.86)

        shown = ana.get(f"/datasets/{dataset}").text
        after = ana.get(f"/jobs/{made}").text

        words = "Promised 84\N{EN DASH}91 %"
        times = "; promised 25\N{EN DASH}70 s"
        assert f"{words}{times}." in before
        assert f"{words}, delivered 86.0 %{times}, took" in after
        assert "Promised and delivered" in shown
        assert "86.0 %" in shown
        assert "within the promised range" in shown

    @pytest.mark.parametrize(
        ("timer", "words"),
        [
            (
                {"id": 99, "name": "far gpu"},
                "It ran on another worker than far gpu, which was timed",
            ),
            ({"id": None, "name": None}, "Which worker was timed is not known"),
        ],
    )
    def test_training_on_another_worker_says_so_and_what_it_took(  # noqa: PLR0917 - two cases
        self, ana, api, rows, dataset, timer, words
    ):
        rows.forecast(ana.user_id, dataset, worker=timer)
        body = {"datasets": [dataset], "specs": [{"preset": "fast"}]}
        made = api(ana.user_id)("POST", "/jobs", json=body).json["jobs"][0]["id"]
        before = ana.get(f"/jobs/{made}").text
        rows.publish(made, accuracy=0.86)

        after = ana.get(f"/jobs/{made}").text

        assert words not in before
        assert f"; promised 25{EN_DASH}70 s, took" in after
        assert f"{words}, so the time does not count in the record." in after


class TestStates:
    def test_running_forecast_says_where_it_is(self, ana, rows, dataset, page):
        ana.send(f"/datasets/{dataset}/forecast", f"/datasets/{dataset}", version="1")
        claim = rows.claim("forecast", 2)
        with rows.database.transaction() as s:
            attempt_progress_store.record_progress(
                s, 2, claim.fence, phase="features", done=40, total=100, unit="images",
                eta_seconds=3,
            )  # fmt: skip

        shown = page()
        live = ana.get(f"/datasets/{dataset}/forecast/live?version=1").text

        assert "data-poll" in shown
        for words in ("Computing features", "40 of 100 images", 'aria-current="step"'):
            assert words in shown
            assert words in live
        assert "<section" not in live, "what is charted beside it is left alone"

    def test_waiting_forecast_says_what_it_waits_for(self, ana, rows, dataset, page):
        ana.send(f"/datasets/{dataset}/forecast", f"/datasets/{dataset}", version="1")
        alone = page()
        rows.worker("reads", kinds=("ingest",))
        rows.worker("other", kinds=("train", "forecast"), queues=("gpu",))
        still = page()
        rows.worker("trains", kinds=("train", "forecast"))
        served = page()
        with rows.database.transaction() as s:
            queue_pause_store.pause(s, "default", actor="user:1")
        paused = page()

        assert "No worker is here that does such jobs of the queue default" in alone
        assert "No worker is here that does such jobs of the queue default" in still
        assert "It begins when it is its turn among the trainings" in served
        assert "The queue default is paused" in paused
        assert "It begins" not in alone + paused

    def test_forecast_that_comes_with_its_version_begins_first(
        self, ana, rows, dataset, page
    ):
        with rows.database.transaction() as s:
            version = dataset_store.latest_version(s, dataset)
            forecast_store.ask(s, version.id, owner_id=ana.user_id, goes_first=True)
        rows.worker("trains", kinds=("train", "forecast"))

        shown = page()
        queue = ana.get("/jobs/queue?kind=forecast").text

        assert "It begins as soon as a worker that trains is free." in shown
        assert '<td class="number hide-narrow">first</td>' in queue

    def test_forecast_of_an_older_version_is_shown_as_such(
        self, ana, rows, dataset, page
    ):
        rows.forecast(ana.user_id, dataset)
        add_version(rows, dataset)

        shown = page()

        assert "This forecast is of <a" in shown
        assert "version 1</a>; version 2 has none yet." in shown
        assert "a linear classifier on frozen features" in shown
        assert "Nobody has forecast this version yet" in shown
        assert "This forecast is of" not in ana.get(
            f"/datasets/{dataset}?version=1"
        ).text  # fmt: skip

    def test_installation_that_does_not_forecast_by_itself_says_so(
        self, app, page, monkeypatch
    ):
        here = app.extensions["trainyard"]
        assert "not forecast by themselves" not in page()
        settings = here.settings.model_copy(update={"forecast_on_add": False})
        here = dataclasses.replace(here, settings=settings)
        monkeypatch.setitem(app.extensions, "trainyard", here)

        assert "not forecast by themselves" in page()

    def test_version_that_is_not_there_is_said_to_be(self, ana, dataset):
        live = ana.get(f"/datasets/{dataset}/forecast/live?version=9")

        assert live.status_code == 404
        assert ana.get(f"/datasets/{dataset}?version=9").status_code == 404

    @pytest.mark.parametrize("name", ENTRIES)
    @pytest.mark.parametrize("value", [None, [], {}, "?", [None], [1, {}]])
    def test_entry_that_is_missing_or_odd_does_no_harm(self, name, value):
        summary = make_forecast() | {name: value}

        make_difficulty(summary, set())
        make_presets(summary)
        make_curve(summary)
        list_columns(summary["learning_curve"])
        tell_winner(make_base_models(summary))

    def test_page_bears_a_forecast_with_gaps(self, ana, rows, dataset, page):
        full = make_forecast()
        rows.forecast(
            ana.user_id,
            dataset,
            difficulty={"grade": "odd", "confusions": [{}], "probe": {"accuracy": 0.5}},
            presets={"fast": {"accuracy": [0.5, None, 0.9]}, "other": {}, "best": 3},
            learning_curve=full["learning_curve"] | {"fit": None, "ahead": None},
            base_models=[{"name": "<b>"}, 7],
        )

        shown = page()

        assert "Nobody could tell how accurate." in shown
        assert "&lt;b&gt;" in shown
        assert "Is it enough data?" in shown


class TestRanges:
    @pytest.mark.parametrize(
        ("low", "high", "words"),
        [
            (12.2, 40.0, "12\N{EN DASH}40 s"),
            (700, 1500, "12\N{EN DASH}25 min"),
            (840, 840, "about 14 min"),
            (3600, 9000, "1.0\N{EN DASH}2.5 h"),
        ],
    )
    def test_times_are_said_in_the_unit_of_their_end(self, low, high, words):
        assert say_times(low, high) == words

    def test_shares_are_said_in_whole_percents(self):
        assert say_shares(0.846, 0.91) == "85\N{EN DASH}91 %"
        assert say_shares(0.904, 0.896) == "90 %"

    def test_spans_are_read_from_numbers_alone(self):
        assert read_span([0.9, 0.8, 0.7]) == Span(0.7, 0.8, 0.9)
        assert read_span([1, 2]) is None
        assert read_span([1, float("nan"), 2]) is None
        assert read_interval(0.5, None) == Span(0.5, 0.5, 0.5)
        assert read_interval(True, [0, 1]) is None

    def test_bars_stay_on_their_line(self):
        bar = draw_bar(Span(-1, 0.75, 2), 0.5)

        assert (bar.start, bar.width, bar.middle) == (0, 100, 50)

    def test_curve_without_all_its_numbers_is_not_drawn(self):
        assert read_fit({"fit": {"a": 0.1, "b": 1}}) is None
        assert list_columns(None)["fit"] == {"images": [], "accuracy": []}


def add_version(rows, dataset_id):
    """A second version of a dataset, as its ingest would make it."""
    with rows.database.transaction() as s:
        first = dataset_store.latest_version(s, dataset_id)
        s.add(
            DatasetVersion(
                dataset_id=dataset_id, version=2, rel_path=first.rel_path,
                fingerprint="2" * 64, images=first.images, job_id=999,
                size_bytes=first.size_bytes, report=first.report, created_at=2,
            )
        )  # fmt: skip
