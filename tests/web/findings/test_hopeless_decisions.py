"""Decisions of which no version could come are refused at once, and nothing is lost."""

import re

import pytest

from tests.web.findings.decided import list_edits, list_ingests
from tests.web.findings.small_version import (
    make_outliers,
    make_pictures,
    write_version,
)
from tests.web.forecast_example import digest_of
from web.datasets import decision_check, finding_page
from worker.ingest.split import MIN_IMAGES_PER_CLASS
from worker.insight.doctor import label_errors

CATS, DOGS = make_pictures("cat", 2), make_pictures("dog", 5)


@pytest.fixture
def publish(ana, rows, dataset):
    """Makes a version of these pictures, with a finding about each; their keys."""

    def write(pictures, **more):
        write_version(rows, dataset, pictures, **more)
        found = make_outliers(pictures)
        rows.forecast(ana.user_id, dataset, found)
        return {row["names"][0]: row["key"] for row in found}

    return write


@pytest.fixture
def ask(api, ana, dataset):
    """Sends decisions about pictures to the API."""
    client = api(ana.user_id)

    def send(action, *names, **more):
        images = [digest_of(name) for name in names]
        body = {"version": 1, "decisions": [{"action": action, "images": images}]}
        body["decisions"][0] |= more
        return client("POST", f"/datasets/{dataset}/decisions", json=body)

    return send


class TestClasses:
    def test_class_that_would_be_too_small_is_named_with_what_is_left(
        self, rows, dataset, decide, publish
    ):
        keys = publish(CATS + DOGS)
        gone = [keys[name] for name, _, _ in CATS[:2]]

        answer = decide(chosen=gone, action="exclude", test="yes", key="k")

        assert answer.status_code == 400
        assert "too few pictures left: “cat” (2)" in answer.text
        assert f'id="tick-{gone[0]}" checked' in answer.text
        assert '<option value="exclude" selected>' in answer.text
        assert list_ingests(rows, dataset) == []

    def test_relabelling_counts_for_both_classes(self, rows, dataset, decide, publish):
        keys = publish(CATS + DOGS)
        gone = [keys[name] for name, _, _ in CATS[:2]]

        answer = decide(chosen=gone, action="relabel", label="dog", key="k")
        one = decide(chosen=gone[:1], action="relabel", label="dog", key="l")

        assert "“cat” (2)" in answer.text
        assert one.status_code == 302
        assert list_edits(rows, dataset) == [
            ("relabel", "dog", [digest_of(CATS[0][0])])
        ]

    def test_whole_class_may_go_while_two_are_left(self, decide, publish):
        keys = publish(CATS + DOGS + make_pictures("cow", 3))
        gone = [keys[name] for name, _, _ in CATS]

        answer = decide(chosen=gone, action="exclude", test="yes", key="k")

        assert answer.status_code == 302

    def test_the_last_but_one_class_may_not(self, decide, publish):
        keys = publish(CATS + DOGS)
        gone = [keys[name] for name, _, _ in CATS]

        answer = decide(chosen=gone, action="quarantine", test="yes", key="k")

        assert answer.status_code == 400
        assert "only “dog” would be left" in answer.text

    def test_class_keeps_something_to_train_on(self, decide, publish):
        cats = make_pictures("cat", train=2, val=2, test=2)
        keys = publish(cats + DOGS)
        gone = [keys[name] for name, _, split in cats if split == "train"]

        answer = decide(chosen=gone, action="exclude", key="k")
        dealt = decide(chosen=gone, action="exclude", deal="duplicates", key="l")

        assert answer.status_code == 400
        assert "no picture in the training split: “cat”" in answer.text
        assert dealt.status_code == 302

    def test_numbers_are_those_of_the_worker(self):
        assert decision_check.FEWEST_EACH == MIN_IMAGES_PER_CLASS


class TestPictures:
    def test_picture_that_the_version_has_not_is_named(self, ask, publish):
        publish(CATS + DOGS)

        answer = ask("exclude", "nowhere.png")

        assert answer.status_code == 400
        assert f"has no picture {digest_of('nowhere.png')}" in answer.json["detail"]

    def test_picture_of_several_labels_comes_back_under_one(self, ask, publish):
        publish(CATS + DOGS, aside=[("both.png", "", ["cat", "dog"])])

        answer = ask("restore", "both.png")
        named = ask("relabel", "both.png", label=" cat ")

        assert answer.status_code == 400
        assert "there as “cat” and “dog”" in answer.json["detail"]
        assert named.status_code == 202

    def test_what_would_change_nothing_is_told(self, ask, publish):
        publish(CATS + DOGS, aside=[("dark.png", "cat", ["cat"])])

        for answer in (
            ask("relabel", CATS[0][0], label="cat"),
            ask("quarantine", "dark.png"),
            ask("restore", CATS[0][0]),
        ):
            assert answer.status_code == 400
            assert "This would change nothing" in answer.json["detail"]

    def test_newer_version_is_told_before_all_else(self, ana, rows, dataset, decide):
        write_version(rows, dataset, CATS + DOGS)
        rows.version(ana.user_id, dataset)

        answer = decide(deal="folder", key="k")

        assert answer.status_code == 409


class TestFolders:
    def test_folders_are_offered_only_where_there_are_some(
        self, ana, rows, dataset, publish, decide
    ):
        publish(CATS + DOGS)
        rows.forecast(ana.user_id, dataset)

        shown = ana.get(f"/datasets/{dataset}/findings").text
        answer = decide(deal="folder", key="k")

        assert 'value="duplicates"' in shown
        assert 'value="folder"' not in shown
        assert answer.status_code == 400
        assert "cannot be dealt by folder" in answer.text
        assert '<option value="folder" selected>' in answer.text
        assert list_ingests(rows, dataset) == []

    def test_patients_are(self, ana, rows, dataset, publish, decide):
        pictures = [
            one
            for patient in range(4)
            for label in ("cat", "dog")
            for one in make_pictures(label, 2, folder=f"patient-{patient}/")
        ]
        publish(pictures)
        rows.forecast(ana.user_id, dataset)

        assert 'value="folder"' in ana.get(f"/datasets/{dataset}/findings").text
        assert decide(deal="folder", key="k").status_code == 302


def test_folder_of_a_class_that_was_merged_into_another_is_none(rows, dataset, decide):
    places = ["cat", "dog", "dogs", "hounds"]
    pictures = [
        (f"{place}/{split} {n}.png", "cat" if place == "cat" else "dog", split)
        for place in places
        for split in ("train", "val", "test")
        for n in range(2)
    ]
    write_version(rows, dataset, pictures, split={"class_folders": places})

    answer = decide(deal="folder", key="k")

    assert answer.status_code == 400
    assert "cannot be dealt by folder" in answer.text


@pytest.mark.parametrize(
    ("column", "status"), [(" patient id ", 302), ("patient", 400)]
)
def test_column_is_the_one_that_is_kept_in_any_case(
    rows, dataset, decide, column, status
):
    write_version(rows, dataset, CATS + DOGS, split={"column": "Patient ID"})

    answer = decide(deal="column", column=column, key="k")

    assert answer.status_code == status
    assert len(list_ingests(rows, dataset)) == (status == 302)


class TestFailedJob:
    """What ingest alone could see: the choices of a job that failed are not lost."""

    @pytest.fixture
    def failed(self, rows, dataset, decide, publish):
        """The number of a job of three choices that failed, and their keys."""
        keys = publish(DOGS + make_pictures("cat", 5))
        names = [name for name, _, _ in DOGS]
        one, other, third = (keys[name] for name in names[:3])
        chosen = {"chosen": [one, other], "action": "exclude", "keep": "first"}
        decide(**chosen, **{f"do__{third}": "quarantine"}, key="k")
        (job,) = list_ingests(rows, dataset)
        rows.fail(job.id, "ingest", "No image is left for the test split.")
        return job.id, one, third

    def test_page_of_the_dataset_says_so_and_leads_to_them(self, ana, dataset, failed):
        job, one, third = failed

        shown = ana.get(f"/datasets/{dataset}").text
        address = re.search(r'<a href="([^"]+)">Take the choices up again', shown)[1]
        page = ana.get(address.replace("&amp;", "&")).text

        assert "No version could be made of what was decided." in shown
        assert "No image is left for the test split." in shown
        assert f"choices={job}" in address
        assert f"What was chosen for job {job} is filled in again" in page
        assert f'id="tick-{one}" checked' in page
        assert re.search(f'id="do-{third}-quarantine"[^>]* checked', page)
        assert '<option value="exclude" selected>' in page
        assert '<option value="first" selected>' in page

    def test_they_make_another_job_when_they_are_sent_again(
        self, rows, dataset, decide, failed
    ):
        _, one, _ = failed

        assert decide(chosen=one, action="exclude", key="l").status_code == 302
        assert len(list_ingests(rows, dataset)) == 2

    def test_other_jobs_have_none(self, ana, rows, dataset):
        other, job_id = rows.reading(ana.user_id, "new")
        rows.fail(job_id, "ingest", "It is empty.")

        shown = ana.get(f"/datasets/{other}").text
        page = ana.get(f"/datasets/{dataset}/findings?choices={job_id}")

        assert "This could not become a dataset." in shown
        assert "Take the choices up again" not in shown
        assert page.status_code == 200
        assert "is filled in again" not in page.text
        gone = ana.get(f"/datasets/{dataset}/findings?choices=99")
        assert gone.status_code == 404

    @pytest.mark.usefixtures("failed")
    def test_who_may_not_decide_is_not_led_there(self, bob, dataset):
        assert "Take the choices" not in bob.get(f"/datasets/{dataset}").text


class TestUnjudged:
    def test_classes_too_small_to_be_doubted_are_named(self, ana, rows, dataset):
        pictures = DOGS + make_pictures("cow", 5) + CATS
        write_version(rows, dataset, pictures)
        rows.forecast(ana.user_id, dataset, [])

        shown = ana.get(f"/datasets/{dataset}/findings").text
        kind = ana.get(f"/datasets/{dataset}/findings?kind=suspect_label").text

        words = "Labels of classes with fewer than 5 pictures were not judged: “cat”."
        assert words in shown
        assert words in kind

    def test_without_two_large_classes_no_label_was(self, ana, rows, dataset):
        write_version(rows, dataset, DOGS + CATS)
        rows.forecast(ana.user_id, dataset, [])

        assert "No label was judged" in ana.get(f"/datasets/{dataset}/findings").text

    def test_number_is_that_of_the_doctor(self):
        assert label_errors._FEWEST_EACH == finding_page.FEWEST_JUDGED
