"""Fitting a network to memory-mapped views: batches, schedule, early stopping, exact resume.

The draws of an epoch depend only on the seed and the epoch's number, and the state after an epoch
is on disk before the next one ends: a run that is interrupted at any moment resumes to the weights
that it would have had.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from hf_ela._files import whole_file, write_json
from hf_ela._terminal import interrupts_kept
from hf_ela.backend import has_gpu, keras, wait_for_processes
from hf_ela.data.preparation import Split, held_view_set, training_view_set
from hf_ela.ela.device_augmentation import DRAWS, DeviceAugmentation
from hf_ela.errors import RunError
from hf_ela.models.backbone import BACKBONE, load_published
from hf_ela.models.half_precision import round_kernels
from hf_ela.models.networks import NORMALISED, build_model, head_of, with_error_level
from hf_ela.models.settings import INPUT
from hf_ela.recipes.networks import Transfer
from hf_ela.recipes.schema import EarlyStopping, Recipe
from hf_ela.training.batches import DRAWN, Batches, balanced_shares
from hf_ela.training.devices import not_shared, shared_among
from hf_ela.training.events import event_files
from hf_ela.training.features import FeatureSplit, in_features
from hf_ela.training.initial import Initial

History = dict[str, list[float]]


class Checkpoint(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Keeps the state after each epoch on disk: weights, optimizer, history; and the best weights.

    `state.json` is written last and renamed into place, so it always describes whole files.
    """

    def __init__(self, folder: Path, stopping: EarlyStopping | None, seed: int) -> None:
        """Read the state of an earlier run in `folder`, if there is one."""
        super().__init__()
        sharing = keras.distribution.distribution()
        self.writes = not (sharing and sharing.data_shard_id)
        """Whether this process alone, or with rank 0 among several, keeps the state on disk."""
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
            with not_shared():
                model.load_weights(self._weights(self.epochs))

    def restore_best(self, model: keras.Model) -> None:
        """Load the weights of the best epoch, if early stopping asks for them."""
        if self.stopping and self.stopping.restore_best and self.epochs:
            if (sharing := keras.distribution.distribution()) and sharing.num_processes > 1:
                wait_for_processes()  # until it is written
            with not_shared():
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
        if not self.writes:
            return
        for old in self.folder.glob("epoch-*.weights.h5"):
            if old != self._weights(self.epochs):
                old.unlink()

    def write(self) -> None:
        """Write the state, atomically."""
        self.seconds = perf_counter() - self._started
        if not self.writes:
            return
        state = {"history": self.history, "seconds": self.seconds, "finished": self.finished}
        write_json(self.folder / "state.json", state)

    def _weights(self, epochs: int) -> Path:
        return self.folder / f"epoch-{epochs:04d}.weights.h5"

    def _save(self, path: Path) -> None:
        if self.writes:
            with whole_file(path) as temporary, not_shared():
                self.model.save_weights(temporary)


def fit(
    recipe: Recipe,
    train: Split,
    validation: Split,
    folder: Path,
    sources: Sequence[str | None] = (),
    initial: Initial | None = None,
    events: Path | None = None,
    devices: int = 1,
) -> tuple[keras.Model, Checkpoint]:
    """Train the recipe's network, from the state in `folder` if there is one.

    Args:
        recipe: What to train.
        train: The images to train on.
        validation: The images measured after each epoch.
        folder: For the state after each epoch.
        sources: The source of each image of `train`, for a recipe that balances them.
        initial: The model whose weights training starts from; random weights without.
        events: Folder for an event file of TensorBoard; none without.
        devices: How many devices of each process share each batch.

    Returns:
        The trained network in float32, and the checkpoint with history and times.
    """
    how = recipe.training
    frozen = isinstance(recipe.network, Transfer) and not recipe.network.trainable_blocks
    mixed = how.mixed_precision and has_gpu() and not frozen  # features are kept for other runs
    with shared_among(devices):
        keras.config.set_dtype_policy("mixed_bfloat16" if mixed else "float32")
        try:
            model = initial_model(recipe, initial)
        finally:
            keras.config.set_dtype_policy("float32")
        trained = model
        if how.ela == "on_device":
            trained = on_device(model, recipe)
        elif frozen:
            backbone, trained = head_of(model)
            train = seen_features(train, recipe, backbone)
            validation = in_features(validation, held_view_set(recipe), backbone, mirrored=False)
            if initial is None:
                normalise(trained, train)
        checkpoint = fit_model(trained, recipe, train, validation, folder, sources, events)
    plain = build_model(recipe)
    plain.set_weights(model.get_weights())
    if isinstance(recipe.network, Transfer):
        round_kernels(plain)  # its head, and the blocks that were trained
    return plain, checkpoint


def initial_model(recipe: Recipe, initial: Initial | None = None) -> keras.Model:
    """Return the network before training: weights of the seed, but for a published backbone.

    From an `initial` model, it has the weights of that, and keeps their statistics: those of few
    images would not do.
    """
    keras.utils.set_random_seed(recipe.training.seed)
    model = build_model(recipe)
    if initial is not None:
        model.set_weights(initial.weights())
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = False
    elif isinstance(recipe.network, Transfer):
        load_published(model.get_layer(BACKBONE), recipe.network.backbone)
        round_kernels(model.get_layer(BACKBONE))
    return model


def seen_features(train: Split, recipe: Recipe, backbone: keras.Model) -> FeatureSplit:
    """Return the features that training draws from; where it flips, every second is flipped."""
    flips = recipe.augmentation is not None and recipe.augmentation.flips
    return in_features(train, training_view_set(recipe), backbone, mirrored=flips)


def normalise(head: keras.Model, train: FeatureSplit) -> None:
    """Set mean and variance of a head's features for good: those of the training images."""
    layer = head.get_layer(NORMALISED)
    layer.set_weights(train.moments())
    layer.trainable = False


def fit_model(
    model: keras.Model,
    recipe: Recipe,
    train: Split,
    validation: Split,
    folder: Path,
    sources: Sequence[str | None] = (),
    events: Path | None = None,
) -> Checkpoint:
    """Train a model from what the splits hold to probabilities; it ends with its best weights."""
    how = recipe.training
    shares = balanced_shares(train.labels, sources) if how.balance == "sources" else None
    batches = Batches(train, training_view_set(recipe), recipe, how.order_seed, shares)
    held = Batches(validation, held_view_set(recipe), recipe, seed=None)
    model.compile(
        optimizer=_optimizer(recipe, len(batches)),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=how.label_smoothing),
        weighted_metrics=[keras.metrics.CategoricalAccuracy("accuracy")],
        # On a CPU, XLA's convolutions are slower than TensorFlow's own (oneDNN).
        jit_compile=False if keras.backend.backend() == "tensorflow" and not has_gpu() else "auto",
    )
    # A step that finds all variables made is traced once, not twice.
    model.optimizer.build(model.trainable_variables)
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = Checkpoint(folder, how.early_stopping, how.seed)
    checkpoint.restore(model)
    if not checkpoint.finished:
        with interrupts_kept() as raise_again, event_files(events, checkpoint.history) as tracked:
            follow = keras.callbacks.LambdaCallback(
                on_epoch_begin=lambda epoch, logs: batches.draw(epoch),
                on_train_batch_end=lambda batch, logs: raise_again(),
            )
            terminal = sys.stdout and sys.stdout.isatty()
            model.fit(
                batches,
                validation_data=held,
                initial_epoch=checkpoint.epochs,
                epochs=how.epochs,
                callbacks=[follow, checkpoint, *tracked],
                shuffle=False,  # `Batches` shuffles images, not batches
                # A bar, or in a log a line per epoch.
                verbose=(1 if terminal else 2) if checkpoint.writes else 0,
            )
        checkpoint.finished = True
        checkpoint.write()
    checkpoint.restore_best(model)
    return checkpoint


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
