"""Passes of frozen base models over a dataset: the features that trainings will reuse.

A pass is the plain view of a training with the same base model, size and feature maps
(`worker/training/features.py`), kept under the same name: whoever comes first pays.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shared.base_models import resolve_image_size_px
from shared.training_spec import TrainingSpec
from worker import events
from worker.ingest.disk import Reserve
from worker.training import features
from worker.training.feature_engines import Origin
from worker.training.frozen_base import FrozenBase
from worker.training.labelled_images import LabelledImages
from worker.training.pack import Pack, count_missing_bytes, open_or_build_pack

# The widest features of the presets are a tenth of a picture of 224 px.
_MORE_THAN_PACKS = 1.1


@dataclass(frozen=True)
class Pass:
    """The features of every image of a dataset version.

    Args:
        spec: Names base model, size and feature maps.
        pack: The pixels.
        base: The frozen base.
        features: What the frozen base makes of them, memory-mapped.
        origin: What computed them.
        seconds: What it took; near 0 where it was there already.
        was_found: Whether it was there already.

    Shapes:
        features: (images, feature_size) float32, rows as in the pack.
    """

    spec: TrainingSpec
    pack: Pack
    base: FrozenBase
    features: np.ndarray
    origin: Origin
    seconds: float
    was_found: bool


@dataclass(frozen=True)
class Passer:
    """Makes passes over one dataset version.

    Args:
        images: The dataset version.
        caches: Folder that holds `packs/`, `features/` and `engines/`.
        weights_dirs: Folders searched for weight files.
        download_weights: Whether absent ImageNet weights may be fetched.
        engines: Folder of this machine's choices of engines.
    """

    images: LabelledImages
    caches: Path
    weights_dirs: list[Path]
    download_weights: bool
    engines: Path

    def require_room(self, specs: Iterable[TrainingSpec]) -> None:
        """Returns when the disk holds what the passes of `specs` will write.

        Packs and features are kept: those that fill the disk half-way would leave no
        room for uploads and checkpoints either.

        Raises:
            OSError: When it does not; says what is free and what is needed.
        """
        kinds = {(_find_size(spec), spec.fit) for spec in specs}
        packs = sum(
            count_missing_bytes(
                self.images, image_size_px=size, fit=fit, caches=self.caches
            )
            for size, fit in kinds
        )
        Reserve(self.caches).require(round(packs * _MORE_THAN_PACKS))

    def open_pack(self, spec: TrainingSpec) -> Pack:
        """Returns the pixels that `spec` trains on, decoded now unless they were."""
        return open_or_build_pack(
            self.images,
            image_size_px=_find_size(spec),
            fit=spec.fit,
            caches=self.caches,
            report=lambda done, total: events.durable("pack", done, total, "images"),
        )

    def make(self, spec: TrainingSpec) -> Pass:
        """Returns the pass of `spec`, made now unless it was made before.

        Raises:
            UserError: The base model's weights cannot be had.
        """
        plain = spec.model_copy(update={"feature_views": 1})
        began = time.monotonic()
        pack = self.open_pack(spec)
        base = FrozenBase(
            plain, self.weights_dirs, download_weights=self.download_weights
        )
        computed = features.open_or_compute_features(
            pack,
            base,
            plain,
            self.caches,
            lambda done, total: events.durable("features", done, total, "shards"),
            engines=self.engines,
        )
        return Pass(
            spec=plain,
            pack=pack,
            base=base,
            features=computed.views[0],
            origin=computed.origins[0],
            seconds=time.monotonic() - began,
            was_found=computed.found[0],
        )


def _find_size(spec: TrainingSpec) -> int:
    return resolve_image_size_px(spec.base_model, spec.image_size_px)
