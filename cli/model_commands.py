"""`models` and `download`."""

from pathlib import Path
from typing import Annotated

import typer

from cli.options import Json, Yes
from cli.output import format_time, out, print_json, print_table
from shared.errors import UserError
from shared.progress_words import say_size

app = typer.Typer()


@app.command("models")
def list_models(as_json: Json = False) -> None:
    """List the models and their newest versions."""
    from cli.api_client import connect

    found = connect().list_models()
    if as_json:
        print_json(found)
        return
    rows = []
    for model in found:
        latest = model.get("latest") or {}
        accuracy = latest.get("accuracy")
        rows.append(
            [
                model["name"],
                latest.get("version"),
                f"{accuracy:.1%}" if accuracy is not None else None,
                say_size(latest["size_bytes"]) if latest.get("size_bytes") else None,
                format_time(latest.get("created_at")),
            ]
        )
    print_table(["model", "newest version", "accuracy", "size", "published"], rows)


@app.command()
def download(
    model: Annotated[str, typer.Argument(metavar="MODEL[:VERSION]")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File or folder. Defaults to the name."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Download a SavedModel; goes on where it was cut off, and checks the SHA-256."""
    from cli import downloads
    from cli.api_client import connect, version_path

    client = connect()
    name, version = parse_reference(model)
    found = client.get_model_version(name, version)
    target = choose_target(output, f"{name}-v{found['version']}.zip")
    size_bytes = downloads.download(
        client, f"{version_path(found)}/archive", target, sha256=found["sha256"]
    )
    if as_json:
        print_json(
            {
                "archive": str(target.absolute()),
                "sha256": found["sha256"],
                "size_bytes": size_bytes,
                "model": name,
                "version": found["version"],
            }
        )
    else:
        out.print(
            f"{target} ({say_size(size_bytes)}, SHA-256 {found['sha256']})",
            soft_wrap=True,
        )


def parse_reference(text: str) -> tuple[str, int | None]:
    """Splits `MODEL[:VERSION]`; no version means the newest.

    Raises:
        UserError: When the version is no number from 1.
    """
    name, colon, version = text.partition(":")
    if not colon:
        return name, None
    digits = version.removeprefix("v")
    if not digits.isdecimal() or int(digits) < 1:
        raise UserError(
            f"A version is a number from 1, as in flowers:3. Received: {text!r}.",
            field="model",
        )
    return name, int(digits)


def choose_target(output: Path | None, default_name: str) -> Path:
    """Returns the file to write: in the working folder, in `output`, or `output`."""
    safe = default_name.replace("/", "_")
    if output is None:
        return Path(safe)
    output = output.expanduser()
    return output / safe if output.is_dir() else output


@app.command("delete-model")
def delete_model(model: str, yes: Yes = False, as_json: Json = False) -> None:
    """Delete a model version and its files; its number is never given again."""
    from cli.api_client import connect, version_path

    client = connect()
    name, version = parse_reference(model)
    found = client.get_model_version(name, version)
    label = f"{name}:{found['version']}"
    if not yes:
        typer.confirm(f"Delete model version {label} and its files?", abort=True)
    client.delete(version_path(found))
    if as_json:
        print_json({"deleted": label})
    else:
        out.print(f"Deleted {label}.")
