"""The data doctor's pages: what was found, and what users decide about it."""

import re

import pytest
from PIL import Image
from sqlalchemy import select

from shared.forecast_tables import Forecast
from tests.web.findings.decided import (
    key_of,
    list_accepted,
    list_edits,
    list_ingests,
    picture_of,
)
from tests.web.forecast_example import COUNTS, list_pictures, make_findings


class TestPage:
    def test_findings_are_grouped_by_kind_with_counts(self, ana, dataset):
        html = ana.get(f"/datasets/{dataset}/findings").text

        heads = re.findall(r'class="findings-head">([^<]+)<', html)
        assert heads[:3] == [
            "Same picture, different labels",
            "Leaks between splits",
            "Near duplicates",
        ]
        assert html.count("<article") == sum(COUNTS.values())
        assert re.search(r'data-tally="suspect_label">4<', html)

    def test_a_kind_is_shown_alone(self, ana, dataset):
        html = ana.get(f"/datasets/{dataset}/findings?kind=blurred").text

        assert set(re.findall(r'data-finding="(\w+)"', html)) == {"blurred"}

    def test_every_picture_has_a_small_copy_that_is_there(self, ana, dataset):
        html = ana.get(f"/datasets/{dataset}/findings").text
        addresses = set(re.findall(r'<img [^>]*src="([^"]+)"', html))

        assert len(addresses) == len(list_pictures(make_findings()))
        assert {ana.get(address).status_code for address in addresses} == {200}

    def test_picture_in_quarantine_is_shown_with_its_labels(self, ana, rows, app):
        dataset = rows.dataset(ana.user_id, classes=("cat", "dog", "cow"))
        (row,) = make_findings(counts={"label_conflict": 1})
        rows.forecast(ana.user_id, dataset, [row | {"labels": ["cat", "dog"]}])
        storage = app.extensions["trainyard"].storage
        (sha256,) = row["images"]
        (forecast,) = storage.forecasts(dataset).iterdir()
        (forecast / "thumbnails" / f"{sha256}.jpg").unlink()
        small = storage.resolve(f"datasets/{dataset}/1/thumbnails/{sha256}.jpg")
        Image.new("RGB", (8, 8)).save(small)

        html = ana.get(f"/datasets/{dataset}/findings").text

        assert "It is cat" in html
        assert "It is dog" in html
        assert "It is cow" not in html
        assert 'value="quarantine" autocomplete' not in html
        assert f"versions/1/thumbnails/{sha256}.jpg" in html

    def test_of_copies_it_is_said_which_one_stays(self, ana, rows):
        dataset = rows.dataset(ana.user_id)
        (row,) = make_findings(counts={"split_leak": 1})
        rows.forecast(ana.user_id, dataset, [row | {"splits": ["test", "train"]}])

        html = ana.get(f"/datasets/{dataset}/findings").text

        assert ">Exclude all but the first<" in html
        assert f"kept is {row['names'][0]}, unless none" in html

    @pytest.mark.parametrize("kind", ["imbalance", "exact_duplicate", "group_leak"])
    def test_pictures_that_are_only_examples_can_only_be_accepted(
        self, ana, rows, kind
    ):
        dataset = rows.dataset(ana.user_id)
        (row,) = make_findings(counts={kind: 1})
        shown = {"images": [key_of(kind) * 2], "names": ["1.jpg"]}
        rows.forecast(ana.user_id, dataset, [row | shown])

        html = ana.get(f"/datasets/{dataset}/findings").text

        assert html.count("<article") == 1
        assert 'name="do:' not in html
        assert 'name="accept"' in html

    def test_what_has_no_picture_says_why(self, ana, rows):
        dataset = rows.dataset(ana.user_id)
        found = make_findings(counts={"imbalance": 1, "unreadable": 1, "outlier": 1})
        found[0] |= {"names": [], "labels": ["defective"]}
        rows.forecast(ana.user_id, dataset, found)
        storage = rows.storage
        (forecast,) = storage.forecasts(dataset).iterdir()
        (forecast / "thumbnails" / f"{found[2]['images'][0]}.jpg").unlink()

        html = ana.get(f"/datasets/{dataset}/findings").text

        assert re.findall(r'role="img" aria-label="([^"]+)"', html) == [
            "No picture: this is about the class defective",
            "unreadable.jpg: it became no picture of this version",
            "outlier/000-0.jpg: no small copy was made",
        ]

    def test_choices_are_told_apart_by_their_sentence(self, ana, dataset):
        html = ana.get(f"/datasets/{dataset}/findings").text
        named = re.findall(r'<fieldset[^>]*aria-describedby="([^"]+)"', html)

        assert len(named) == len(set(named)) == html.count("<fieldset")
        assert all(html.count(f'id="{name}"') == 1 for name in named)

    def test_label_with_blanks_in_it_is_sent_as_it_is(self, ana, rows):
        dataset = rows.dataset(ana.user_id, classes=("two  blanks", "b"))
        found = make_findings(("b", "two  blanks"), {"suspect_label": 1})
        rows.forecast(ana.user_id, dataset, found)

        html = ana.get(f"/datasets/{dataset}/findings").text

        assert '<option value="two  blanks" selected>' in html

    def test_2000_findings_come_24_a_page(self, ana, rows):
        dataset = rows.dataset(ana.user_id)
        many = make_findings(counts={"blurred": 2000})
        rows.forecast(ana.user_id, dataset, [row | {"images": []} for row in many])

        first = ana.get(f"/datasets/{dataset}/findings").text
        last = ana.get(f"/datasets/{dataset}/findings?page=84").text
        beyond = ana.get(f"/datasets/{dataset}/findings?page=999999").text

        assert first.count("<article") == 24
        assert "24 of 2,000 findings" in first
        assert last.count("<article") == beyond.count("<article") == 8

    def test_findings_that_are_too_many_are_counted(self, ana, rows):
        dataset = rows.dataset(ana.user_id)
        counts = {"counts": {"blurred": 2500}, "most_listed": 2000, "total": 2500}
        found = make_findings(counts={"blurred": 3})
        rows.forecast(ana.user_id, dataset, found)
        with rows.database.transaction() as s:
            forecast = s.scalars(select(Forecast)).one()
            forecast.summary = forecast.summary | {"findings": counts}

        html = ana.get(f"/datasets/{dataset}/findings?kind=blurred").text

        assert "500 more were found than are listed" in html

    def test_names_cannot_bring_markup(self, ana, rows):
        evil = '"><script>alert(1)</script>'
        dataset = rows.dataset(ana.user_id, classes=(evil, "b"))
        (row,) = make_findings((evil, "b"), {"suspect_label": 1})
        rows.forecast(ana.user_id, dataset, [row | {"sentence": evil, "names": [evil]}])

        for page in ("", "/findings"):
            html = ana.get(f"/datasets/{dataset}{page}").text
            assert "<script>alert" not in html
            assert "alert(1)" in html

    def test_many_classes_are_typed_not_listed_on_every_card(self, ana, rows):
        classes = [f"class {number}" for number in range(500)]
        dataset = rows.dataset(ana.user_id, classes=classes)
        rows.forecast(
            ana.user_id, dataset, make_findings(classes, {"suspect_label": 24})
        )

        html = ana.get(f"/datasets/{dataset}/findings").text

        assert html.count("class 123") == 1
        assert len(html) < 150_000

    @pytest.mark.parametrize(
        ("query", "words"),
        [
            ("", "Version 1 has not been examined"),
            ("?version=1", "Version 1 has not been examined"),
            ("?page=abc&kind=nonsense", "Version 1 has not been examined"),
        ],
    )
    def test_version_that_was_not_examined_offers_it(self, ana, rows, query, words):
        dataset = rows.dataset(ana.user_id)

        html = ana.get(f"/datasets/{dataset}/findings{query}").text

        assert words in html
        assert 'id="examine"' in html

    def test_examination_is_followed(self, ana, rows):
        dataset = rows.dataset(ana.user_id)
        page = f"/datasets/{dataset}/findings"
        ana.send(f"/datasets/{dataset}/forecast", page, version="1")

        html = ana.get(page).text
        live = ana.get(f"{page}/live?version=1")

        assert "Being examined" in html
        assert f"{page}/live?version=1" in html
        assert "X-Poll" not in live.headers
        rows.fail(2, "forecast", "The <b>memory</b> was full.")
        assert ana.get(f"{page}/live").headers["X-Poll"] == "stop"
        assert "The &lt;b&gt;memory&lt;/b&gt; was full." in ana.get(page).text

    def test_nothing_found_is_said(self, ana, rows):
        dataset = rows.dataset(ana.user_id)
        rows.forecast(ana.user_id, dataset, [])

        assert "Nothing was found" in ana.get(f"/datasets/{dataset}/findings").text
        assert "Nothing was found" in ana.get(f"/datasets/{dataset}").text

    def test_findings_whose_file_is_gone_are_made_again(self, app, ana, dataset):
        storage = app.extensions["trainyard"].storage
        (folder,) = storage.forecasts(dataset).iterdir()
        (folder / "findings.parquet").unlink()

        html = ana.get(f"/datasets/{dataset}/findings").text
        assert "Forecast it again" in html
        assert 'name="again"' in html
        assert "Forecast it again" in ana.get(f"/datasets/{dataset}").text

    def test_strangers_and_missing_datasets(self, app, ana, dataset):
        stranger = app.test_client().get(f"/datasets/{dataset}/findings")

        assert stranger.status_code == 302
        assert ana.get("/datasets/99/findings").status_code == 404
        assert ana.get(f"/datasets/{dataset}/findings?version=9").status_code == 404


class TestPanel:
    def test_counts_lead_to_their_kind_and_the_worst_are_shown(self, ana, dataset):
        html = ana.get(f"/datasets/{dataset}").text
        panel = html[html.index('id="doctor"') :]

        assert f"/datasets/{dataset}/findings?version=1&amp;kind=blurred" in panel
        assert panel.count('class="worst-one"') == 3

    def test_not_examined_yet_is_said(self, ana, rows):
        dataset = rows.dataset(ana.user_id)

        assert "has not been examined yet" in ana.get(f"/datasets/{dataset}").text


class TestAccept:
    def test_accepted_finding_vanishes_and_is_taken_back(self, ana, rows, dataset):
        key, page = key_of("outlier"), f"/datasets/{dataset}/findings"

        answer = ana.send(
            f"{page}/accept?version=1&kind=outlier", page, version="1", accept=key
        )

        assert answer.location == f"{page}?version=1&kind=outlier"
        assert list_accepted(rows, dataset) == {key}
        assert key not in ana.get(page).text
        assert key in ana.get(f"{page}?accepted=yes").text
        ana.send(f"{page}/take-back?accepted=yes", page, one=key)
        assert list_accepted(rows, dataset) == set()
        assert key in ana.get(page).text

    def test_script_is_answered_with_numbers(self, ana, dataset):
        page = f"/datasets/{dataset}/findings"
        data = {"csrf_token": ana.token(page), "version": "1"}
        headers = {"Accept": "application/json"}

        good, bad = (
            ana.post(f"{page}/accept", data={**data, "accept": k}, headers=headers)
            for k in (key_of("outlier"), "f" * 32)
        )

        assert good.json == {"findings": 1}
        assert bad.status_code == 409
        assert "not among the newest" in bad.json["detail"]

    def test_many_are_accepted_at_once_and_no_version_is_made(
        self, rows, dataset, decide
    ):
        keys = [key_of("blurred", 0), key_of("unreadable")]

        answer = decide(chosen=keys, action="accept")

        assert answer.location.startswith(f"/datasets/{dataset}/findings")
        assert list_accepted(rows, dataset) == set(keys)
        assert list_ingests(rows, dataset) == []

    def test_all_of_a_kind_beyond_the_page(self, ana, rows, decide, dataset):
        rows.forecast(ana.user_id, dataset, make_findings(counts={"blurred": 300}))

        decide(query="?kind=blurred", whole="blurred", action="accept")

        assert len(list_accepted(rows, dataset)) == 300


class TestDecide:
    def test_relabelled_in_bulk_as_suggested(self, ana, rows, dataset, decide):
        keys = [key_of("suspect_label", number) for number in range(4)]

        answer = decide(chosen=keys, action="relabel", key="k")

        assert answer.location == f"/datasets/{dataset}"
        assert list_edits(rows, dataset) == [
            ("relabel", "defective", [picture_of("suspect_label", n) for n in range(4)])
        ]
        shown = ana.get(f"/datasets/{dataset}").text
        assert "A new version is being made: 4 pictures relabelled" in shown
        assert "Waiting for a worker" in shown

    def test_one_version_is_made_of_all_that_is_decided(self, rows, dataset, decide):
        answer = decide(
            chosen=[key_of("outlier", 0), key_of("unreadable")],
            action="exclude",
            **{
                f"do__{key_of('suspect_label')}": "relabel",
                f"label__{key_of('suspect_label')}": "intact",
                f"do__{key_of('label_conflict')}": "as:intact",
                f"do__{key_of('blurred')}": "quarantine",
                f"do__{key_of('outlier', 1)}": "",
            },
        )

        assert answer.status_code == 302
        assert len(list_ingests(rows, dataset)) == 1
        conflict, suspect = picture_of("label_conflict"), picture_of("suspect_label")
        assert list_edits(rows, dataset) == [
            ("relabel", "intact", [conflict, suspect]),
            ("exclude", None, [picture_of("outlier")]),
            ("quarantine", None, [picture_of("blurred")]),
        ]
        (job,) = list_ingests(rows, dataset)
        assert job.spec["edits"][2]["reason"] == "Blurred"
        assert "split" not in job.spec

    @pytest.mark.parametrize(
        ("keep", "going"), [("test", [0, 2]), ("first", [1, 2]), ("none", [0, 1, 2])]
    )
    def test_of_copies_one_stays(self, rows, dataset, decide, keep, going):
        near = key_of("near_duplicate")
        decide(chosen=near, action="exclude", keep=keep, test="yes")

        ((action, _, images),) = list_edits(rows, dataset)
        assert action == "exclude"
        assert images == [picture_of("near_duplicate", 0, place) for place in going]

    def test_splits_are_dealt_anew(self, rows, dataset, decide):
        decide(deal="folder", key="k")

        (job,) = list_ingests(rows, dataset)
        assert job.spec["split"] == {"by": "folder", "again": True}
        assert job.spec["edits"] == []

    def test_what_was_found_to_look_alike_is_dealt_together(
        self, ana, rows, dataset, decide
    ):
        found = make_findings(counts={"near_duplicate": 3, "split_leak": 1})
        rows.forecast(ana.user_id, dataset, found)
        accept = {"chosen": found[1]["key"], "action": "accept"}

        first = decide(**accept, deal="duplicates", key="k")
        again = decide(**accept, deal="duplicates", key="k")

        assert first.location == again.location

        (job,) = list_ingests(rows, dataset)
        fine = found[1]["key"]
        assert job.spec["split"] == {
            "by": "duplicates",
            "again": True,
            "alike": [row["images"] for row in found if row["key"] != fine],
        }

    def test_column_that_no_picture_has_is_refused_at_once(self, decide):
        answer = decide(deal="column", column=" patient ", key="k")

        assert answer.status_code == 400
        assert "keeps no column of a table" in answer.text
        assert 'value=" patient "' in answer.text

    def test_of_two_fates_the_stronger_holds(self, ana, rows, dataset, decide):
        one, other = make_findings(counts={"outlier": 1, "blurred": 1})
        other["images"] = one["images"]
        rows.forecast(ana.user_id, dataset, [one, other])

        decide(**{f"do__{one['key']}": "exclude", f"do__{other['key']}": "quarantine"})

        assert list_edits(rows, dataset) == [("exclude", None, one["images"])]

    @pytest.mark.parametrize(
        ("values", "words"),
        [
            ({}, "Nothing is chosen"),
            ({"action": "exclude"}, "Nothing is chosen"),
            ({"chosen": key_of("outlier")}, "Say in the bar below"),
            ({"chosen": key_of("unreadable"), "action": "exclude"}, "cannot be done"),
            ({"chosen": key_of("outlier"), "action": "relabel"}, "cannot be done"),
            (
                {"chosen": key_of("outlier"), "action": "relabel", "label": "x"},
                "no class",
            ),
            ({f"do__{key_of('outlier')}": "restore"}, "relabelled, excluded or"),
            ({f"do__{key_of('outlier')}": "relabel"}, "Choose the label"),
            ({"deal": "column"}, "Name the column"),
            ({"whole": "nonsense", "action": "accept"}, "no kind of findings"),
            ({"version": "x", "chosen": "1", "action": "accept"}, "which version"),
        ],
    )
    def test_what_cannot_be_is_told_and_what_was_filled_in_stays(
        self, rows, dataset, decide, values, words
    ):
        answer = decide(**values)

        assert answer.status_code == 400
        assert words in answer.text
        assert list_ingests(rows, dataset) == []
        if key_of("outlier") in str(values.get("chosen")):
            tick = f'value="{key_of("outlier")}" id="tick-{key_of("outlier")}" checked'
            assert tick in answer.text

    def test_two_labels_for_one_picture_are_refused(self, ana, rows, dataset, decide):
        one, other = make_findings(counts={"suspect_label": 1, "outlier": 1})
        other["images"] = one["images"]
        rows.forecast(ana.user_id, dataset, [one, other])
        fields = {}
        for row, label in ((one, "intact"), (other, "defective")):
            fields |= {f"do__{row['key']}": "relabel", f"label__{row['key']}": label}

        answer = decide(**fields)

        assert answer.status_code == 400
        assert "both “intact” and “defective”" in answer.text

    def test_forecast_again_by_somebody_else_loses_no_tick(self, decide):
        answer = decide(chosen=[key_of("outlier"), "f" * 32], action="exclude")

        assert answer.status_code == 409
        assert "1 of the findings that you chose are not among" in answer.text
        tick = f'value="{key_of("outlier")}" id="tick-{key_of("outlier")}" checked'
        assert tick in answer.text
