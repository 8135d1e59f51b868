"""Opens the views that the frozen phase draws from; computes those that are missing.

With as many epochs as views, each epoch draws from one view more than the one before,
and a view is computed when an epoch first draws from it: training begins after one pass
over the pictures instead of `feature_views`, and one that stops early never pays for
the rest. With fewer epochs than views, every epoch draws from all of them. Which views
an epoch draws from is thus known from the spec alone, and a resumed training draws from
the same.
"""

from pathlib import Path

import numpy as np

from shared.training_spec import TrainingSpec
from worker import events
from worker.training import augmentation_choice, build_model, features
from worker.training.engine_choice import describe_choice
from worker.training.feature_engines import Origin
from worker.training.features import Features
from worker.training.frozen_base import FrozenBase
from worker.training.materials import settle
from worker.training.phase_setup import Material
from worker.training.request import Request
from worker.training.stop_requests import StopRequests
from worker.training.training_state import FROZEN, Stopwatch, TrainingState

_PREPARE = "prepare"


def count_views(spec: TrainingSpec, epoch: int) -> int:
    """Returns from how many of its views an epoch of the frozen phase draws.

    Args:
        spec: Names the views and the epochs.
        epoch: Counted from 0.
    """
    if spec.frozen_epochs < spec.feature_views:
        return spec.feature_views
    return min(epoch + 1, spec.feature_views)


class FrozenViews:
    """The views of one training, as many as its epoch draws from.

    The first checkpoint carries what computes them, and a later attempt asks for the
    same and measures nothing, because two engines differ in the last bits.

    Args:
        request: What was asked for.
        material: What every phase is made from.
        state: Takes what computed the views, what they hold and which changes of
            pictures were measured to do no harm.
        stops: What the process was asked to do.
        stopwatch: Books the computing as preparation.
    """

    def __init__(
        self,
        request: Request,
        material: Material,
        state: TrainingState,
        stops: StopRequests,
        stopwatch: Stopwatch,
    ) -> None:
        self._opened: Features | None = None
        self._request = request
        self._material = material
        self._state = state
        self._stops = stops
        self._stopwatch = stopwatch
        self._is_training = self._says_prepare = False
        self._base = FrozenBase(
            material.spec,
            request.weights_dirs,
            download_weights=request.download_weights,
        )

    @property
    def arrays(self) -> list[np.ndarray]:
        """The views that are open."""
        return list(self._opened.views) if self._opened else []

    def open(self) -> None:
        """Opens what the training's next epoch draws from.

        Raises:
            Stopped: When the process was asked to stop, or to finish with the best so
                far; nothing computed is lost.
            UserError: When the base model cannot be built as the spec says.
        """
        spec, state = self._material.spec, self._state
        if spec.fine_tune_epochs and isinstance(spec.unfreeze_from, str):
            # A wrong name is said now, not when the frozen phase has been paid for.
            build_model.find_first_trained(self._base.build(), spec.unfreeze_from)
        first: Features | None = None
        if spec.augmentation.measured:
            first = self._open(spec.model_copy(update={"feature_views": 1}), 1)
            self._opened = first
            self._choose_augmentation(first)
            self._material = settle(self._material, state)
            spec = self._material.spec
        computed = self._open(spec, count_views(spec, state.epoch))
        if "features" not in state.facts:
            _tell_found(self._material, computed)
        self._take(computed)
        measured = (first.measured if first else []) or computed.measured
        if measured:
            events.note("info", describe_choice(measured))

    def draw_from(self, epoch: int) -> list[np.ndarray]:
        """Returns the views of `epoch` of the frozen phase, counted from 0.

        Raises:
            Stopped: When the process was asked to stop, or to finish with the best so
                far, while views were computed.
        """
        spec = self._material.spec
        count = count_views(spec, epoch)
        if count > len(self.arrays):
            self._is_training = True
            self._stopwatch.switch(_PREPARE)
            self._take(self._open(spec, count))
            self._stopwatch.switch(FROZEN)
            if self._says_prepare:
                self._says_prepare = False
                events.phase(FROZEN)
        return self.arrays[:count]

    def _open(self, spec: TrainingSpec, count: int) -> Features:
        request, state = self._request, self._state
        return features.open_or_compute_features(
            self._material.pack,
            self._base,
            spec,
            request.caches,
            self._report,
            self._should_stop,
            count=count,
            opened=self._opened,
            origins=_read_origins(state, spec),
            engines=request.engines,
            cores=state.facts.get("threads"),
            exact=state.facts.get("deterministic", True),
        )

    def _report(self, done: int, total: int) -> None:
        if self._is_training and not self._says_prepare:
            self._says_prepare = True
            events.phase(_PREPARE)
        events.durable("features", done, total, "shards")

    def _should_stop(self) -> bool:
        wants_best = self._stops.finish and self._state.best is not None
        return self._stops.stop or wants_best

    def _choose_augmentation(self, plain: Features) -> None:
        """Writes into the state which changes do no harm; see `augmentation_choice`."""
        request, state = self._request, self._state
        if state.facts.get("augmentation"):
            return
        stored = request.engines / augmentation_choice.name_file(
            self._material.pack,
            self._base.identity,
            self._material.spec,
            precision=plain.origins[0].precision,
        )
        choice = augmentation_choice.find_stored(stored) or self._measure(plain, stored)
        state.facts["augmentation"] = choice.to_json()
        events.note("info", choice.describe())

    def _measure(self, plain: Features, stored: Path) -> augmentation_choice.Choice:
        spec, pack = self._material.spec, self._material.pack
        engine = features.open_engine(
            pack,
            self._base,
            plain.origins[0],
            engines=self._request.engines,
            cores=self._state.facts["threads"],
        )
        choice = augmentation_choice.choose(
            pack,
            plain.views[0],
            spec.augmentation,
            compute=engine.compute,
            seed=spec.seed,
            report=lambda done, total: events.progress(
                _PREPARE, done, total, "changed images"
            ),
        )
        augmentation_choice.store(stored, choice)
        return choice

    def _take(self, computed: Features) -> None:
        """Writes down what is open now, and says where it is not what it was."""
        facts = self._state.facts
        known = facts.get("features") or []
        origins = [origin.to_json() for origin in computed.origins]
        planned = facts.get("origins", origins)
        if planned != origins or known != computed.digests[: len(known)]:
            events.note(
                "warning",
                "This machine computes features differently from the one that began "
                "this training; the result is as good, but not the same to the bit.",
            )
        facts |= {"origins": origins, "features": computed.digests}
        self._opened = computed


def _read_origins(state: TrainingState, spec: TrainingSpec) -> list[Origin] | None:
    found = [Origin.from_json(fields) for fields in state.facts.get("origins", [])]
    known = [origin for origin in found if origin is not None][: spec.feature_views]
    return known if len(known) == spec.feature_views else None


def _tell_found(material: Material, computed: Features) -> None:
    """Says which features were there already."""
    there, needed = sum(computed.found), len(computed.views)
    if not there:
        return
    pictures, views = len(material.pack.pixels), len(computed.found)
    found = f"{views}" if there == views else f"{there} of {views}"
    plural = "s" if views > 1 else ""
    starts = ": training starts at once" if all(computed.found[:needed]) else ""
    events.note(
        "info",
        f"Found the features of {pictures:,} pictures x {found} view{plural}, "
        f"computed before{starts}.",
    )
