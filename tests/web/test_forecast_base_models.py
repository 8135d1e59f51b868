"""Which base models a forecast compares: chosen on the page, and told everywhere."""

import dataclasses
import re

import pytest

from shared import job_read_store, job_store
from tests.web.forecast_example import make_forecast
from tests.web.rows import make_told
from web.datasets.forecast_choices import Offered, count_compared

READY = ["EfficientNetLite0", "EfficientNetLite1", "MobileNet", "VGG16"]


@pytest.fixture
def dataset(ana, rows):
    return rows.dataset(ana.user_id)


@pytest.fixture
def ask(ana, dataset):
    """Sends the form of the dataset's page with these base models."""

    def send(*names):
        page = f"/datasets/{dataset}"
        return ana.send(f"{page}/forecast", page, version="1", base_model=list(names))

    return send


def list_boxes(html):
    """The base models that a page lets choose, each with whether it is ticked."""
    found = re.findall(r'name="base_model" value="([^"]+)" (checked)?', html)
    return {name: bool(ticked) for name, ticked in found}


def find_spec(rows, dataset):
    with rows.database.reading() as s:
        found = job_read_store.list_jobs(s, kind="forecast", dataset_id=dataset)
        return found.items[0].spec


class TestForm:
    def test_what_a_worker_has_or_fetches_may_be_chosen(self, ana, rows, dataset):
        rows.worker(base_models=make_told(READY))
        ready = list_boxes(ana.get(f"/datasets/{dataset}").text)
        rows.worker("far", base_models=make_told([], download=True))
        fetched = list_boxes(ana.get(f"/datasets/{dataset}").text)

        assert ready == dict.fromkeys(READY[1:], False), "the default is always there"
        assert {"ResNet50", *READY[1:]} <= fetched.keys()

    def test_nothing_is_offered_that_nobody_has(self, ana, dataset):
        assert list_boxes(ana.get(f"/datasets/{dataset}").text) == {}

    def test_nothing_is_offered_where_only_the_default_one_is_compared(
        self, app, ana, rows, dataset, monkeypatch
    ):  # fmt: skip
        rows.worker(base_models=make_told(READY))
        here = app.extensions["trainyard"]
        settings = here.settings.model_copy(update={"forecast_base_models": 1})
        here = dataclasses.replace(here, settings=settings)
        monkeypatch.setitem(app.extensions, "trainyard", here)

        assert list_boxes(ana.get(f"/datasets/{dataset}").text) == {}

    def test_what_is_chosen_is_compared(self, rows, dataset, ask):
        answer = ask("VGG16", "MobileNet")

        assert answer.status_code == 302
        assert find_spec(rows, dataset)["base_models"] == ["VGG16", "MobileNet"]

    def test_without_a_choice_the_worker_chooses(self, rows, dataset, ask):
        ask()

        assert find_spec(rows, dataset)["base_models"] is None

    def test_too_many_are_refused_and_still_ticked(self, rows, ask):
        rows.worker(base_models=make_told(READY))

        answer = ask(*READY[1:])

        assert answer.status_code == 400
        assert "may name 2 beside EfficientNetLite0" in answer.text
        assert list_boxes(answer.text) == dict.fromkeys(READY[1:], True)

    def test_one_that_does_not_exist_is_refused(self, ask):
        answer = ask("VG16")

        assert answer.status_code == 400
        assert "Did you mean VGG16" in answer.text


class TestCompared:
    WORDS = "2 of 4 available base models were compared."

    def test_page_and_api_say_how_many_others_there_are(self, api, ana, rows, dataset):
        rows.worker(base_models=make_told(READY))
        rows.forecast(ana.user_id, dataset)

        answer = api(ana.user_id)("GET", f"/datasets/{dataset}/forecast").json

        assert answer["compared"] == {
            "compared": 2, "available": 4, "sentence": self.WORDS,
        }  # fmt: skip
        assert self.WORDS in ana.get(f"/datasets/{dataset}").text

    def test_where_there_are_no_others_nothing_is_said(self, api, ana, rows, dataset):
        rows.worker(base_models=make_told(READY[:2]))
        ask = api(ana.user_id)
        path = f"/datasets/{dataset}/forecast"
        before = ask("POST", path).json["compared"]
        with rows.database.transaction() as s:
            job_store.cancel(s, 2, actor="test")
        rows.forecast(ana.user_id, dataset)

        assert before is None
        assert ask("GET", path).json["compared"]["sentence"] is None
        assert "available base models" not in ana.get(f"/datasets/{dataset}").text

    def test_those_that_are_not_there_any_more_count_too(self):
        summary = make_forecast()
        offered = [Offered("VGG16", "VGG", 14_714_688, "ready")]

        found = count_compared(offered, summary)

        assert (found.compared, found.available) == (2, 3)

    def test_one_is_told_in_the_singular(self):
        summary = make_forecast(base_models=[{"name": "EfficientNetLite0"}, 7])
        offered = [Offered("VGG16", "VGG", 14_714_688, "ready")]

        found = count_compared(offered, summary)

        assert found.sentence == "1 of 2 available base models was compared."
        assert count_compared(offered, {}).sentence is None
