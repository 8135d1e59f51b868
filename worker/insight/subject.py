"""What a forecast is about: one dataset version, and what was already learned of it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow.parquet as pq

from shared.base_models import resolve_image_size_px
from shared.errors import UserError
from shared.training_spec import TrainingSpec
from worker.insight.cross_validation import Probed, cross_validate, reduce_features
from worker.insight.passes import Pass, Passer
from worker.insight.request import Request
from worker.insight.resources import Sizes
from worker.training import determinism
from worker.training.labelled_images import LabelledImages, read_dataset

_FEWEST = 4  # pictures in training and validation: two folds of two


@dataclass(frozen=True)
class View:
    """One pass and what a probe makes of it.

    Args:
        made: The pass.
        reduced: Its leading components, of every image.
        probed: What the probe says of training and validation pictures.
    """

    made: Pass
    reduced: np.ndarray
    probed: Probed


@dataclass
class Subject:
    """One dataset version under examination.

    Args:
        request: What was asked for.
        images: The dataset version.
        threads: Compute threads.
        seconds: What each part took so far.
    """

    request: Request
    images: LabelledImages
    threads: int
    seconds: dict[str, float] = field(default_factory=dict)
    _views: dict[tuple[object, ...], View] = field(default_factory=dict)

    @cached_property
    def rows(self) -> np.ndarray:
        """Training and validation pictures; the test split stays untouched."""
        splits = self.images.splits
        return np.sort(np.concatenate([splits["train"], splits["val"]]))

    @cached_property
    def groups(self) -> np.ndarray | None:
        """What a split must hold together: a number of each image; None without any.

        Where splits are dealt by group, a probe must not know a picture's group either.
        """
        path = self.request.dataset / "manifest.parquet"
        if not path.is_file() or "group" not in pq.read_schema(path).names:
            return None
        named = pq.read_table(path, columns=["group"])["group"].to_pylist()
        if not any(named):
            return None
        alone = (f"\0{row}" for row in range(len(named)))
        keys = [group or own for group, own in zip(named, alone, strict=True)]
        return np.unique(keys, return_inverse=True)[1]

    @cached_property
    def sizes(self) -> Sizes:
        """How many pictures each split has."""
        count = {name: len(rows) for name, rows in self.images.splits.items()}
        return Sizes(count["train"], count["val"], count["test"])

    def view(self, spec: TrainingSpec) -> View:
        """Returns what the frozen base of `spec` shows; each pass is made once.

        Raises:
            UserError: The base model's weights cannot be had.
        """
        size = resolve_image_size_px(spec.base_model, spec.image_size_px)
        key = (spec.base_model, size, spec.fit, spec.feature_maps)
        if key not in self._views:
            self._views[key] = self._make(spec)
        return self._views[key]

    @contextmanager
    def booked(self, part: str) -> Iterator[None]:
        """Books what the block takes as seconds of `part`."""
        began = time.monotonic()
        yield
        self.seconds[part] = self.seconds.get(part, 0.0) + time.monotonic() - began

    def name_image(self, row: int) -> tuple[str, str]:
        """Returns hash and name of one image."""
        text = self.images.describe([row])[0]
        return text.sha256, text.name

    def _make(self, spec: TrainingSpec) -> View:
        request = self.request
        with self.booked("features"):
            made = Passer(
                self.images,
                request.caches,
                request.weights_dirs,
                download_weights=request.download_weights,
                engines=request.engines,
            ).make(spec)
        with self.booked("probe"):
            reduced = reduce_features(made.features)
            probed = cross_validate(
                reduced,
                self.images.labels,
                self.rows,
                classes=len(self.images.classes),
                groups=self.groups,
            )
        return View(made, reduced, probed)


def open_subject(request: Request) -> Subject:
    """Fixes randomness and reads the dataset version.

    Raises:
        UserError: It has too few pictures or a single class.
    """
    threads = determinism.count_cores()
    determinism.fix_randomness(threads=threads, deterministic=None)
    images = read_dataset(request.dataset, request.caches)
    subject = Subject(request, images, threads)
    if len(images.classes) < 2:  # noqa: PLR2004 - nothing to tell apart
        raise UserError(
            "The dataset has a single class, so there is nothing to foresee.",
            field="dataset",
        )
    if len(subject.rows) < _FEWEST:
        raise UserError(
            f"The dataset has {len(subject.rows)} pictures to train and to choose by; "
            f"a forecast needs {_FEWEST}.",
            field="dataset",
        )
    return subject
