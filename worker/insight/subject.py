"""What a forecast is about: one dataset version, and what was already learned of it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from shared.base_models import resolve_image_size_px
from shared.errors import InternalError, UserError
from shared.training_spec import TrainingSpec
from worker import events
from worker.insight.components import reduce_features
from worker.insight.cross_validation import Probed, cross_validate
from worker.insight.folds import FOLDS, deal_folds
from worker.insight.groups import (
    Torn,
    find_torn,
    join_groups,
    measure_met,
    read_groups,
)
from worker.insight.passes import Pass, Passer
from worker.insight.request import Request
from worker.insight.resources import Sizes
from worker.training import determinism
from worker.training.labelled_images import LabelledImages, read_dataset

_LARGEST_GROUP = 0.5  # of the pictures to train and to choose by
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
        groups: What folds hold together, a number of each image; None for nothing.
        torn: The groups that the split has torn, where they matter.
        seconds: What each part took so far.
    """

    request: Request
    images: LabelledImages
    threads: int
    groups: np.ndarray | None
    torn: Torn | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    _passes: dict[tuple[object, ...], Pass] = field(default_factory=dict)
    _views: dict[tuple[object, ...], View] = field(default_factory=dict)
    _torn_probes: dict[tuple[object, ...], Probed] = field(default_factory=dict)

    @cached_property
    def rows(self) -> np.ndarray:
        """Training and validation pictures; the test split stays untouched."""
        splits = self.images.splits
        return np.sort(np.concatenate([splits["train"], splits["val"]]))

    @cached_property
    def sizes(self) -> Sizes:
        """How many pictures each split has."""
        count = {name: len(rows) for name, rows in self.images.splits.items()}
        classes = len(self.images.classes)
        return Sizes(count["train"], count["val"], count["test"], classes)

    @cached_property
    def passer(self) -> Passer:
        """Makes the passes."""
        request = self.request
        return Passer(
            self.images,
            request.caches,
            request.weights_dirs,
            download_weights=request.download_weights,
            engines=request.engines,
        )

    def hold_together(self, groups: np.ndarray) -> None:
        """Has folds keep these together too; before the first view is asked for.

        Where that would leave hardly anything to learn from (a film whose frames are
        each like the next, two cameras that saw one scene) the finer groups stay as
        they were.

        Shapes:
            groups: (images,) integers.

        Raises:
            InternalError: A probe has met its pictures' copies already.
        """
        if self._views:
            raise InternalError("folds were dealt before their groups were known")
        kinds = [] if self.groups is None else [self.groups]
        joined = join_groups([*kinds, groups])
        sizes = np.unique(joined[self.rows], return_counts=True)[1]
        if len(sizes) >= FOLDS and sizes.max() <= _LARGEST_GROUP * len(self.rows):
            self.groups = joined
            kinds.append(groups)
        self.torn = find_torn(kinds, self.images.splits)

    def make_pass(self, spec: TrainingSpec) -> Pass:
        """Returns what the frozen base of `spec` shows; each pass is made once.

        Raises:
            UserError: The base model's weights cannot be had.
        """
        key = _key_of(spec)
        if key not in self._passes:
            with self.booked("features"):
                self._passes[key] = self.passer.make(spec)
        return self._passes[key]

    def view(self, spec: TrainingSpec) -> View:
        """Returns the pass of `spec` and what a probe makes of it, once.

        Raises:
            UserError: The base model's weights cannot be had.
        """
        key = _key_of(spec)
        if key not in self._views:
            made = self.make_pass(spec)
            with self.booked("probe"):
                self._views[key] = self._probe(made)
        return self._views[key]

    def probe_torn(self, view: View, torn: Torn) -> tuple[Probed, float]:
        """Returns what a probe says that meets the like of what it is asked about.

        A training will meet pictures in the test split whose like it has learned, and
        tells them better than new ones. How many they are in the test split is another
        matter: of a split by picture as many as in folds by picture, of one into which
        a few have slipped hardly any.

        Args:
            view: Whose features.
            torn: What the split has torn.

        Returns:
            The probe, made once, and the share of the test pictures that are told as
            it tells; the others are told as by the view's own.
        """
        held = None if torn.held is None else torn.held[self.rows]
        folds = deal_folds(self.images.labels[self.rows], held)
        met = measure_met([groups[self.rows] for groups in torn.kinds], folds)
        key = _key_of(view.made.spec)
        if key not in self._torn_probes:
            with self.booked("probe"):
                self._torn_probes[key] = cross_validate(
                    view.reduced,
                    self.images.labels,
                    self.rows,
                    classes=len(self.images.classes),
                    groups=torn.held,
                    recipe=view.probed.recipe,
                    threads=self.threads,
                    report=_tell_probes,
                )
        return self._torn_probes[key], min(1.0, torn.share / met) if met else 0.0

    def forget(self, spec: TrainingSpec) -> None:
        """Lets go of the view of `spec`, unless it is one of the presets'.

        Components and answers of a hundred thousand pictures are hundreds of megabytes
        for each base model.
        """
        if _key_of(spec) not in map(_key_of, self.request.presets().values()):
            self._views.pop(_key_of(spec), None)

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

    def _probe(self, made: Pass) -> View:
        reduced = reduce_features(made.features, self.rows)
        probed = cross_validate(
            reduced,
            self.images.labels,
            self.rows,
            classes=len(self.images.classes),
            groups=self.groups,
            threads=self.threads,
            report=_tell_probes,
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
    subject = Subject(request, images, threads, read_groups(request.dataset))
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


def _tell_probes(done: int, total: int) -> None:
    events.progress("forecast", done, total, "probes")


def _key_of(spec: TrainingSpec) -> tuple[object, ...]:
    size = resolve_image_size_px(spec.base_model, spec.image_size_px)
    return spec.base_model, size, spec.fit, spec.feature_maps
