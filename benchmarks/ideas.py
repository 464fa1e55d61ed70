"""Ways to train that the package does not have, for `ablation.py` to try.

Each is a subclass of `hf_ela.fit.Batches`, which a training is then fed with; validation, without a
seed, is left as it is.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from hf_ela.recipe import Recipe

Batches = type


def mixup(batches: Batches) -> Batches:
    """Mix every image with another of its batch, and their labels: Beta(.2, .2) of the other.

    Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018.
    """

    class Mixed(batches):  # type: ignore[misc]
        def __getitem__(self, index: int) -> tuple[Any, np.ndarray]:
            x, labels = super().__getitem__(index)
            if self.seed is None:
                return x, labels
            rng = np.random.default_rng((self.seed, self.epoch, index, 1))
            share = rng.beta(0.2, 0.2, len(x)).astype(np.float32)[:, None]
            other = rng.permutation(len(x))
            of_pixels = share[..., None, None]
            mixed = np.rint(of_pixels * x + (1 - of_pixels) * x[other]).astype(np.uint8)
            return mixed, share * labels + (1 - share) * labels[other]

    return Mixed


def balanced_sources(batches: Batches, source: Callable[[str], str]) -> Batches:
    """Draw every source of a class as often, however few images it has, and both classes too."""

    class Balanced(batches):  # type: ignore[misc]
        def draw(self, epoch: int) -> None:
            super().draw(epoch)
            if self.seed is None:
                return
            facts = self.split.facts
            pairs = np.array([f"{row['label']} {source(row['file_name'])}" for row in facts])
            _, number, images = np.unique(pairs, return_inverse=True, return_counts=True)
            sources = np.array([len(set(pairs[self.labels == label])) for label in self.labels])
            weights = 1 / (sources * images[number])
            rng = np.random.default_rng((self.seed, epoch))
            self._images = rng.choice(len(pairs), len(pairs), p=weights / weights.sum())
            self._views = rng.integers(self.views, size=len(pairs))

    return Balanced


def with_fakes(batches: Batches, views: np.ndarray) -> Batches:
    """Train on more fakes: their views, images x views x height x width x channels."""

    class More(batches):  # type: ignore[misc]
        def __init__(self, split: Any, view_set: str, recipe: Recipe, seed: int | None) -> None:
            split = split if seed is None else _Joined(split, views)
            super().__init__(split, view_set, recipe, seed)

    return More


class _Joined:
    """A split and fakes after it, whose row numbers are below 0: what batches ask of a split."""

    def __init__(self, split: Any, fakes: np.ndarray) -> None:
        self.store = self
        self.rows = np.concatenate([split.rows, -1 - np.arange(len(fakes))])
        self.labels = np.concatenate([split.labels, np.ones(len(fakes), np.int64)])
        self.release = split.store.release
        self._of_split = split.store.views
        self._fakes = fakes

    def __len__(self) -> int:
        return len(self.rows)

    def views(self, view_set: str, row: int) -> np.ndarray:
        return self._fakes[-1 - row] if row < 0 else self._of_split(view_set, row)
