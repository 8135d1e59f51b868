"""A dataset that has been examined, and the form that decides about it."""

import pytest


@pytest.fixture
def dataset(ana, rows):
    """A dataset of Ana's that has been examined."""
    dataset_id = rows.dataset(ana.user_id)
    rows.forecast(ana.user_id, dataset_id)
    return dataset_id


@pytest.fixture
def decide(ana, dataset):
    """Sends the form of a page of findings."""

    def send(person=ana, *, query="", version="1", **values):
        page = f"/datasets/{dataset}/findings"
        values = {name.replace("__", ":"): value for name, value in values.items()}
        return person.send(f"{page}/decide{query}", page, version=version, **values)

    return send


@pytest.fixture
def ask(api, ana, dataset):
    """Sends decisions to the API."""
    client = api(ana.user_id)

    def send(**body):
        path = f"/datasets/{dataset}/findings/decisions"
        return client("POST", path, json={"version": 1, **body})

    return send
