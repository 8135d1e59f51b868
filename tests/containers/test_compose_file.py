"""What docker-compose.yml promises of every service, read as Compose reads it."""

import re
from pathlib import PurePosixPath
from urllib.parse import urlsplit

import pytest

from cli.secret_commands import NAMES
from shared.settings import Settings
from tests.containers.compose_file import read_compose_file

WHOLE = read_compose_file()
SERVICES = WHOLE["services"]
STAYING = sorted(name for name, one in SERVICES.items() if one["restart"] != "no")
every_service = pytest.mark.parametrize("name", sorted(SERVICES))


def test_the_services_are_those_of_up_with_their_databases():
    ours = {"web", "migrate", "reconciler", "ingest", "worker-cpu", "worker-gpu"}

    assert set(SERVICES) == ours | {"redis", "postgres"}
    assert set(SERVICES) - set(STAYING) == {"migrate"}


def test_without_a_profile_nothing_trains():
    assert not {"worker-cpu", "worker-gpu"} & set(read_compose_file(())["services"])


@every_service
def test_a_service_is_no_root_and_can_become_none(name):
    service = SERVICES[name]

    user, group = map(int, service["user"].split(":"))
    assert min(user, group) > 0
    assert service["cap_drop"] == ["ALL"]
    assert service.get("cap_add", []) == []
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.get("privileged")


@every_service
def test_a_service_writes_into_volumes_and_memory_of_a_size_alone(name):
    service = SERVICES[name]

    assert service["read_only"] is True
    assert {volume["type"] for volume in service["volumes"]} == {"volume"}
    assert all("size=" in folder for folder in service["tmpfs"])
    assert any(folder.startswith("/tmp:") for folder in service["tmpfs"])


@every_service
def test_a_service_has_limits(name):
    limits = SERVICES[name]["deploy"]["resources"]["limits"]

    assert int(limits["memory"]) >= 2**28
    assert limits["pids"] >= 64
    assert SERVICES[name]["logging"]["options"]["max-size"]


@pytest.mark.parametrize("name", STAYING)
def test_a_service_that_stays_is_looked_after(name):
    assert SERVICES[name]["healthcheck"]["test"]
    assert SERVICES[name]["restart"] == "unless-stopped"


def test_each_image_of_ours_is_built_by_one_service_and_fetched_by_none():
    ours = [one for one in SERVICES.values() if one["image"].startswith("trainyard-")]
    built = [one["image"] for one in ours if "build" in one]

    assert sorted(built) == sorted({one["image"] for one in ours})
    assert {one["pull_policy"] for one in ours} == {"never"}
    always = read_compose_file(())["services"].values()
    assert {"trainyard-web:local", "trainyard-worker-cpu:local"} == {
        one["image"] for one in always if "build" in one
    }


def test_one_port_is_published_and_to_this_machine_alone():
    published = [
        (name, port["host_ip"], port["target"])
        for name, service in SERVICES.items()
        for port in service.get("ports", [])
    ]

    assert published == [("web", "127.0.0.1", 8420)]


def test_records_are_on_a_network_without_a_way_out():
    assert WHOLE["networks"]["records"]["internal"] is True
    for name in ("redis", "postgres", "migrate", "reconciler"):
        assert list(SERVICES[name]["networks"]) == ["records"]


def test_what_reads_datasets_has_a_way_out_only_where_they_come_from_addresses():
    allowed = '["https://data.example.org/"]'
    opened = read_compose_file(TRAINYARD_SOURCE_ADDRESSES=allowed)

    ways = [
        {name: whole["networks"][name].get("internal", False) for name in ingest}
        for whole in (WHOLE, opened)
        for ingest in [whole["services"]["ingest"]["networks"]]
    ]
    assert ways == [
        {"records": True, "sources": True},
        {"records": True, "sources-outside": False},
    ]
    for name in ("web", "ingest"):
        environment = opened["services"][name]["environment"]
        assert environment["TRAINYARD_SOURCE_ADDRESSES"] == allowed


def test_every_setting_can_be_set_or_is_given():
    # Of the image, of one machine's folders, or of the command line.
    elsewhere = re.compile(
        "_(DIRS?|ROOTS|HOST|PORT|PRODUCTION|SECRET_KEY|PASSWORD|URL|TOKEN|LOG_JSON)$"
    )
    named = set().union(*(one.get("environment", {}) for one in SERVICES.values()))

    left = {f"TRAINYARD_{name.upper()}" for name in Settings.model_fields} - named
    assert sorted(name for name in left if not elsewhere.search(name)) == []


@every_service
def test_no_secret_stands_in_an_environment(name):
    for variable, value in SERVICES[name].get("environment", {}).items():
        if re.search("PASSWORD|SECRET|TOKEN|KEY", variable):
            assert variable.endswith("_FILE"), variable
            assert PurePosixPath(value).parent == PurePosixPath("/run/secrets")
        # Null: handed on as it is where the one who starts the stack has set it.
        assert value is None or urlsplit(value).password is None, variable


@every_service
def test_a_service_gets_the_secrets_that_it_needs_and_no_other(name):
    named = {
        PurePosixPath(value).name
        for variable, value in SERVICES[name].get("environment", {}).items()
        if variable.endswith("_FILE")
    }
    given = {secret["source"] for secret in SERVICES[name]["secrets"]}

    assert given == {
        "web": named,
        "postgres": {"database_password"},
        "redis": {"redis_password"},
    }.get(name, named - {"secret_key"})


def test_secrets_are_the_files_that_the_command_makes():
    moved = read_compose_file(TRAINYARD_SECRETS_DIR="/elsewhere")

    files = {name: one["file"] for name, one in moved["secrets"].items()}
    assert files == {name: f"/elsewhere/{name}" for name in NAMES}


def test_the_gpu_worker_reserves_every_gpu_and_has_time_to_save():
    (device,) = SERVICES["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]

    assert device["driver"] == "nvidia"
    assert device["count"] == -1
    assert "gpu" in device["capabilities"]
    assert SERVICES["worker-gpu"]["build"]["args"] == {"HARDWARE": "gpu"}
    for name in ("worker-cpu", "worker-gpu", "ingest"):
        assert SERVICES[name]["stop_grace_period"] == "40s"


def test_redis_keeps_what_it_holds_and_asks_for_a_password():
    text = " ".join(SERVICES["redis"]["command"])

    assert "requirepass" in text
    assert "--appendonly yes" in text
    assert "--maxmemory-policy noeviction" in text
