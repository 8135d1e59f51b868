"""Three hosts, of which at once one is cut off, one slowed and one killed.

Each is a network namespace with an address of its own, reaches Postgres and the broker
over TCP, and shares a folder; its worker, guardian and trainer are real processes. What
happened is told once (`outage`), and then each test asks one thing of it.
"""

import contextlib
import time
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from shared.database import Database
from tests.chaos import oplog, oracles
from tests.chaos.rows import expect_gone, find_attempts, play_zombie, read_events
from tests.hosts.network import Network, find_obstacle
from tests.hosts.site import Machine, Site
from tests.hosts.writers import find_rivals, list_writes

SETTLE_SECONDS = 60
GONE_SECONDS = 30
# A look of the guardian's, and a busy machine's lateness.
LATE_SECONDS = 1.5
STEPS = {"cut": 100, "slow": 100, "killed": 80, "waiting": 20}
CHECKPOINT_STEPS = 20
# So that it is still at it when its host has been cut off for long enough.
DAWDLE = {"step": 25, "do": "dawdle", "step_seconds": 0.4, "fences": [1]}
WAITING = 2
SLOWNESS = {"delay_seconds": 0.04, "jitter_seconds": 0.04, "loss": 0.03}

pytestmark = [pytest.mark.xdist_group("platform"), pytest.mark.timeout(240)]


@dataclass
class Outage:
    """What was done to whom, and what came of it."""

    site: Site
    cut: Machine
    slow: Machine
    killed: Machine
    jobs: dict
    cut_at: float = 0.0
    stopped_after_seconds: float = 0.0
    unsettled: list = field(default_factory=list)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    if obstacle := find_obstacle():
        pytest.skip(obstacle)
    with contextlib.ExitStack() as stack:
        network = Network()
        stack.callback(network.close)
        site = Site(tmp_path_factory.mktemp("hosts") / "site", network)
        stack.callback(site.close)
        yield site.start()


@pytest.fixture(scope="module")
def outage(site):
    jobs = {
        "cut": submit(site, "cut", faults=[DAWDLE]),
        "slow": submit(site, "slow"),
        "killed": submit(site, "killed"),
    }
    for job in jobs.values():
        site.wait_for_checkpoint(job)
    hosts = {name: site.host_of(job) for name, job in jobs.items()}
    for number in range(WAITING):
        jobs[f"waiting {number}"] = submit(site, "waiting")
    outage = Outage(site, jobs=jobs, **hosts)
    break_off(outage)
    come_back(outage)
    outage.unsettled = site.client.settle(SETTLE_SECONDS)
    return outage


def submit(site, name, **more):
    return site.submit(steps=STEPS[name], checkpoint_every=CHECKPOINT_STEPS, **more)


def break_off(outage):
    """Slows one host, kills one, cuts one off, and waits until that one has stopped."""
    site, job = outage.site, outage.jobs["cut"]
    trainer = site.trainer(job)
    outage.slow.line.wire.slow_down(**SLOWNESS)
    outage.killed.cut_power()
    outage.cut.line.cut()
    outage.cut_at = time.time()
    outage.stopped_after_seconds = expect_gone(
        trainer, GONE_SECONDS, "the trainer of the host that was cut off"
    )
    site.wait_for_attempt(job, 2)


def come_back(outage):
    """Mends the link, and leaves a job that only the host behind it does."""
    site, host = outage.site, outage.cut
    host.line.mend()
    host.run(write_as_before, site, outage.jobs["cut"])
    outage.jobs["come back"] = submit(site, "waiting", queue=host.name)


def write_as_before(site, job):
    """Expects that whatever the first attempt may have left to write is refused."""
    database = Database(site.database.url)
    try:
        play_zombie(SimpleNamespace(database=database), job, fence=1)
    finally:
        database.dispose()


def test_every_accepted_job_succeeds_once(outage):
    collected = outage.site.client.collect()
    operations = oplog.read_operations(outage.site.log.path)

    lost, doubled, violations = oracles.judge(collected, outage.unsettled, operations)

    assert (lost, doubled, violations) == ([], [], [])
    assert [row["state"] for row in collected] == ["succeeded"] * len(outage.jobs)
    assert [len(row["archives"]) for row in collected] == [1] * len(outage.jobs)


def test_no_invariant_is_violated(outage):
    assert oracles.find_violations(outage.site) == []


def test_each_host_writes_from_an_address_of_its_own(outage):
    writes = list_writes(outage.site)
    hosts = {(row.job_id, row.fence): row.address for row in writes}
    clients = outage.site.broker.client().client_list()
    told = {
        (attempt.job_id, attempt.fence): attempt.host
        for job in outage.jobs.values()
        for attempt in outage.site.attempts(job)
    }

    assert {k: outage.site.host_at(a).name for k, a in hosts.items()} == told
    assert len(set(hosts.values())) == 3
    for host in (outage.cut, outage.slow):
        assert any(c["addr"].startswith(f"{host.line.address}:") for c in clients)


def test_one_attempt_at_a_time_writes_about_a_job(outage):
    writes = list_writes(outage.site)

    assert {"jobs", "checkpoints", "metrics", "notes", "model_versions"} == {
        row.what for row in writes
    }
    assert find_rivals(writes) == []


def test_host_that_is_cut_off_stops_its_trainer_by_itself(outage):
    timers = outage.site.timers
    limits = ("unconfirmed_lease_seconds", "heartbeat_seconds", "stop_grace_seconds")
    latest_seconds = sum(timers[name] for name in limits) + LATE_SECONDS

    assert timers["lease_seconds"] < outage.stopped_after_seconds <= latest_seconds


def test_job_of_the_host_that_is_cut_off_goes_on_elsewhere(outage):
    assert_moved(outage, "cut", away_from=outage.cut)


def test_job_of_the_killed_host_goes_on_elsewhere(outage):
    assert_moved(outage, "killed", away_from=outage.killed)


def assert_moved(outage, job, away_from):
    site, promise = outage.site, outage.jobs[job]
    lost, *others = site.attempts(promise)
    second = read_events(find_attempts(site, promise, fence=2)[0])
    resumed = [event["step"] for event in second if event["event"] == "resumed"]

    assert (lost.host, lost.outcome) == (away_from.name, "lost")
    assert others[0].host != away_from.name
    assert others[-1].outcome == "succeeded"
    assert resumed
    assert resumed[0] >= CHECKPOINT_STEPS


def test_host_whose_link_comes_back_writes_nothing_about_what_it_lost(outage):
    late = [
        row
        for row in list_writes(outage.site)
        if row.address == outage.cut.line.address
        and row.job_id == outage.jobs["cut"].job_id
        and row.at > 1000 * outage.cut_at
    ]

    assert late == []


def test_host_whose_link_comes_back_does_the_next_jobs(outage):
    (attempt,) = outage.site.attempts(outage.jobs["come back"])

    assert (attempt.host, attempt.outcome) == (outage.cut.name, "succeeded")
    assert outage.cut.lives


def test_slow_host_keeps_its_job(outage):
    (attempt,) = outage.site.attempts(outage.jobs["slow"])

    assert (attempt.host, attempt.outcome) == (outage.slow.name, "succeeded")
    assert outage.slow.line.wire.lost > 0
