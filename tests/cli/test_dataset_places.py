"""Where `dataset add` finds what it adds: what goes together and what does not."""

import pytest
from typer.testing import CliRunner

from cli.dataset_commands import commands
from shared.errors import UserError

ADDRESS = "https://data.example.org/a.zip"


def add(*arguments):
    done = CliRunner().invoke(commands, ["add", *arguments])
    if done.exception:
        raise done.exception
    return done


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Name a PATH, or an `--address`"),
        (["a.zip", "--address", ADDRESS, "--name", "x"], "`--name` goes with one PATH"),
        (["a.zip", "b.zip", "--name", "x"], "`--name` goes with one PATH"),
        (["a.zip", "--address", ADDRESS, "--to", "x", "--replace"], "one before"),
        (["a.zip", "--root", "s3://pictures"], "`--root` is where the pictures of"),
    ],
)
def test_places_that_do_not_go_together_are_refused(arguments, words):
    with pytest.raises(UserError, match=words):
        add(*arguments)


def test_the_help_says_of_what_lies_on_the_server():
    words = " ".join(add("--help").output.replace("│", " ").split())

    assert "Every PATH, and --labels, lies on the server" in words
