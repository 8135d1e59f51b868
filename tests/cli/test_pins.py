"""The pinned sets agree with the project, and say so when they do not."""

import shutil
from pathlib import Path

from cli import pins

ROOT = Path(__file__).resolve().parents[2]


def test_pinned_sets_are_in_step_with_the_project():
    assert pins.find_problems() == []


def test_a_requirement_that_is_not_pinned_is_named(tmp_path):
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    project = (ROOT / "pyproject.toml").read_text()
    changed = project.replace('"httpx>=0.28,<0.29"', '"httpx>=99"')
    (tmp_path / "pyproject.toml").write_text(changed)

    problems = pins.find_problems(tmp_path)

    assert any("web.txt pins httpx" in problem for problem in problems)
    assert any("uv pip compile" in problem for problem in problems)


def test_an_index_address_is_refused(tmp_path):
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "requirements" / "cpu.txt").open("a") as file:
        file.write("--extra-index-url http://mirror.example/simple\n")

    problems = pins.find_problems(tmp_path)

    assert problems == ["requirements/cpu.txt names the address of an index."]
