"""`doctor`: prints what the checks found."""

from typing import Annotated

import typer

from cli.options import DataDir, Json, settings_with
from cli.output import out, print_json, print_table

app = typer.Typer()


@app.command("doctor")
def examine(
    data_dir: DataDir = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail on warnings too.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Say what is wrong with this installation, and how to mend it."""
    from cli import doctor

    findings = doctor.examine(settings_with(data_dir=data_dir))
    if as_json:
        print_json(doctor.as_rows(findings))
    else:
        print_table(
            ["check", "state", "finding"],
            [[found.check, found.state, found.detail] for found in findings],
        )
        if all(found.state == "ok" for found in findings):
            out.print("Nothing is wrong.")
    bad = {"broken", "warning"} if strict else {"broken"}
    raise typer.Exit(int(any(found.state in bad for found in findings)))
