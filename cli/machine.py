"""What this machine offers: its GPUs, its free ports."""

import errno
import importlib.util
import shutil
import socket
import subprocess

NVIDIA_SMI_TIMEOUT_SECONDS = 20


def list_training_slots() -> list[str]:
    """Lists the training slots of this machine: one per GPU, else the CPU.

    GPUs count only where the GPU build of the framework is installed, which brings
    `pynvml`; the launcher installs it when it sees one.
    """
    if importlib.util.find_spec("pynvml") is None:
        return ["cpu"]
    return [f"gpu-{index}" for index in _list_gpu_indices()] or ["cpu"]


def port_free(host: str, port: int) -> bool:
    """Whether a server could listen on `host` and `port` now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.errno not in (errno.EADDRINUSE, errno.EACCES)
    return True


def find_free_port(host: str) -> int:
    """Returns a port of `host` that nobody listens on."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _list_gpu_indices() -> list[int]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        answer = subprocess.run(
            [program, "--query-gpu=index", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=NVIDIA_SMI_TIMEOUT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [int(line) for line in answer.stdout.split() if line.isdigit()]
