"""What was set aside comes back in bulk, and what was chosen of it is not lost."""

import json
import re

import pytest

from shared import job_read_store
from tests.web.findings.small_version import make_pictures, write_version
from tests.web.forecast_example import digest_of

CATS, DOGS = make_pictures("cat", 3), make_pictures("dog", 3)
ASIDE = [(f"aside {n}.png", "cat", ["cat"]) for n in range(60)]
BOTH = ("both.png", "", ["cat", "dog"])
REASON = "It is odd."  # of all that `write_version` sets aside


@pytest.fixture
def dataset(ana, rows):
    """A dataset with sixty pictures in quarantine for one reason, one for another."""
    dataset_id = rows.dataset(ana.user_id)
    write_version(rows, dataset_id, CATS + DOGS, aside=[*ASIDE, BOTH])
    path = rows.storage.resolve(f"datasets/{dataset_id}/1") / "report.json"
    listed = [
        {"sha256": digest_of(name), "name": name, "label": label, "labels": labels,
         "split": "", "reason": REASON}
        for name, label, labels in [*ASIDE, BOTH]
    ]  # fmt: skip
    told = {"quarantine": listed, "quarantine_total": len(listed)}
    path.write_text(json.dumps(json.loads(path.read_text()) | told))
    return dataset_id


@pytest.fixture
def decide(ana, dataset):
    def send(query="", **values):
        values = {name.replace("__", ":"): value for name, value in values.items()}
        return ana.send(f"/datasets/{dataset}/versions/1/decide{query}", **values)

    return send


def find_job(rows, dataset):
    with rows.database.reading() as session:
        found = job_read_store.list_jobs(session, kind="ingest", dataset_id=dataset)
        return found.items[0]


def list_edits(rows, dataset):
    edits = find_job(rows, dataset).spec["edits"]
    return [(edit["action"], edit["label"], set(edit["images"])) for edit in edits]


def test_page_offers_each_reason_with_how_many_there_are(ana, dataset):
    assert f"lie here for this: {REASON} (60)" in ana.get(f"/datasets/{dataset}").text


def test_all_of_one_reason_come_back_but_those_with_a_choice_of_their_own(
    rows, dataset, decide
):
    other = digest_of("aside 3.png")

    answer = decide(restore=REASON, **{f"decision__{other}": "exclude"})

    assert answer.status_code == 302
    back = {digest_of(name) for name, _, _ in ASIDE} - {other}
    assert list_edits(rows, dataset) == [
        ("restore", None, back), ("exclude", None, {other}),
    ]  # fmt: skip


def test_api_takes_a_reason_too(api, ana, rows, dataset):
    ask = api(ana.user_id)
    path = f"/datasets/{dataset}/decisions"

    wrong = ask("POST", path, json={"version": 1, "restore": "It is even."})
    answer = ask("POST", path, json={"version": 1, "restore": f" {REASON}"})

    assert wrong.status_code == 400
    assert f"Reasons that there are: “{REASON}” (60)." in wrong.json["detail"]
    assert answer.status_code == 202
    ((action, _, images),) = list_edits(rows, dataset)
    assert (action, len(images)) == ("restore", 60)


@pytest.fixture
def few(monkeypatch):
    """Lets one decision be about fewer pictures than lie there for one reason."""
    monkeypatch.setattr("web.datasets.decisions.MAX_IMAGES", 50)


@pytest.mark.usefixtures("few")
def test_api_counts_what_does_not_fit(api, ana, rows, dataset):
    body, headers = {"version": 1, "restore": REASON}, {"Idempotency-Key": "k"}
    path, ask = f"/datasets/{dataset}/decisions", api(ana.user_id)

    answers = [ask("POST", path, json=body, headers=headers).json for _ in range(2)]

    assert [answer["left"] for answer in answers] == [10, 10]
    assert "10 pictures stay there" in answers[0]["notes"][0]
    ((_, _, images),) = list_edits(rows, dataset)
    assert len(images) == 50


@pytest.mark.usefixtures("few")
def test_page_counts_what_does_not_fit(ana, dataset, decide):
    decide(restore=REASON)

    assert "10 pictures stay there" in ana.get(f"/datasets/{dataset}").text


def test_what_was_chosen_for_a_job_that_fails_is_filled_in_again(
    ana, bob, rows, dataset, decide
):
    digest = digest_of("aside 30.png")  # on the second page of them
    decide("?quarantine=2", restore=REASON, **{f"decision__{digest}": "exclude"})
    job = find_job(rows, dataset)
    rows.fail(job.id, "ingest", "No image is left for the test split.")

    shown = ana.get(f"/datasets/{dataset}").text
    address = re.search(r'<a href="([^"]+)">Take the choices up again', shown)[1]
    page = ana.get(address.replace("&amp;", "&")).text

    assert address.endswith("#quarantine")
    assert f"What was chosen for job {job.id} is filled in again" in page
    assert re.search(f'<option value="{REASON}" selected>', page)
    assert re.search(f'"decision:{digest}">.*?"exclude" selected', page, re.DOTALL)
    assert "Take the choices" not in bob.get(f"/datasets/{dataset}").text
