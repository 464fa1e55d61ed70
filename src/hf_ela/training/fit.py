"""Fitting a network to memory-mapped views: batches, schedule, early stopping, exact resume.

The draws of an epoch depend only on the seed and the epoch's number, and the state after an epoch
is on disk before the next one ends: a run that is interrupted at any moment resumes to the weights
that it would have had.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from hf_ela._files import whole_file, write_json
from hf_ela.backend import has_gpu, keras
from hf_ela.data.preparation import Split, held_view_set, training_view_set
from hf_ela.data.rows import ViewSet
from hf_ela.ela.device_augmentation import DRAWS, DeviceAugmentation, draw, no_draws
from hf_ela.errors import RunError
from hf_ela.models.networks import build_model, with_error_level
from hf_ela.models.settings import INPUT
from hf_ela.recipes.schema import EarlyStopping, Recipe

History = dict[str, list[float]]
DRAWN = "draws"


class Batches(keras.utils.PyDataset):  # type: ignore[misc]  # Keras has no types
    """Batches of views with one-hot labels, in the order of `hf_ela.recipes.schema.LABELS`.

    With `seed`: in each epoch one view of every image, drawn anew, all images shuffled (rows sorted
    by class would give batches of one class), flipped at random if the recipe says so. Without:
    every view of every image, in order. Where the device augments, pixels come with the draws for
    `hf_ela.ela.device_augmentation`.
    """

    def __init__(self, split: Split, view_set: ViewSet, recipe: Recipe, seed: int | None) -> None:
        """Draw epoch 0."""
        super().__init__()
        self.split = split
        self.view_set = view_set
        self.batch_size = recipe.training.batch_size
        self.recipe = recipe
        self.on_device = recipe.training.ela == "on_device" and recipe.augmentation is not None
        self.flips = bool(recipe.augmentation and recipe.augmentation.flips) and not self.on_device
        self.seed = seed
        self.views = len(split.store.views(view_set, int(split.rows[0])))
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
            self._images = rng.permutation(images)
            self._views = rng.integers(self.views, size=images)

    def __len__(self) -> int:
        """Return the number of batches."""
        return -(-len(self._images) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[Any, np.ndarray]:
        """Return uint8 views, N x height x width x channels, and float32 labels, N x 2.

        Where the device augments, views come in a dict with their draws.
        """
        if index % 8 == 0:
            self.split.store.release()
        here = slice(index * self.batch_size, (index + 1) * self.batch_size)
        rows = self.split.rows[self._images[here]]
        pairs = zip(rows, self._views[here], strict=True)
        x = np.stack([self.split.store.views(self.view_set, int(row))[view] for row, view in pairs])
        rng = np.random.default_rng((self.seed or 0, self.epoch, index))
        if self.flips and self.seed is not None:  # left and right only: pictures have a top
            chosen = rng.random(len(x)) < 0.5
            x[chosen] = np.flip(x[chosen], 2)
        fake = self.labels[self._images[here]]
        labels = np.stack([fake, 1 - fake], axis=1).astype(np.float32)
        if not self.on_device:
            return x, labels
        if self.seed is not None:
            return {INPUT: x, DRAWN: draw(rng, len(x), self.recipe)}, labels
        room = self.recipe.source_side - self.recipe.pixel_side
        x = np.pad(x, ((0, 0), (0, room), (0, room), (0, 0)))
        return {INPUT: x, DRAWN: no_draws(len(x))}, labels


class Checkpoint(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Keeps the state after each epoch on disk: weights, optimizer, history; and the best weights.

    `state.json` is written last and renamed into place, so it always describes whole files.
    """

    def __init__(self, folder: Path, stopping: EarlyStopping | None, seed: int) -> None:
        """Read the state of an earlier run in `folder`, if there is one."""
        super().__init__()
        self.seed = seed
        self.folder = folder
        self.stopping = stopping
        self.history: History = {}
        self.seconds = 0.0
        self.finished = False
        state = folder / "state.json"
        if state.exists():
            saved = json.loads(state.read_text("utf-8"))
            self.history, self.seconds = saved["history"], saved["seconds"]
            self.finished = saved["finished"]
        self._started = perf_counter() - self.seconds

    @property
    def epochs(self) -> int:
        """Number of epochs done."""
        return len(self.history.get("loss", ()))

    @property
    def best_epoch(self) -> int | None:
        """Number of the epoch with the best monitored value, from 0."""
        if self.stopping is None or not self.epochs:
            return None
        best = np.argmin if self.stopping.monitor.endswith("loss") else np.argmax
        return int(best(self.history[self.stopping.monitor]))

    def restore(self, model: keras.Model) -> None:
        """Load the weights and the optimizer's state after the last epoch done."""
        if self.epochs:
            model.optimizer.build(model.trainable_variables)
            model.load_weights(self._weights(self.epochs))

    def restore_best(self, model: keras.Model) -> None:
        """Load the weights of the best epoch, if early stopping asks for them."""
        if self.stopping and self.stopping.restore_best and self.epochs:
            model.load_weights(self.folder / "best.weights.h5")

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Seed dropout by the number of the epoch: its state is not among the weights."""
        keras.utils.set_random_seed((self.seed + epoch) % 2**32)  # torch draws from its own state
        for layer in self.model.layers:
            if generator := getattr(layer, "seed_generator", None):
                seed = keras.ops.convert_to_numpy(generator.state)[0]
                generator.state.assign(np.array([seed, epoch * 2**20 % 2**32], np.uint32))

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Write the state; stop when the monitored value has not improved for long enough.

        Raises:
            RunError: A loss is not finite.
        """
        for name, value in (logs or {}).items():
            if not np.isfinite(value):
                raise RunError(
                    f"The training has diverged: {name}={value} in epoch {epoch + 1}. Train again "
                    "with a lower training.learning_rate."
                )
            self.history.setdefault(name, []).append(float(value))
        if self.stopping and self.stopping.restore_best and self.best_epoch == epoch:
            self._save(self.folder / "best.weights.h5")
        self._save(self._weights(self.epochs))
        if self.stopping and epoch - (self.best_epoch or 0) >= self.stopping.patience:
            self.model.stop_training = self.finished = True
        self.write()
        for old in self.folder.glob("epoch-*.weights.h5"):
            if old != self._weights(self.epochs):
                old.unlink()

    def write(self) -> None:
        """Write the state, atomically."""
        self.seconds = perf_counter() - self._started
        state = {"history": self.history, "seconds": self.seconds, "finished": self.finished}
        write_json(self.folder / "state.json", state)

    def _weights(self, epochs: int) -> Path:
        return self.folder / f"epoch-{epochs:04d}.weights.h5"

    def _save(self, path: Path) -> None:
        with whole_file(path) as temporary:
            self.model.save_weights(temporary)


def fit(
    recipe: Recipe, train: Split, validation: Split, folder: Path
) -> tuple[keras.Model, Checkpoint]:
    """Train the recipe's network, from the state in `folder` if there is one.

    Returns:
        The trained network in float32, and the checkpoint with history and times.
    """
    how = recipe.training
    keras.utils.set_random_seed(how.seed)
    gpu = has_gpu()
    keras.config.set_dtype_policy("mixed_bfloat16" if how.mixed_precision and gpu else "float32")
    try:
        model = build_model(recipe)
    finally:
        keras.config.set_dtype_policy("float32")
    if how.ela == "on_device":
        model = on_device(model, recipe)
    batches = Batches(train, training_view_set(recipe), recipe, seed=how.order_seed)
    held = Batches(validation, held_view_set(recipe), recipe, seed=None)
    model.compile(
        optimizer=_optimizer(recipe, len(batches)),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=how.label_smoothing),
        metrics=["accuracy"],
        # On a CPU, XLA's convolutions are slower than TensorFlow's own (oneDNN).
        jit_compile=False if keras.backend.backend() == "tensorflow" and not gpu else "auto",
    )
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = Checkpoint(folder, how.early_stopping, how.seed)
    checkpoint.restore(model)
    follow = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: batches.draw(epoch))
    if not checkpoint.finished:
        model.fit(
            batches,
            validation_data=held,
            initial_epoch=checkpoint.epochs,
            epochs=how.epochs,
            callbacks=[follow, checkpoint],
            shuffle=False,  # `Batches` shuffles images, not batches
            verbose=1 if sys.stdout.isatty() else 2,  # a bar, or in a log a line per epoch
        )
        checkpoint.finished = True
        checkpoint.write()
    checkpoint.restore_best(model)
    plain = build_model(recipe)
    plain.set_weights(model.get_weights())
    return plain, checkpoint


def on_device(network: keras.Model, recipe: Recipe) -> keras.Model:
    """Return a model from pixels, and from draws if the recipe augments, to probabilities.

    It shares the weights of `network`, in the same order.
    """
    model = with_error_level(network, recipe)
    if recipe.augmentation is None:
        return model
    side = recipe.source_side
    pixels = keras.Input((side, side, 3), dtype="uint8", name=INPUT)
    draws = keras.Input((len(DRAWS),), dtype="int32", name=DRAWN)
    augment = DeviceAugmentation(recipe.pixel_side, rescales=recipe.augmentation.rescale != [1, 1])
    outputs = model(augment(pixels, draws))
    return keras.Model({INPUT: pixels, DRAWN: draws}, outputs, name="hf_ela_on_device")


def _optimizer(recipe: Recipe, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    how = recipe.training
    rate: Any = how.learning_rate
    if how.schedule == "cosine":
        steps = steps_per_epoch * how.epochs
        warmup = min(steps_per_epoch, steps // 10)
        rate = keras.optimizers.schedules.CosineDecay(
            rate / 100, steps - warmup, warmup_target=rate, warmup_steps=warmup
        )
    if how.optimizer == "rmsprop":
        return keras.optimizers.RMSprop(rate, rho=0.9, epsilon=1e-8)
    return keras.optimizers.AdamW(rate, weight_decay=how.weight_decay)
