"""Uploads that a worker removes while the web looks through them: they are skipped.

A worker removes what a dataset was made of without asking anybody.
"""

import shutil

import pytest

from tests.web.tus import Tus, place
from web.uploads import store


@pytest.fixture
def tus(api, ana):
    return Tus(api(ana.user_id))


@pytest.fixture
def lose_when_found(rows, monkeypatch):
    """Has these uploads removed right after the web has found each of them."""

    def arrange(*upload_ids):
        find = store._find  # there is no other moment to come between

        def find_and_lose(storage, upload_id):
            found = find(storage, upload_id)
            if upload_id in upload_ids:
                shutil.rmtree(rows.storage.upload(upload_id), ignore_errors=True)
            return found

        monkeypatch.setattr(store, "_find", find_and_lose)

    return arrange


def begin(tus):
    """Makes an upload; returns its id."""
    return place(tus.create(5)).rsplit("/", 1)[-1]


def list_ids(tus):
    answer = tus.api("GET", "/uploads")
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.json["items"]]


def test_they_are_no_obstacle_to_another_one(tus, monkeypatch, lose_when_found):
    monkeypatch.setattr(store, "MAX_PER_USER", 2)
    lose_when_found(begin(tus), begin(tus))

    assert tus.create(5).status_code == 201


def test_they_are_not_listed(tus, lose_when_found):
    lost, kept = begin(tus), begin(tus)
    lose_when_found(lost)

    assert list_ids(tus) == [kept]


def test_they_are_not_listed_when_they_go_late(tus, rows, monkeypatch):
    lost, kept = begin(tus), begin(tus)
    list_of = store.list_of

    def list_and_lose(*asked):
        found = list_of(*asked)
        shutil.rmtree(rows.storage.upload(lost))
        return found

    monkeypatch.setattr(store, "list_of", list_and_lose)

    assert list_ids(tus) == [kept]


def test_few_uploads_are_not_read_to_make_another(tus, monkeypatch):
    begin(tus)

    def refuse(*_):
        raise AssertionError("the uploads of everybody were read")

    monkeypatch.setattr(store, "list_of", refuse)

    assert tus.create(5).status_code == 201
