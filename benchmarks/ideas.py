"""Ways to train that the package does not have, for `ablation.py` to try.

Most are what a training is fed with in place of `hf_ela.fit.Batches`; validation, which has no
seed, is left as it is. `Averaged` takes the place of `hf_ela.fit.Checkpoint`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from hf_ela.backend import keras
from hf_ela.fit import Batches, Checkpoint


class Mixup(Batches):
    """Every image mixed with another of its batch, and their labels: Beta(.2, .2) of itself.

    Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018.
    """

    def __getitem__(self, index: int) -> tuple[Any, np.ndarray]:
        """Return mixed views and labels."""
        x, labels = super().__getitem__(index)
        if self.seed is None:
            return x, labels
        rng = np.random.default_rng((self.seed, self.epoch, index, 1))
        share = rng.beta(0.2, 0.2, len(x)).astype(np.float32)[:, None]
        other = rng.permutation(len(x))
        of_pixels = share[..., None, None]
        mixed = np.rint(of_pixels * x + (1 - of_pixels) * x[other]).astype(np.uint8)
        return mixed, share * labels + (1 - share) * labels[other]


class BalancedSources(Batches):
    """Every source of a class drawn as often, however few images it has, and both classes too.

    Args:
        source: From the name of a file to that of its source.
        given: What `Batches` takes.
    """

    def __init__(self, *given: Any, source: Callable[[str], str | None], **named: Any) -> None:
        """Draw epoch 0."""
        self.source = source
        super().__init__(*given, **named)

    def draw(self, epoch: int) -> None:
        """Choose what the batches of an epoch hold."""
        super().draw(epoch)
        if self.seed is None:
            return
        facts = self.split.facts
        pairs = np.array([f"{row['label']} {self.source(row['file_name'])}" for row in facts])
        _, number, images = np.unique(pairs, return_inverse=True, return_counts=True)
        sources = np.array([len(set(pairs[self.labels == label])) for label in self.labels])
        weights = 1 / (sources * images[number])
        rng = np.random.default_rng((self.seed, epoch))
        self._images = rng.choice(len(pairs), len(pairs), p=weights / weights.sum())
        self._views = rng.integers(self.views, size=len(pairs))


class WithFakes(Batches):
    """More fakes beside those of the split.

    Args:
        split: As `Batches` takes it.
        fakes: Their views: uint8, images x views x height x width x channels.
        given: What else `Batches` takes.
    """

    def __init__(
        self, split: Any, *given: Any, fakes: np.ndarray, seed: int | None, **named: Any
    ) -> None:
        """Draw epoch 0."""
        split = split if seed is None else _Joined(split, fakes)
        super().__init__(split, *given, seed=seed, **named)


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


MOMENTUM = 0.99
"""Of the average of weights, a step; a training of ten epochs on the pool has some 500."""


class Averaged(Checkpoint):
    """Validated and kept are averages of the weights over the steps, as the optimizer makes them.

    Unlike ``keras.callbacks.SwapEMAWeights`` it can be resumed: what is loaded is exchanged again.
    Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", SIAM Journal on
    Control and Optimization, 1992.
    """

    def restore(self, model: keras.Model) -> None:
        """Load the weights as they were trained, and their averages."""
        super().restore(model)
        if self.epochs:
            _exchange(model.optimizer)

    def on_test_begin(self, logs: Mapping[str, float] | None = None) -> None:
        """Have the averages validated."""
        _exchange(self.model.optimizer)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Write the averages as the weights, and those as averages; go on with those."""
        super().on_epoch_end(epoch, logs)
        _exchange(self.model.optimizer)


def averaging(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """Let an optimizer that is not built yet keep the averages."""
    optimizer.use_ema, optimizer.ema_momentum = True, MOMENTUM
    optimizer.ema_overwrite_frequency = None
    return optimizer


def _exchange(optimizer: keras.optimizers.Optimizer) -> None:
    averages = optimizer._model_variables_moving_average
    for weight, average in zip(optimizer._trainable_variables, averages, strict=True):
        trained = keras.ops.convert_to_numpy(weight).copy()
        weight.assign(average)
        average.assign(trained)
