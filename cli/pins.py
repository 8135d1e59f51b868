"""Checks, without a network, that `requirements/` is in step with `pyproject.toml`.

A pinned set is in step when every requirement of its extras is pinned to a version
that satisfies it, with hashes, and when no line names the address of an index.
"""

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
SETS: dict[str, tuple[str, ...]] = {
    "web": ("web",),
    "cpu": ("web", "cpu"),
    "gpu": ("web", "gpu"),
    "demo": ("web", "cpu", "demo"),
    "demo-gpu": ("web", "gpu", "demo"),
    "test": ("web", "cpu", "demo", "test"),
}
_PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^ ;\\]+)")


def find_problems(root: Path = ROOT) -> list[str]:
    """Returns one sentence for each requirement that is out of step."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    problems: list[str] = []
    for name, extras in SETS.items():
        path = root / "requirements" / f"{name}.txt"
        if not path.is_file():
            problems.append(f"requirements/{name}.txt is missing: {compile_hint(name)}")
            continue
        text = path.read_text()
        problems += _compare(name, text, _requirements(project, extras))
        if re.search(r"https?://|--(extra-)?index-url|--find-links", text):
            problems.append(f"requirements/{name}.txt names the address of an index.")
    return problems


def compile_hint(name: str) -> str:
    """Returns the command that compiles set `name` again."""
    extras = " ".join(f"--extra {extra}" for extra in SETS[name])
    same = "" if name == "test" else " -c requirements/test.txt"
    return (
        f"uv pip compile pyproject.toml {extras} --no-emit-index-url --universal "
        f"--python-version 3.11 --generate-hashes{same} -o requirements/{name}.txt"
    )


def _requirements(project: dict, extras: tuple[str, ...]) -> Iterator[Requirement]:
    lines = list(project["dependencies"])
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    for requirement in map(Requirement, lines):
        if requirement.name == project["name"]:
            yield from _requirements(
                {**project, "dependencies": []}, tuple(requirement.extras)
            )
        else:
            yield requirement


def _compare(
    name: str, text: str, requirements: Iterator[Requirement]
) -> Iterator[str]:
    pins = {
        canonicalize_name(found[1]): found[2]
        for line in text.splitlines()
        if (found := _PIN.match(line))
    }
    if text.count("--hash=sha256:") < len(pins):
        yield f"requirements/{name}.txt has pins without hashes: {compile_hint(name)}"
    for requirement in requirements:
        pinned = pins.get(canonicalize_name(requirement.name))
        if pinned is None or not requirement.specifier.contains(pinned, True):
            yield (
                f"requirements/{name}.txt pins {requirement.name} to {pinned}, and "
                f"pyproject.toml wants `{requirement}`: {compile_hint(name)}"
            )


if __name__ == "__main__":
    found = find_problems()
    print("\n".join(found) or "requirements/ is in step with pyproject.toml.")
    sys.exit(bool(found))
