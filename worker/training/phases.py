"""Trains one phase, from whatever batch it had reached, to its end.

The loop is plain: one training step per batch. `fit` starts at epoch boundaries only,
and a run that was killed in the middle of an epoch must go on there.
Nothing that happens in one batch depends on anything but the state, the arrays and the
batch's number, so a resumed run does what the uninterrupted one would have done.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NoReturn, TypeVar

import keras

from shared.errors import UserError
from shared.training_spec import LearningRateSchedule, TrainingSpec
from worker import events
from worker.training import checkpoint, jit_choice, variables
from worker.training.averaging import averaged
from worker.training.background_writer import BackgroundWriter
from worker.training.batches import Batch, Batches, count_waiting, read_ahead
from worker.training.best_weights import BestWeights
from worker.training.diverged import Diverged
from worker.training.named_arrays import Arrays
from worker.training.stop_requests import Stopped, StopRequests
from worker.training.train_step import DeviceMemoryTooSmall, TrainStep
from worker.training.training_state import EVALUATE, Stopwatch, TrainingState

# A long epoch is saved in between too: a crash costs this at most, or so many times
# what a checkpoint takes to be written, where a model is large or the storage slow.
_LONGEST_UNSAVED_SECONDS = 60.0
_WRITES_APART = 50

Result = TypeVar("Result")


@dataclass(frozen=True)
class Phase:
    """One phase, ready to train.

    Args:
        name: `frozen` or `fine_tune`.
        next_name: The phase that follows.
        model: Built anew from the seed and compiled.
        step: Trains the model.
        train: The batches of the training split.
        validate: Returns `val_loss` and `val_accuracy` of the model as it is.
        epochs: Most epochs.
        first_epoch: Number of its first epoch in random draws, so that no phase sees
            another's order again.
        makers: Threads that make batches ahead; 0 makes them in line.
        start: Prepares the model before the first step. An attempt that goes on within
            the phase finds what it did in the checkpoint.
        least_halvings: How often a pass must be halved to fit the machine's memory.
        may_compile: Whether XLA may compile the step, if that is faster.
    """

    name: str
    next_name: str
    model: keras.Model
    step: TrainStep
    train: Batches
    validate: Callable[[], dict[str, float]]
    epochs: int
    first_epoch: int
    makers: int
    start: Callable[[], None] = lambda: None
    least_halvings: int = 0
    may_compile: bool = False


class Trainer:
    """What every phase shares: the state, the best weights, the checkpoints.

    Args:
        spec: The training spec.
        state: Where the training stands; moved on in place.
        best: The weights to publish.
        checkpoints: Where the state is saved.
        stops: What the process was asked to do.
        stopwatch: Books the wall time of the phase.
        may_roll_back: Whether another attempt goes on from the last checkpoint, at half
            the learning rate, when the loss is no longer a number.
    """

    def __init__(
        self,
        spec: TrainingSpec,
        state: TrainingState,
        *,
        best: BestWeights,
        checkpoints: BackgroundWriter,
        stops: StopRequests,
        stopwatch: Stopwatch,
        may_roll_back: Callable[[str], bool] = lambda _phase: False,
    ) -> None:
        self._may_roll_back = may_roll_back
        self._spec = spec
        self._state = state
        self._best = best
        self._checkpoints = checkpoints
        self._stops = stops
        self._stopwatch = stopwatch
        self._saved_at = time.monotonic()
        self._is_due = False

    def train(self, phase: Phase, arrays: Arrays | None) -> None:
        """Trains `phase` to its end and moves the state to the next one.

        Args:
            phase: The phase to train.
            arrays: What a checkpoint in the middle of this phase holds; None starts
                the phase.

        Raises:
            Stopped: When the process was asked to stop; the state is saved.
            Diverged: When the loss stopped being a number and the training may go on
                from its last checkpoint at half the learning rate.
            UserError: When it stopped being one before the first epoch had ended, and
                the training may not.
        """
        if arrays and not self._state.at_phase_start:
            self._go_on(phase, arrays)
        else:
            self._start(phase)
        with self._stops.saved_first(), self._checkpoints:
            try:
                while self._state.phase == phase.name:
                    self._train_epoch(phase)
            except Diverged:
                self._end_diverged(phase)

    def finish_early(self) -> None:
        """Ends training with the best weights so far, before a phase is built."""
        with self._stops.saved_first(), self._checkpoints:
            self._enter(EVALUATE)

    def _go_on(self, phase: Phase, arrays: Arrays) -> None:
        facts = self._state.facts
        if phase.least_halvings > facts.get("halvings", 0):
            # The attempt before had more memory.
            facts["halvings"] = phase.least_halvings
            self._tell_smaller_passes(facts["halvings"])
        phase.step.halve_to(facts.get("halvings", 0))
        # Elsewhere than on an accelerator a compiled step takes many times as long.
        compiled = phase.may_compile and facts.get("compiled_by_xla", False)
        phase.step.compile_by_xla(wanted=compiled)
        variables.write_all(phase.model, arrays)
        self._lower_rate(phase)

    def _lower_rate(self, phase: Phase) -> None:
        """Halves the rate that the checkpoint holds as often as was decided since."""
        if self._spec.learning_rate_schedule != LearningRateSchedule.PLATEAU:
            return  # a function of the step, which the checkpoint does not hold
        wanted, applied = (
            self._state.facts.get(name, {}).get(phase.name, 0)
            for name in ("rate_halvings", "saved_rate_halvings")
        )
        if wanted > applied:
            optimizer = phase.model.optimizer
            optimizer.learning_rate = float(optimizer.learning_rate) * 0.5 ** (
                wanted - applied
            )

    def _start(self, phase: Phase) -> None:
        facts = self._state.facts
        if phase.least_halvings:
            # The plan is an estimate: whatever was killed all the same counts on top.
            planned = phase.least_halvings + facts.get("memory_kills", 0)
            facts["halvings"] = max(planned, facts.get("halvings", 0))
            self._tell_smaller_passes(facts["halvings"])
            self._is_due = True
        phase.step.halve_to(facts.get("halvings", 0))
        self._in_memory(phase, phase.start)
        facts.pop("compiled_by_xla", None)
        if phase.may_compile and self._in_memory(
            phase, lambda: self._is_faster_compiled(phase)
        ):
            facts["compiled_by_xla"] = True

    def _is_faster_compiled(self, phase: Phase) -> bool:
        phase.train.start_epoch(phase.first_epoch)
        steps = len(phase.train) * phase.epochs
        if not jit_choice.pays(phase.step, phase.train[0], steps=steps):
            return False
        events.note("info", "XLA compiles the training step: it was faster, measured.")
        return True

    def _tell_smaller_passes(self, halvings: int) -> None:
        events.note(
            "info",
            "This machine's memory is not enough for a whole batch at once, so images "
            f"go through the network in {2**halvings} parts of a batch; "
            f"the result is the same but for {self._differs_by()}.",
        )

    def _train_epoch(self, phase: Phase) -> None:
        events.stage("model")
        try:
            phase.train.start_epoch(phase.first_epoch + self._state.epoch)
        except Stopped:  # it may have to compute what the epoch draws from
            self._leave_between_epochs(phase)
            return
        for batch in self._batches(phase):
            logs = self._in_memory(phase, lambda b=batch: phase.step.train(b))
            events.stage("first step")
            if not math.isfinite(logs["loss"]):
                raise Diverged
            self._state.add_batch(logs, images=len(batch[0]))
            self._after_batch(phase)
            if self._stops.finish:
                break
        is_cut = self._state.batch < len(phase.train)
        if self._stops.finish and is_cut and self._state.best:
            self._enter(EVALUATE)
        else:
            self._end_epoch(phase)

    def _leave_between_epochs(self, phase: Phase) -> None:
        if not self._stops.stop:
            self._enter(EVALUATE)
            return
        self._save_and_stop(phase)

    def _save_and_stop(self, phase: Phase) -> NoReturn:
        self._save(phase.model, checkpoint.EMERGENCY)
        self._wait_until_saved()
        raise Stopped

    def _in_memory(self, phase: Phase, run: Callable[[], Result]) -> Result:
        """Runs `run`, in smaller passes for as long as it does not fit the memory."""
        while True:
            # The exception holds what the failed pass had computed: it must be gone
            # before the next try, and so does not leave this block.
            with contextlib.suppress(DeviceMemoryTooSmall):
                return run()
            self._halve_passes(phase)

    def _halve_passes(self, phase: Phase) -> None:
        """Halves what goes through the network at once, and says so.

        A later attempt repeats the choice, since the sums of smaller passes differ in
        the last bits: the first step that fits is saved with it.
        """
        step = phase.step
        if not step.can_halve:
            raise UserError(
                "The device's memory is too small for this training, even with one "
                "image at a time. A smaller `image_size_px` or base model, or a later "
                "`unfreeze_from`, needs less.",
                field="training.image_size_px",
            )
        before = step.images_per_pass
        step.halve_to(step.halvings + 1)
        self._state.facts["halvings"] = step.halvings
        events.note(
            "warning",
            f"{before} images at once did not fit the device's memory at step "
            f"{self._state.step + 1}. From here on, {step.images_per_pass} go through "
            "the network at a time; the weights are still updated once per "
            f"batch, so the result is the same but for {self._differs_by()}.",
        )
        self._is_due = True

    def _differs_by(self) -> str:
        differences = ["rounding"]
        if self._spec.head.dropout:
            differences.append("which features dropout drops")
        if self._spec.batch_norm == "trained":
            differences.append("what BatchNormalization learns from fewer at a time")
        return " and ".join(differences)

    def _batches(self, phase: Phase) -> Iterator[Batch]:
        first = self._state.batch
        made: Iterable[Batch] = (
            read_ahead(phase.train, first, makers=phase.makers)
            if phase.makers
            else (phase.train[index] for index in range(first, len(phase.train)))
        )
        return count_waiting(made, self._state.epoch_seconds)

    def _after_batch(self, phase: Phase) -> None:
        state, steps = self._state, len(phase.train)
        done = state.epoch * steps + state.batch
        events.progress(
            phase.name, done, phase.epochs * steps, "steps", step=state.step
        )
        if self._stops.stop:
            self._save_and_stop(phase)
        if state.batch < steps:
            self._save_when_due(phase, is_due=self._is_due_in_epoch())

    def _end_epoch(self, phase: Phase) -> None:
        state = self._state
        learning_rate = float(phase.model.optimizer.learning_rate)
        with averaged(phase.model):
            values = state.end_epoch() | self._in_memory(phase, phase.validate)
            self._best.end_epoch(values, lambda: variables.read(phase.model.weights))
        state.metrics_seq += 1
        events.emit(
            "metrics",
            seq=state.metrics_seq,
            step=state.step,
            epoch=state.epoch - 1,
            phase=phase.name,
            values=values | {"learning_rate": learning_rate},
            seconds=state.take_epoch_seconds(),
        )
        if self._best.is_on_plateau:
            optimizer = phase.model.optimizer
            optimizer.learning_rate = learning_rate * self._spec.plateau_factor
        if self._stops.finish:
            self._enter(EVALUATE)
        elif state.epoch >= phase.epochs or self._best.waited_long_enough:
            self._enter(phase.next_name)
        else:
            self._save_when_due(phase, is_due=self._is_due_after_epoch())

    def _enter(self, next_name: str) -> None:
        """Saves the border between two phases: only the best weights cross it."""
        self._state.enter(next_name)
        self._save(None, checkpoint.PERIODIC)
        self._wait_until_saved()

    def _end_diverged(self, phase: Phase) -> None:
        step = self._state.step + 1
        if step > 1 and self._may_roll_back(phase.name):
            raise Diverged(
                f"The loss was no longer a number at step {step}. Training goes on "
                "from its last checkpoint, at half the learning rate."
            )
        if step == 1:
            raise UserError(
                "The loss was no number at the first step, before anything was "
                "learned: the base model's weights hold values that are no numbers. "
                f"Choose other `weights`. Received: weights={self._spec.weights!r}.",
                field="training.weights",
            )
        if self._state.best is None:
            raise UserError(
                f"The loss was no longer a number at step {step}. Lower "
                f"`{phase.name}_learning_rate`.",
                field=f"training.{phase.name}_learning_rate",
            )
        events.note(
            "warning",
            f"The loss was no longer a number at step {step}, so this phase ended "
            f"there; the best weights are from step {self._state.best.step}.",
        )
        self._enter(phase.next_name)

    def _is_due_in_epoch(self) -> bool:
        every = self._spec.checkpoint_every.steps
        if every is not None and self._state.step % every == 0:
            return True
        apart = _WRITES_APART * self._checkpoints.write_seconds
        longest = max(_LONGEST_UNSAVED_SECONDS, apart)
        return time.monotonic() - self._saved_at > longest

    def _is_due_after_epoch(self) -> bool:
        every = self._spec.checkpoint_every.epochs
        if every is not None:
            return self._state.epoch % every == 0
        return self._is_due_in_epoch()

    def _save_when_due(self, phase: Phase, *, is_due: bool) -> None:
        self._is_due = self._is_due or is_due
        # Asked at every step, because it raises what the last checkpoint met.
        if self._checkpoints.is_free() and self._is_due:
            self._save(phase.model, checkpoint.PERIODIC)

    def _save(self, model: keras.Model | None, kind: str) -> None:
        self._stopwatch.lap()
        with self._stalled():
            self._checkpoints.wait()  # before the copy: memory holds one at most
            is_needed = model is not None and not self._state.at_phase_start
            arrays = variables.read_all(model) if is_needed else {}
            arrays["best"] = self._best.weights
            self._checkpoints.begin(self._state, arrays, kind=kind)
        self._saved_at = time.monotonic()
        self._is_due = False

    def _wait_until_saved(self) -> None:
        with self._stalled():
            self._checkpoints.wait()

    @contextlib.contextmanager
    def _stalled(self) -> Iterator[None]:
        """Counts the time for which no step is trained because of a checkpoint."""
        began = time.monotonic()
        yield
        self._state.stalled_seconds += time.monotonic() - began
