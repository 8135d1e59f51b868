"""What the running containers may do and what they know: asked of the engine itself."""

import json

from tests.containers.stack import IMAGES, PROJECT, WORKER

# A quarter of it is pyarrow, with which web reads findings where they lie.
WEB_BYTES_MOST = 450_000_000
OURS = ("web", "reconciler", "ingest", WORKER)
CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], 8420), timeout=3)"
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
    hidden = (b"_URL", b"_FILE", b"PASSWORD", b"SECRET", b"secret", b"://")
    told |= {n.split(b"=")[0].decode() for n in names if any(h in n for h in hidden)}
print(children, sorted(told))
"""


def check_images(stack, journal):
    """The web image is small and knows no framework; neither holds pip."""
    for service, image in IMAGES.items():
        size_bytes = int(stack.engine.inspect(image, "{{.Size}}"))
        journal.note(f"image of {service}", f"{size_bytes / 1e6:.1f} MB")
        if service == "web":
            assert size_bytes < WEB_BYTES_MOST, f"{size_bytes} bytes are too many"
        user = stack.engine.inspect(image, "{{.Config.User}}")
        assert user == "10001:10001", f"{image} runs as {user}"
        run = ["run", "--rm", "--network=none", image]
        held = stack.engine.docker(*run, "ls", "/opt").split()
        assert held == ["trainyard", "venv"], f"{image} holds {held}"
    web = ["run", "--rm", "--network=none", IMAGES["web"], "python", "-c"]
    assert stack.engine.docker(*web, FIND_FRAMEWORK).strip() == "True"


def check_containers(stack, journal):
    """Nobody is root, nothing but volumes can be written, nothing is told a secret."""
    # One is empty until a mail server is named.
    secrets = list(filter(None, (path.read_text() for path in stack.secrets.iterdir())))
    for service in stack.services():
        container = stack.container(service)
        seen = stack.engine.docker("inspect", container)
        facts = json.loads(seen)[0]
        host = facts["HostConfig"]
        assert host["ReadonlyRootfs"], f"{service} can write its root file system"
        assert host["CapDrop"] == ["ALL"], f"{service} has kept capabilities"
        assert host["Memory"] > 0, f"{service} has no limit of memory"
        assert not any(secret in seen for secret in secrets), f"{service} shows secrets"
        if facts["State"]["Running"]:
            _check_running(stack, service, container, secrets)
    for service in OURS:
        for path in ("/opt/trainyard/written", "/etc/written"):
            assert stack.refuses(service, "touch", path), f"{service} writes {path}"
    assert stack.refuses(WORKER, "cat", "/run/secrets/secret_key"), "a worker may sign"
    journal.say("No root, no writing, no secret in sight: checked in every container")


def check_networks(stack, journal):
    """Who is on the network of the records alone sees no other."""
    name = f"{PROJECT}_outside"
    path = f'{{{{(index .NetworkSettings.Networks "{name}").IPAddress}}}}'
    address = stack.engine.inspect(stack.container("web"), path)
    for service in ("ingest", "reconciler"):
        stack.execute(service, "python", "-c", CONNECT, "web")
        shut_out = stack.refuses(service, "python", "-c", CONNECT, address)
        assert shut_out, f"{service} reaches the network outside"
    journal.say("Ingest and reconciler reach web on their own network and no other")


def check_trainer(stack, journal):
    """The processes that train have no address and no password."""
    told = stack.execute(WORKER, "python", "-c", FIND_TOLD).strip()
    children, names = told.split(" ", 1)
    assert int(children) >= 1, "nothing trains"
    assert names == "[]", f"training processes were told {names}"
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
    user = int(stack.execute(service, "id", "-u"))
    assert user > 0, f"{service} runs as root"
    processes = stack.engine.docker("top", container, "-eo", "pid,user,args")
    assert not any(secret in processes for secret in secrets), (
        f"{service} tells secrets"
    )
    path = "{{json .NetworkSettings.Ports}}"
    ports = json.loads(stack.engine.inspect(container, path))
    hosts = {row["HostIp"] for rows in ports.values() for row in rows or []}
    expected = {"127.0.0.1"} if service == "web" else set()
    assert hosts == expected, f"{service} is published on {hosts}"
