"""`demo`: runs the main job end to end and prints what it did."""

from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import DataDir, Json, Port, settings_with
from cli.output import out, print_json, print_table, say
from shared.progress_words import say_duration

if TYPE_CHECKING:
    from cli.demo import Story

app = typer.Typer()
SAMPLE_IMAGES = 800


@app.command("demo")
def run(
    images: Annotated[
        int, typer.Option("--images", min=60, help="Photographs to train on.")
    ] = SAMPLE_IMAGES,
    stop: Annotated[
        bool, typer.Option("--stop", help="Stop the platform afterwards.")
    ] = False,
    data_dir: DataDir = None,
    port: Port = None,
    as_json: Json = False,
) -> None:
    """Set everything up and train a real model, end to end."""
    from cli import demo
    from cli.platform_commands import start_platform, stop_platform

    settings = settings_with(data_dir=data_dir, port=port)
    settings = demo.choose_port(settings, port)
    try:
        story = demo.run(
            settings, images=images, start=lambda chosen: start_platform(chosen, None)
        )
    finally:
        if stop:
            stop_platform(settings, as_json=False)
    if as_json:
        print_json(story.as_json())
    else:
        _tell(story, running=not stop)


def _tell(story: "Story", *, running: bool) -> None:
    if story.promised:
        low, high = story.promised
        out.print(
            f"\nPromised before training: {low:.0%} to {high:.0%}, on pictures that "
            f"are {story.grade} to tell apart",
            soft_wrap=True,
        )
    low, high = story.interval
    out.print(
        f"\nTest accuracy {story.accuracy:.1%} "
        f"(95 % interval {low:.1%} to {high:.1%}, {story.tested} photographs that "
        "were kept apart)\n",
        soft_wrap=True,
    )
    print_table(
        ["photograph", "is", "classified as", "confidence"],
        [
            [row["file"], row["is"], row["classified_as"], f"{row['confidence']:.1%}"]
            for row in story.tried
        ],
    )
    out.print()
    print_table(
        ["step", "time"],
        [[name, say_duration(s)] for name, s in story.seconds.items()],
    )
    out.print(f"\nModel      {story.archive}", soft_wrap=True)
    if running:
        out.print(f"Dashboard  {story.url}", soft_wrap=True)
        out.print(f"Sign in    {story.sign_in}", soft_wrap=True)
        say("The platform goes on running; `./trainyard up --stop` ends it.")
