"""Training of both recipes on a device, from decoded images to test scores, without datasets.

`hf_ela.training.fit` trains from its cache on disk; here images come from one file and stay in
memory.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any

import numpy as np
from device import Device
from pool import Pool

from hf_ela._threads import cores
from hf_ela.ela.views import evaluation_pixels
from hf_ela.recipes.loading import load_recipe
from hf_ela.recipes.schema import Recipe


def in_batches(function: Callable[[Any], Any], device: Device, images: np.ndarray) -> np.ndarray:
    """Return the function of many images, in batches of one size: one compilation."""
    size = min(256, len(images))
    filled = np.concatenate([images, np.repeat(images[:1], -len(images) % size, axis=0)])
    run = device.compiled(function)
    parts = [device.get(run(device.put(filled[i : i + size]))) for i in range(0, len(filled), size)]
    return np.concatenate(parts)[: len(images)]


def train_reference(device: Device, pool: Pool, recipe: Recipe, epochs: int) -> np.ndarray:
    """Train on ELA that the device made once; return the probabilities of fake of the test."""
    from hf_ela.backend import keras
    from hf_ela.ela.layers import ErrorLevel, PillowResize
    from hf_ela.models.networks import build_model

    side = recipe.pixel_side
    with ThreadPoolExecutor(cores()) as threads:
        squashed = threads.map(lambda image: np.asarray(image.resize((side, side))), pool.images)
        pixels = np.stack(list(squashed))
    started = perf_counter()
    ela = ErrorLevel(recipe.ela.qualities, gain=recipe.ela.gain)
    resize = PillowResize(recipe.input.size)
    inputs = in_batches(lambda images: resize(ela(images)), device, pixels)
    print(f"ELA of {len(pixels)} images, compilation included: {perf_counter() - started:.1f} s")
    network = build_model(recipe)
    how = recipe.training
    network.compile(
        keras.optimizers.RMSprop(how.learning_rate, rho=0.9, epsilon=1e-8),
        "categorical_crossentropy",
        metrics=["accuracy"],
    )
    stop = keras.callbacks.EarlyStopping("val_accuracy", patience=2, mode="max")
    train, held, test = (pool.part(name) for name in ("train", "validation", "test"))
    network.fit(
        inputs[train],
        pool.one_hot(train),
        batch_size=how.batch_size,
        epochs=epochs,
        validation_batch_size=256,
        validation_data=(inputs[held], pool.one_hot(held)),
        callbacks=[stop],
        verbose=2,
    )
    return np.asarray(network.predict(inputs[test], batch_size=256, verbose=0))[:, 0]


def train_default(device: Device, pool: Pool, recipe: Recipe, epochs: int) -> np.ndarray:
    """Train with augmentation and ELA in the step; return the probabilities of fake of the test."""
    from hf_ela.backend import keras
    from hf_ela.models.networks import build_model, with_error_level

    how = recipe.training
    policy = "mixed_bfloat16" if how.mixed_precision and device.gpu else "float32"
    keras.config.set_dtype_policy(policy)
    judge = with_error_level(build_model(recipe), recipe)
    keras.config.set_dtype_policy("float32")
    model = augmented(judge, recipe)
    train, held, test = (pool.part(name) for name in ("train", "validation", "test"))
    sources = crops(pool, train, recipe)
    steps = -(-len(train) // how.batch_size) * epochs
    rate = keras.optimizers.schedules.CosineDecay(how.learning_rate, steps)
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=how.label_smoothing)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=how.weight_decay)
    model.compile(optimizer, loss, metrics=["accuracy"])
    judge.compile(loss=loss, metrics=["accuracy"])
    held_views, held_labels = views(pool, held, recipe)

    best, kept, waited = np.inf, model.get_weights(), 0
    for epoch in range(epochs):
        x, labels = epoch_inputs(sources, pool.one_hot(train), recipe, epoch)
        history = model.fit(x, labels, batch_size=how.batch_size, verbose=0).history
        held_loss, accuracy = judge.evaluate(held_views, held_labels, batch_size=256, verbose=0)
        print(f"epoch {epoch + 1}: loss {history['loss'][0]:.3f}", end="", flush=True)
        print(f", validation loss {held_loss:.3f}, accuracy {accuracy:.3f}", flush=True)
        waited += 1
        if held_loss < best:
            best, kept, waited = held_loss, model.get_weights(), 0
        if waited >= how.early_stopping.patience:
            break
    model.set_weights(kept)
    pixels, _ = views(pool, test, recipe)
    outputs = judge.predict(pixels, batch_size=256, verbose=0).astype(np.float64)
    logs = np.log(np.maximum(outputs, np.finfo(np.float32).tiny))
    logits = (logs[:, 0] - logs[:, 1]).reshape(len(test), -1).mean(axis=1)
    return 1 / (1 + np.exp(-logits))


def augmented(judge: Any, recipe: Recipe) -> Any:
    """Return a model from pixels and draws, by way of `DeviceAugmentation`, to probabilities."""
    from hf_ela.backend import keras
    from hf_ela.ela.device_augmentation import DRAWS, DeviceAugmentation

    side = recipe.source_side
    pixels = keras.Input((side, side, 3), dtype="uint8", name="source")
    draws = keras.Input((len(DRAWS),), dtype="int32", name="draws")
    history = DeviceAugmentation(recipe.pixel_side, rescales=recipe.augmentation.rescale != [1, 1])
    return keras.Model([pixels, draws], judge(history(pixels, draws)))


def crops(pool: Pool, rows: np.ndarray, recipe: Recipe) -> np.ndarray:
    """Return random crops of each image: images x views x side x side x 3."""
    side, rng = recipe.source_side, np.random.default_rng(recipe.training.seed)
    found = np.empty((len(rows), recipe.augmentation.views, side, side, 3), np.uint8)
    for place, row in enumerate(rows):
        image = np.asarray(pool.images[row])
        high, wide = (max(side - length, 0) for length in image.shape[:2])
        image = np.pad(image, ((0, high), (0, wide), (0, 0)), mode="symmetric")
        for view in found[place]:
            y, x = (rng.integers(length - side + 1) for length in image.shape[:2])
            view[:] = image[y : y + side, x : x + side]
    return found


def epoch_inputs(
    sources: np.ndarray, labels: np.ndarray, recipe: Recipe, epoch: int
) -> tuple[list[np.ndarray], np.ndarray]:
    """Return one crop of each image and its draws, and the labels, in an order drawn anew."""
    from hf_ela.ela.device_augmentation import draw

    rng = np.random.default_rng((recipe.training.order_seed, epoch))
    order = rng.permutation(len(sources))
    pixels = sources[order, rng.integers(sources.shape[1], size=len(sources))]
    return [pixels, draw(rng, len(sources), recipe)], labels[order]


def views(pool: Pool, rows: np.ndarray, recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """Return the crops that an evaluation sees, and a label for each."""
    pixels = [evaluation_pixels(pool.images[row], recipe, "as_is", key="") for row in rows]
    return np.concatenate(pixels), pool.one_hot(np.repeat(rows, recipe.evaluation_views))


def area_under_curve(scores: np.ndarray, fake: np.ndarray) -> float:
    """Return the share of pairs of a fake and a real image that are in order; ties count half."""
    difference = scores[fake][:, None] - scores[~fake][None, :]
    return float((difference > 0).mean() + (difference == 0).mean() / 2)


def trained(device: Device, pool: Pool, quick: bool) -> Iterator[dict[str, Any]]:
    """Yield time and quality of both recipes; the time is from decoded images to test scores."""
    from hf_ela.backend import keras

    for name, train in (("reference", train_reference), ("default", train_default)):
        recipe = load_recipe(name)
        if recipe.input.kind == "crops":  # the history of `aligned` is in the pack already
            crop = recipe.input.model_copy(update={"training": "as_is"})
            recipe = recipe.model_copy(update={"input": crop})
        keras.utils.set_random_seed(recipe.training.seed)
        epochs = 1 if quick else recipe.training.epochs
        started = perf_counter()
        scores = train(device, pool, recipe, epochs)
        taken = perf_counter() - started
        fake = pool.fake[pool.part("test")]
        accuracy = float(((scores >= 0.5) == fake).mean())
        yield {
            "recipe": name,
            "seconds": taken,
            "test_accuracy": accuracy,
            "test_auc": area_under_curve(scores, fake),
            "test_images": len(fake),
        }
