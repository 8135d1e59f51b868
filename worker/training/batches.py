"""Batches of one split: from the pack's pixels, or from cached features.

The order of epoch `e` depends on (seed, e) only and the change of image `i` on
(seed, e, i) only, so `dataset[k]` is the same batch in every process, and training can
start at any batch of any epoch. Memory does not grow with the dataset: a batch is read
from memory-mapped arrays when it is asked for.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import keras
import numpy as np

from shared.training_spec import Augmentation
from worker.training import augment, counted_draws, mixing
from worker.training.mapped_files import PageBudget

Batch = tuple[np.ndarray, ...]

# Separates the random draws that share a seed, so that no two are correlated.
_ORDER_STREAM, _VIEW_STREAM, _MIX_STREAM = 1, 2, 3
WAITED, SPENT = "waited", "spent"


class Batches(keras.utils.PyDataset):
    """The rows of one split, in a reproducible order, a batch at a time.

    Args:
        labels: Class numbers of all rows of the pack.
        rows: The split's rows in the pack.
        classes: Number of classes.
        batch_size: Rows per batch. Every batch has this many, because each new shape
            costs seconds of compiling: the last one of an epoch is filled up with the
            epoch's first rows.
        seed: The run's seed.
        shuffle: Whether each epoch has its own order.
        class_weights: Weight of each class, or None for equal weights.

    Shapes:
        dataset[k]: inputs (batch, ...), labels one-hot (batch, classes) float32 and,
            with class weights, sample weights (batch,) float32.
    """

    def __init__(
        self,
        *,
        labels: np.ndarray,
        rows: np.ndarray,
        classes: int,
        batch_size: int,
        seed: int,
        shuffle: bool,
        class_weights: np.ndarray | None = None,
    ) -> None:
        super().__init__()
        self.rows = np.asarray(rows)
        self.epoch = 0
        self.seed = seed
        self._labels = labels
        self._one_hot = np.eye(classes, dtype=np.float32)
        self._batch_size = min(batch_size, len(self.rows))
        self._shuffle = shuffle
        self._class_weights = class_weights
        self._order = self.rows

    @property
    def images_per_step(self) -> int:
        """Rows of every batch."""
        return self._batch_size

    def __len__(self) -> int:
        return math.ceil(len(self.rows) / self._batch_size)

    def __getitem__(self, index: int) -> Batch:
        start = index * self._batch_size
        places = np.arange(start, start + self._batch_size) % len(self.rows)
        rows = self._order[places]
        labels = np.asarray(self._labels[rows])
        batch = (self.inputs(rows), self._one_hot[labels])
        if self._class_weights is None:
            return batch
        return (*batch, self._class_weights[labels])

    def start_epoch(self, epoch: int) -> None:
        """Fixes the order and the draws of `epoch`, counted from 0 in its phase."""
        self.epoch = epoch
        if self._shuffle:
            random = np.random.default_rng((self.seed, _ORDER_STREAM, epoch))
            self._order = random.permutation(self.rows)

    def inputs(self, rows: np.ndarray) -> np.ndarray:
        """Returns what the model takes for `rows` of the pack, in that order."""
        raise NotImplementedError


class PixelBatches(Batches):
    """Pictures of a pack, changed at random while training.

    Args:
        pixels: The pack's pictures, (n, side, side, 3) uint8: an array, or the pack's
            own `Pixels`.
        augmentation: The bounds of the changes; None gives the plain pictures.
        mixup: Alpha of mixup; 0 is off.
        cutmix: Alpha of CutMix; 0 is off.
        **split: As in `Batches`.
    """

    def __init__(
        self,
        pixels: Any,
        *,
        augmentation: Augmentation | None = None,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        **split: Any,
    ) -> None:
        super().__init__(**split)
        self._pixels = pixels
        self._augmentation = augmentation
        self._mixed = {"mixup": mixup, "cutmix": cutmix}

    def __getitem__(self, index: int) -> Batch:
        pictures, labels, *_ = super().__getitem__(index)
        random = np.random.default_rng((self.seed, _MIX_STREAM, self.epoch, index))
        pictures, labels = mixing.mix(pictures, labels, **self._mixed, random=random)
        if self._class_weights is None:
            return pictures, labels
        return pictures, labels, labels @ self._class_weights

    def inputs(self, rows: np.ndarray) -> np.ndarray:
        """Returns the pictures, (batch, side, side, 3) uint8."""
        pictures = [self._pixels[int(row)] for row in rows]
        if self._augmentation is None:
            return np.stack(pictures)
        return augment.augment(
            pictures, rows, self._augmentation, seed=self.seed, epoch=self.epoch
        )


class FeatureBatches(Batches):
    """Cached features of a frozen base: of several views, one drawn per epoch.

    Args:
        views: One array (n, features) float32 per view; view 0 is the plain picture.
        draw_from: Returns the views of an epoch. Defaults to `views` in each.
        **split: As in `Batches`.
    """

    def __init__(
        self,
        views: Sequence[np.ndarray],
        draw_from: Callable[[int], Sequence[np.ndarray]] | None = None,
        **split: Any,
    ) -> None:
        super().__init__(**split)
        self._views = views
        self._draw_from = draw_from
        self._row_bytes = views[0][0].nbytes
        self._budget = PageBudget(views)

    def start_epoch(self, epoch: int) -> None:
        """As in `Batches`; what `draw_from` raises is raised here."""
        if self._draw_from is not None:
            self._views = self._draw_from(epoch)
            self._budget = PageBudget(self._views)
        super().start_epoch(epoch)

    def inputs(self, rows: np.ndarray) -> np.ndarray:
        """Returns the features of each row's view, (batch, features) float32."""
        self._budget.spend(len(rows), self._row_bytes)
        if len(self._views) == 1:
            return np.asarray(self._views[0][rows])
        features = np.empty((len(rows), self._views[0].shape[1]), np.float32)
        (draws,) = counted_draws.uniform(
            rows, seed=self.seed, epoch=self.epoch, stream=_VIEW_STREAM, count=1
        )
        drawn = (draws * len(self._views)).astype(int)
        for number, view in enumerate(self._views):
            chosen = drawn == number
            features[chosen] = view[rows[chosen]]
        return features


def class_weights(labels: np.ndarray, classes: int) -> np.ndarray:
    """Returns weights inverse to the classes' frequencies, 1 on average per image.

    Args:
        labels: Class numbers of the training split.
        classes: Number of classes.
    """
    counts = np.maximum(np.bincount(labels, minlength=classes), 1)
    return (len(labels) / (classes * counts)).astype(np.float32)


def read_ahead(dataset: Batches, first: int, *, makers: int) -> Iterator[Batch]:
    """Yields `dataset[first:]` in order, made ahead by `makers` threads.

    Keras's own workers do nothing outside `fit`. A few batches wait at most, so memory
    stays flat; an error in a thread is raised here.

    Args:
        dataset: Batches of the epoch under way.
        first: Number of the first batch.
        makers: Threads. One makes 3,000 augmented pictures of 224 px a second.
    """
    waiting: deque[Future[Batch]] = deque()
    with ThreadPoolExecutor(makers, thread_name_prefix="read-ahead") as pool:
        try:
            for index in range(first, len(dataset)):
                waiting.append(pool.submit(dataset.__getitem__, index))
                if len(waiting) > 2 * makers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def count_waiting(batches: Iterable[Batch], clock: dict[str, float]) -> Iterator[Batch]:
    """Yields `batches` and books how long their reader had to wait for them.

    Args:
        batches: Made ahead or in line.
        clock: Where it adds, seconds of wall time: `waited` until a batch was there,
            `spent` on all of the loop, the waiting included.
    """
    mark = time.monotonic()
    for batch in batches:
        came = time.monotonic()
        clock[WAITED] = clock.get(WAITED, 0.0) + came - mark
        yield batch
        done = time.monotonic()
        clock[SPENT] = clock.get(SPENT, 0.0) + done - mark
        mark = done
