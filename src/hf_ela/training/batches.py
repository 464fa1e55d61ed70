"""Batches of views; the draws of an epoch depend on its number alone."""

from collections import Counter
from collections.abc import Sequence
from math import gcd
from typing import Any

import numpy as np

from hf_ela.backend import keras
from hf_ela.data.preparation import Split
from hf_ela.data.rows import ViewSet
from hf_ela.ela.device_augmentation import draw, no_draws
from hf_ela.models.settings import INPUT
from hf_ela.recipes.schema import Recipe

DRAWN = "draws"
FEW = 20
"""Images below which a source is not drawn as often as others."""


class Batches(keras.utils.PyDataset):  # type: ignore[misc]  # Keras has no types
    """Batches of views with one-hot labels, in the order of `hf_ela.recipes.schema.LABELS`.

    With `seed`: in each epoch one view of every image, drawn anew, all images shuffled (rows sorted
    by class would give batches of one class), flipped at random if the recipe says so. Without:
    every view of every image, in order. Where the device augments, pixels come with the draws for
    `hf_ela.ela.device_augmentation`.

    Where several devices share a batch, it comes with weights, and the last one as often as they
    need to share it evenly. Copies weigh nothing, but let batch normalisation find the statistics
    of the batch alone. With the weights, the mean loss over the rows is that without copies: in
    training that of each batch, in validation that of all of them.
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
        self.split = split
        self.view_set = view_set
        self.batch_size = recipe.training.batch_size
        self.recipe = recipe
        self.on_device = recipe.training.ela == "on_device" and recipe.augmentation is not None
        self.flips = bool(recipe.augmentation and recipe.augmentation.flips) and not self.on_device
        self.seed = seed
        self.views = len(split.views_of(view_set, int(split.rows[0])))
        self.labels = split.labels
        self.draw(0)

    def draw(self, epoch: int) -> None:
        """Draw the batches of an epoch; with a seed, they depend on its number alone."""
        self.epoch = epoch
        images = len(self.split)
        if self.seed is None:
            self._images = np.repeat(np.arange(images), self.views)
            self._views = np.tile(np.arange(self.views), images)
        else:
            rng = np.random.default_rng((self.seed, epoch))
            self._images = (
                rng.permutation(images)
                if self.shares is None
                else rng.choice(images, size=images, p=self.shares)
            )
            self._views = rng.integers(self.views, size=images)

    def __len__(self) -> int:
        """Return the number of batches."""
        return -(-len(self._images) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        """Return uint8 views, N x height x width x channels, and float32 labels, N x 2.

        Where the device augments, views come in a dict with their draws; where several devices
        share a batch, weights of the rows come third.
        """
        if index % 8 == 0:
            self.split.store.release()
        here = slice(index * self.batch_size, (index + 1) * self.batch_size)
        rows = self.split.rows[self._images[here]]
        pairs = zip(rows.tolist(), self._views[here].tolist(), strict=True)
        views = [
            self.split.views_of(self.view_set, row, slice(view, view + 1)) for row, view in pairs
        ]
        x = np.concatenate(views)
        rng = np.random.default_rng((self.seed or 0, self.epoch, index))
        if self.flips and self.seed is not None and x.ndim == 4:  # features were flipped before
            # Left and right only: pictures have a top.
            chosen = rng.random(len(x)) < 0.5
            x[chosen] = np.flip(x[chosen], 2)
        fake = self.labels[self._images[here]]
        labels = np.stack([fake, 1 - fake], axis=1).astype(np.float32)
        inputs = {INPUT: x}
        if self.on_device and self.seed is not None:
            inputs[DRAWN] = draw(rng, len(x), self.recipe)
        elif self.on_device:
            room = self.recipe.source_side - self.recipe.pixel_side
            inputs[INPUT] = np.pad(x, ((0, 0), (0, room), (0, room), (0, 0)))
            inputs[DRAWN] = no_draws(len(x))
        return self._shared(inputs if self.on_device else x, labels)

    def _shared(self, inputs: Any, labels: np.ndarray) -> tuple[Any, ...]:
        """Return a batch as the devices can share it."""
        if self.devices == 1:
            return inputs, labels
        rows, last = len(labels), len(self._images) % self.batch_size
        copies = self._copies(rows)
        weight = float(copies)
        if self.seed is None:
            weight = 1 + (self._copies(last) - 1) * last / len(self._images) if last else 1.0
        weights = np.zeros(rows * copies, np.float32)
        weights[:rows] = weight

        def copied(values: np.ndarray) -> np.ndarray:
            return np.concatenate([values] * copies)

        return keras.tree.map_structure(copied, inputs), copied(labels), weights

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
