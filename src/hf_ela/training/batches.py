"""Batches of views; the draws of an epoch depend on its number alone."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from math import gcd
from typing import Any, NamedTuple

import numpy as np

from hf_ela._threads import thread_count
from hf_ela.backend import keras
from hf_ela.data.preparation import Split
from hf_ela.data.rows import ViewSet
from hf_ela.ela.device_augmentation import draw, no_draws
from hf_ela.models.settings import INPUT
from hf_ela.recipes.schema import Recipe

DRAWN = "draws"
FEW = 20
"""Images below which a source is not drawn as often as others."""
AHEAD = 2**28
"""Bytes of the batches that are made ahead, at most; one is made ahead in any case."""


class Epoch(NamedTuple):
    """What is drawn for an epoch: of each row its image in the split, and which of its views."""

    number: int
    images: np.ndarray
    views: np.ndarray


class Batches(keras.utils.PyDataset):  # type: ignore[misc]  # Keras has no types
    """Batches of views with one-hot labels, in the order of `hf_ela.recipes.schema.LABELS`.

    With `seed`: in each epoch one view of every image, drawn anew, all images shuffled (rows sorted
    by class would give batches of one class), flipped at random if the recipe says so. Without:
    every view of every image, in order. Where the device augments, pixels come with the draws for
    `hf_ela.ela.device_augmentation`.

    Where several devices share a batch, it comes with weights, and the last one as often as they
    need to share it evenly. Copies weigh nothing, but let batch normalisation find the statistics
    of the batch alone. With the weights, the mean loss over the rows is that without copies: in
    training that of each batch, in validation that of all of them. One of several processes makes
    its part of each batch.

    Threads make the next batches of the epoch while one is used. Keras's own workers would not do:
    what they have left of one epoch, or of building the model, is handed out in the next.
    """

    def __init__(
        self,
        split: Split,
        view_set: ViewSet,
        recipe: Recipe,
        seed: int | None,
        shares: np.ndarray | None = None,
    ) -> None:
        """Draw epoch 0; `shares` are the images' chances of being drawn, equal by default."""
        super().__init__()
        self.shares = shares
        sharing = keras.distribution.distribution()
        self.devices = sharing.num_model_replicas if sharing else 1
        self.parts = sharing.num_processes if sharing else 1
        self.part = sharing.data_shard_id if sharing else 0
        self.split = split
        self.view_set = view_set
        self.batch_size = recipe.training.batch_size
        self.recipe = recipe
        self.on_device = recipe.training.ela == "on_device" and recipe.augmentation is not None
        self.flips = bool(recipe.augmentation and recipe.augmentation.flips) and not self.on_device
        self.seed = seed
        views = split.views_of(view_set, int(split.rows[0]))
        self.views = len(views)
        self.labels = split.labels
        self.ahead = min(thread_count(), AHEAD // (views[0].nbytes * self.batch_size) or 1)
        self._threads = ThreadPoolExecutor(self.ahead, "batches")
        self._made: dict[tuple[int, int], Future[tuple[Any, ...]]] = {}
        self.draw(0)

    def draw(self, epoch: int) -> None:
        """Draw the batches of an epoch; with a seed, they depend on its number alone."""
        count = len(self.split)
        if self.seed is None:
            images = np.repeat(np.arange(count), self.views)
            views = np.tile(np.arange(self.views), count)
        else:
            rng = np.random.default_rng((self.seed, epoch))
            images = (
                rng.permutation(count)
                if self.shares is None
                else rng.choice(count, size=count, p=self.shares)
            )
            views = rng.integers(self.views, size=count)
        self._epoch = Epoch(epoch, images, views)
        for key in [*self._made]:  # another thread may take one meanwhile
            if key[0] != epoch:
                self._made.pop(key, None)

    def __len__(self) -> int:
        """Return the number of batches."""
        return -(-len(self._epoch.images) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        """Return uint8 views, N x height x width x channels, and float32 labels, N x 2.

        Where the device augments, views come in a dict with their draws; where several devices
        share a batch, weights of the rows come third.
        """
        epoch = self._epoch  # TensorFlow's thread may still ask for the one before
        batch = self._made.pop((epoch.number, index), None)
        batch = batch or self._threads.submit(self._batch, epoch, index)
        for following in range(index + 1, min(index + 1 + self.ahead, len(self))):
            if (epoch.number, following) not in self._made:
                made = self._threads.submit(self._batch, epoch, following)
                self._made[epoch.number, following] = made
        return batch.result()

    def _batch(self, epoch: Epoch, index: int) -> tuple[Any, ...]:
        if index % 8 == 0:
            self.split.store.release()
        here = slice(index * self.batch_size, (index + 1) * self.batch_size)
        images, chosen_views = epoch.images[here], epoch.views[here]
        places, weights = self._places(len(images))
        rows = self.split.rows[images[places]]
        pairs = zip(rows.tolist(), chosen_views[places].tolist(), strict=True)
        views = [
            self.split.views_of(self.view_set, row, slice(view, view + 1)) for row, view in pairs
        ]
        x = np.concatenate(views)
        rng = np.random.default_rng((self.seed or 0, epoch.number, index))
        if self.flips and self.seed is not None and x.ndim == 4:  # features were flipped before
            # Left and right only: pictures have a top.
            mirrored = np.arange(x.shape[2])[::-1]
            for place in np.flatnonzero((rng.random(len(images)) < 0.5)[places]):
                x[place] = x[place].take(mirrored, axis=1)  # faster than a view with a stride of -1
        fake = self.labels[images[places]]
        labels = np.stack([fake, 1 - fake], axis=1).astype(np.float32)
        inputs: Any = x
        if self.on_device and self.seed is not None:
            inputs = {INPUT: x, DRAWN: draw(rng, len(images), self.recipe)[places]}
        elif self.on_device:
            room = self.recipe.source_side - self.recipe.pixel_side
            x = np.pad(x, ((0, 0), (0, room), (0, room), (0, 0)))
            inputs = {INPUT: x, DRAWN: no_draws(len(x))}
        return (inputs, labels) if self.devices == 1 else (inputs, labels, weights)

    def _places(self, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Return which of a batch's rows this process makes, perhaps several times; and weights."""
        copies, total = self._copies(rows), len(self._epoch.images)
        last = total % self.batch_size
        weight = float(copies)
        if self.seed is None:
            weight = 1 + (self._copies(last) - 1) * last / total if last else 1.0
        weights = np.zeros(rows * copies, np.float32)
        weights[:rows] = weight
        mine = slice(*(rows * copies * n // self.parts for n in (self.part, self.part + 1)))
        return np.tile(np.arange(rows), copies)[mine], weights[mine]

    def _copies(self, rows: int) -> int:
        """Return how often so many rows are repeated for the devices to share them evenly."""
        return self.devices // gcd(rows, self.devices)


def balanced_shares(labels: np.ndarray, sources: Sequence[str | None]) -> np.ndarray:
    """Return each image's chance of being drawn: equal for classes, and for a class's sources.

    A source of fewer than `FEW` images counts as if it had so many: each of them would be drawn too
    often otherwise. Images without a source are one.
    """
    pairs = list(zip(labels.tolist(), sources or [None] * len(labels), strict=True))
    images = Counter(pairs)
    shares = np.array([1 / max(images[pair], FEW) for pair in pairs])
    for label in (0, 1):
        shares[labels == label] /= 2 * shares[labels == label].sum()
    return np.asarray(shares / shares.sum())
