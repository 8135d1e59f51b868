"""The command line: one typer app, made of the commands of each module."""

import typer

from cli import (
    account_commands,
    dataset_commands,
    demo_command,
    doctor_command,
    forecast_commands,
    job_commands,
    model_commands,
    notify_commands,
    platform_commands,
    queue_commands,
    secret_commands,
    worker_commands,
)

app = typer.Typer(
    name="trainyard",
    help="Train image classifiers on your own machines.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (
    demo_command,
    platform_commands,
    worker_commands,
    dataset_commands,
    forecast_commands,
    job_commands,
    queue_commands,
    model_commands,
    notify_commands,
    account_commands,
    secret_commands,
    doctor_command,
):
    app.add_typer(module.app)
