"""`trainyard demo`: the main job, end to end, on real photographs.

1. start the platform, unless it runs;
2. add 800 photographs of solar cells, from the package `elpv-dataset`;
3. see what the forecast promises, which is made by itself;
4. train the preset `fast`;
5. download the SavedModel;
6. load it in a fresh process without our code and classify photographs that were never
   uploaded.

Each step can be repeated: a dataset that is there is used again, and a training that
runs is followed rather than doubled.
"""

import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cli import downloads, sample, try_model, up, uploads, watch
from cli.api_client import ApiClient, connect, version_path
from cli.machine import find_free_port, port_free
from cli.output import step_progress, waiting
from shared.errors import ConflictError, NotFoundError
from shared.settings import Settings

PRESET = "fast"
TRIED_PER_LABEL = 3
ACTIVE = ("running", "queued")


@dataclass
class Story:
    """What the demo did.

    Attributes:
        url: The dashboard.
        sign_in: Address of the first visit.
        grade: How hard the pictures are, in a word; empty without a forecast.
        promised: The range of accuracy that was promised; empty without a forecast.
        accuracy: On the untouched test split, from 0 to 1.
        interval: Its 95 % interval.
        tested: Number of pictures in that split.
        seconds: Wall time of each step, and of each phase of the training.
        archive: The downloaded model.
        tried: What the fresh process said of pictures that were never uploaded.
    """

    url: str = ""
    sign_in: str = ""
    grade: str = ""
    promised: list[float] = field(default_factory=list)
    accuracy: float = 0.0
    interval: list[float] = field(default_factory=list)
    tested: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    archive: Path = Path()
    tried: list[dict[str, Any]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Returns the object that `--json` prints."""
        return {
            "grade": self.grade,
            "promised": self.promised,
            "accuracy": self.accuracy,
            "interval": self.interval,
            "images_tested": self.tested,
            "seconds": {name: round(s, 1) for name, s in self.seconds.items()},
            "archive": str(self.archive),
            "url": self.url,
            "classified": self.tried,
        }


def run(
    settings: Settings, *, images: int, start: Callable[[Settings], object]
) -> Story:
    """Runs the six steps and returns what happened.

    Args:
        settings: Of the installation to use or to start.
        images: Size of the sample.
        start: Starts the platform in the background and returns when it is ready.

    Raises:
        UserError: When a step fails, with its reason.
    """
    story = Story()
    began = time.monotonic()
    cells, held_out = sample.pick(sample.list_cells(), images)
    with _timed(story, "start"):
        state = up.find_running(settings)
        if state is None:
            start(settings)
            state = up.find_running(settings)
        assert state is not None, "start() returns when the platform is ready"
    story.url, story.sign_in = state["url"], state["sign_in"]
    client = connect(settings)
    with _timed(story, "dataset"):
        dataset = _provide_dataset(client, f"solar cells {len(cells)}", cells)
    with _timed(story, "forecast"):
        _forecast(story, client, dataset["id"])
    with _timed(story, "training"):
        job = _train(client, dataset["id"])
    _note_result(story, job)
    with _timed(story, "download"):
        story.archive = _download(client, settings, job["published"])
    with _timed(story, "fresh_process"):
        story.tried = _try(story.archive, held_out)
    story.seconds["total"] = time.monotonic() - began
    return story


def choose_port(settings: Settings, asked: int | None) -> Settings:
    """Returns `settings` with a free port, unless one was asked for or `up` runs."""
    if asked is not None or up.find_running(settings):
        return settings
    if port_free(settings.host, settings.port):
        return settings
    return settings.model_copy(update={"port": find_free_port(settings.host)})


def _provide_dataset(
    client: ApiClient, name: str, cells: list[sample.Cell]
) -> dict[str, Any]:
    """Returns the dataset with a version to train on, adding it where need be."""
    try:
        found = client.find_dataset(name)
    except NotFoundError:
        return _add_dataset(client, name, cells)
    if found["state"] == "reading":  # a demo that was cut off has uploaded it
        detail = client.get(f"/datasets/{found['id']}")
        watch.follow(client, [detail["ingest_job"]])
        found = client.find_dataset(name)
    if found["state"] != "ready":
        client.delete(f"/datasets/{found['id']}")
        return _add_dataset(client, name, cells)
    return found


def _add_dataset(
    client: ApiClient, name: str, cells: list[sample.Cell]
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="trainyard-demo-") as folder:
        archive = Path(folder) / "solar-cells.zip"
        with step_progress() as progress:
            task = progress.add_task("Packing photographs", total=len(cells))
            sample.write_archive(cells, archive, advance=lambda: progress.advance(task))
        source = uploads.send_one(client, archive, None)
        added = uploads.add(client, [source], name=name)
    watch.require_succeeded(watch.follow(client, [added["job_id"]]))
    return client.get(f"/datasets/{added['id']}")


def _forecast(story: Story, client: ApiClient, dataset_id: int) -> None:
    """Notes what is promised, where datasets are forecast by themselves.

    A forecast that fails keeps nobody from training.
    """
    try:
        found = client.get_forecast(dataset_id)
    except NotFoundError:
        return
    if found["forecast"] is None and found["job"]:
        watch.follow(client, [found["job"]["id"]])
        found = client.get_forecast(dataset_id)
    forecast = found["forecast"]
    if forecast is not None:
        story.grade = forecast["difficulty"]["grade"]
        low, _, high = forecast["presets"][PRESET]["accuracy"]
        story.promised = [low, high]


def _train(client: ApiClient, dataset_id: int) -> dict[str, Any]:
    number = _find_active(client, dataset_id)
    if number is None:
        submitted = client.submit(
            datasets=[dataset_id],
            specs=[{"preset": PRESET, "overrides": {}}],
            model_name=None,
            key=f"demo-{secrets.token_urlsafe(12)}",
        )
        number = submitted["jobs"][0]["id"]
    ended = watch.follow(client, [number])
    watch.require_succeeded(ended)
    return ended[0]


def _find_active(client: ApiClient, dataset_id: int) -> int | None:
    for state in ACTIVE:
        found = client.list_jobs(state=state, kind="train", dataset_id=dataset_id)
        if found["items"]:
            return found["items"][0]["id"]
    return None


def _note_result(story: Story, job: dict[str, Any]) -> None:
    result = job["result"] or {}
    if not job["published"] or "accuracy" not in result:
        raise ConflictError(f"Job {job['id']} succeeded without a published version.")
    story.accuracy = result["accuracy"]
    story.interval = result["interval"]
    story.tested = result["images"]
    story.seconds |= result.get("seconds") or {}


def _download(client: ApiClient, settings: Settings, published: str) -> Path:
    name, _, number = published.rpartition(":")
    version = client.get_model_version(name, int(number))
    file_name = f"{name}-v{number}.zip".replace(" ", "-").replace("/", "-")
    target = (settings.data_dir / "demo" / file_name).absolute()
    downloads.download(
        client, f"{version_path(version)}/archive", target, sha256=version["sha256"]
    )
    return target


def _try(archive: Path, held_out: list[sample.Cell]) -> list[dict[str, Any]]:
    """Classifies some photographs of each label that no training has seen."""
    tried: list[sample.Cell] = []
    for label in sample.LABELS:
        tried += [cell for cell in held_out if cell.label == label][:TRIED_PER_LABEL]
    with waiting("Loading the model in a fresh process"):
        answers = try_model.classify(archive, [cell.path for cell in tried])
    return [
        {
            "file": cell.path.name,
            "is": cell.label,
            "classified_as": answer["label"],
            "confidence": round(answer["confidence"], 4),
        }
        for cell, answer in zip(tried, answers, strict=True)
    ]


@contextmanager
def _timed(story: Story, step: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    story.seconds[step] = time.monotonic() - began
