"""What the jobs of a submission are compared by, read in few statements."""

import pytest

from shared import attempt_store, comparison_store, job_read_store, model_store
from shared.attempt_progress_store import MetricPoint
from shared.errors import NotFoundError
from tests import factories


@pytest.fixture
def group(database):
    """Three queued jobs of one submission, and one of another."""
    with database.transaction() as s:
        owner_id = factories.make_user(s).id
        model_id = factories.make_model(s, owner_id, "cells").id
        return [
            factories.make_job(s, owner_id, model_id=model_id, group_key=key)
            for key in ("g", "g", "g", "other")
        ]


def report(session, claim, values, *, first=1):
    """Reports one epoch of 20 steps for each value."""
    points = [
        MetricPoint(
            name=name, seq=epoch, step=20 * epoch, epoch=epoch, phase="frozen",
            value=value if name == "val_accuracy" else 9.0,
        )
        for epoch, value in enumerate(values, first)
        for name in ("val_accuracy", "val_loss")
    ]  # fmt: skip
    attempt_store.add_metrics(session, claim.job_id, claim.fence, points)


def test_each_job_is_read_with_what_it_published(database, group):
    with database.transaction() as s:
        factories.complete(s, group[0], factories.claim(s).fence)
        running = factories.claim(s)

    with database.reading() as s:
        done, runs, waits = comparison_store.list_jobs(s, "g")

    assert [done.id, runs.id, waits.id] == group[:3]
    assert (done.model, done.version, done.artifact_bytes) == ("cells", 1, 10)
    assert done.attempt_started_at is None
    assert (runs.state, runs.version) == ("running", None)
    assert runs.id == running.job_id
    assert runs.attempt_started_at > 0
    assert (waits.dataset, waits.attempt_started_at) == (None, None)


def test_a_deleted_version_is_none(database, group):
    with database.transaction() as s:
        factories.complete(s, group[0], factories.claim(s).fence)
        model_store.delete_version(s, "cells", 1, actor="test")

    with database.reading() as s:
        assert comparison_store.list_jobs(s, "g")[0].version is None


def test_curves_have_neither_gaps_nor_doubles_after_a_crash(database, group):
    with database.transaction() as s:
        claim = factories.claim(s)
        report(s, claim, [0.5, 0.6, 0.99, 0.98])
        attempt_store.end(
            s, claim.job_id, claim.fence, outcome="lost", charge=False, backoff_ms=0
        )
        again = factories.claim(s)
        assert again.job_id == claim.job_id == group[0]
        attempt_store.record_resumed(s, again.job_id, again.fence, 40)
        report(s, again, [0.61, 0.7], first=2)  # the second epoch is told once more

    with database.reading() as s:
        summary = comparison_store.summarise_curves(s, "g")
        curves = comparison_store.list_curves(s, group)
        whole = job_read_store.metrics_curve(s, group[0])

    assert curves == {group[0]: [0.5, 0.61, 0.7]}
    assert curves[group[0]] == [p.value for p in whole if p.name == "val_accuracy"]
    assert summary.keys() == {group[0]}
    assert tuple(summary[group[0]])[1:] == (0.7, 3, 60)


def test_other_submissions_are_left_out(database, group):
    with database.transaction() as s:
        for number in range(4):
            report(s, factories.claim(s), [0.1 * (number + 1)])

    with database.reading() as s:
        summary = comparison_store.summarise_curves(s, "other")
        with pytest.raises(NotFoundError, match="no such submission"):
            comparison_store.list_jobs(s, "none")

    assert [(job, row.best) for job, row in summary.items()] == [(group[3], 0.4)]
