"""What the running containers may do and what they know: asked of the engine itself."""

import json

from tests.containers.stack import IMAGES, WORKER

WEB_BYTES_MOST = 350_000_000
OURS = ("web", "reconciler", "ingest", WORKER)
NO_ADDRESS = "00000000"  # the destination of a route to everywhere
FIND_FRAMEWORK = "import importlib.util as u; print(u.find_spec('tensorflow') is None)"
# Printed: the variables that children of the worker were given and must not have.
FIND_TOLD = """\
import pathlib
told = set()
children = 0
for folder in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        line = (folder / "cmdline").read_bytes()
        if b"worker.training" not in line or b"worker.guardian" in line:
            continue
        names = (folder / "environ").read_bytes().split(b"\\0")
    except OSError:
        continue
    children += 1
    hidden = (b"TRAINYARD_", b"PASSWORD", b"SECRET", b"://")
    told |= {n.split(b"=")[0].decode() for n in names if any(h in n for h in hidden)}
print(children, sorted(told))
"""


def check_images(stack, journal):
    """The web image is small and knows no framework; neither holds pip."""
    for service, image in IMAGES.items():
        size_bytes = int(stack.engine.inspect(image, "{{.Size}}"))
        journal.note(f"image of {service}", f"{size_bytes / 1e6:.1f} MB")
        if service == "web":
            assert size_bytes < WEB_BYTES_MOST, f"{size_bytes} bytes"
        assert stack.engine.inspect(image, "{{.Config.User}}") == "10001:10001"
        run = ["run", "--rm", "--network=none", image]
        assert stack.engine.docker(*run, "sh", "-c", "ls /opt").split() == [
            "trainyard",
            "venv",
        ]
    web = ["run", "--rm", "--network=none", IMAGES["web"], "python", "-c"]
    assert stack.engine.docker(*web, FIND_FRAMEWORK).strip() == "True"


def check_containers(stack, journal):
    """Nobody is root, nothing but volumes can be written, nothing is told a secret."""
    secrets = [path.read_text() for path in stack.secrets.iterdir()]
    for service in stack.services():
        container = stack.container(service)
        seen = stack.engine.docker("inspect", container)
        facts = json.loads(seen)[0]
        assert facts["HostConfig"]["ReadonlyRootfs"], service
        assert facts["HostConfig"]["CapDrop"] == ["ALL"], service
        assert facts["HostConfig"]["Memory"] > 0, service
        assert not any(secret in seen for secret in secrets), service
        if facts["State"]["Running"]:
            _check_running(stack, service, container, secrets)
    for service in OURS:
        assert stack.refuses(service, "touch", "/opt/trainyard/written"), service
        assert stack.refuses(service, "touch", "/etc/written"), service
    assert stack.refuses(WORKER, "cat", "/run/secrets/secret_key")
    for service in ("ingest", "reconciler"):
        routes = stack.execute(service, "cat", "/proc/net/route").splitlines()[1:]
        assert all(route.split()[1] != NO_ADDRESS for route in routes), service
    journal.say("No root, no writing, no secret in sight: checked in every container")


def check_trainer(stack, journal):
    """The processes that train have no address and no password."""
    told = stack.execute(WORKER, "python", "-c", FIND_TOLD).strip()
    children, names = told.split(" ", 1)
    assert int(children) >= 1, told
    assert names == "[]", told
    journal.say(f"{children} training processes were told no address and no secret")


def check_broker(stack, journal):
    """Redis asks for its password and writes what it holds to the disk."""
    ask = (
        'REDISCLI_AUTH="$(cat /run/secrets/redis_password)" redis-cli info persistence'
    )
    assert "aof_enabled:1" in stack.execute("redis", "sh", "-c", ask)
    assert "NOAUTH" in stack.execute("redis", "redis-cli", "info", "persistence")
    journal.say("Redis keeps an append-only file and answers nobody without password")


def _check_running(stack, service, container, secrets):
    ids = stack.execute(service, "id", "-u").strip()
    assert int(ids) > 0, service
    processes = stack.engine.docker("top", container, "-eo", "pid,user,args")
    assert not any(secret in processes for secret in secrets), service
    ports = json.loads(
        stack.engine.inspect(container, "{{json .NetworkSettings.Ports}}")
    )
    hosts = {row["HostIp"] for rows in ports.values() for row in rows or []}
    assert hosts == ({"127.0.0.1"} if service == "web" else set()), service
