"""Fakes that small autoencoders make of real images: same content, and a decoder's traces.

For `ablation.py`, whose change `pairs` trains on them too. There are three decoders, one for each
way in which generators upsample (Odena et al., "Deconvolution and Checkerboard Artifacts", Distill
2016); each remakes a third of the images.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hf_ela.augmentation import training_views
from hf_ela.backend import keras
from hf_ela.files import whole_file
from hf_ela.images import load_image
from hf_ela.recipe import Recipe

UPSAMPLERS = ("nearest", "transposed", "subpixel")
STRIDE = 4  # pixels to a place of the latent, which has 8 channels
SIDE = 64  # of the crops that an autoencoder is trained on
BATCH = 16


def autoencoder(upsampler: str) -> Any:
    """Return an untrained one, RGB from -1 to 1 in and out, with noise in its latent."""
    layers = keras.layers

    def convolution(x: Any, width: int) -> Any:
        return layers.Conv2D(width, 3, padding="same", activation="relu")(x)

    def block(x: Any, width: int) -> Any:
        return layers.Add()([x, layers.Conv2D(width, 1)(convolution(x, width))])

    def doubled(x: Any, width: int) -> Any:
        if upsampler == "transposed":
            how = {"strides": 2, "padding": "same", "activation": "relu"}
            return layers.Conv2DTranspose(width, 3, **how)(x)
        if upsampler == "subpixel":
            return keras.ops.depth_to_space(convolution(x, 4 * width), 2)
        return convolution(layers.UpSampling2D(2)(x), width)

    pixels = keras.Input((None, None, 3))
    x = layers.Conv2D(64, STRIDE, strides=STRIDE)(pixels)
    x = block(block(x, 64), 64)
    x = layers.Conv2D(8, 1)(x)
    x = layers.GaussianNoise(0.1)(x)
    x = convolution(x, 64)
    x = block(block(x, 64), 64)
    x = block(doubled(x, 32), 32)
    x = doubled(x, 16)
    return keras.Model(pixels, layers.Conv2D(3, 3, padding="same")(x))


def trained(upsampler: str, pictures: Sequence[np.ndarray], seed: int, steps: int) -> Any:
    """Return an autoencoder fitted to crops.

    Beside the error of pixels it pays for detail that is lost, however it is replaced: else a
    blur would give its images away.
    """
    ops = keras.ops

    def detail(x: Any) -> Any:
        beside = x[:, :-2, 1:-1] + x[:, 2:, 1:-1] + x[:, 1:-1, :-2] + x[:, 1:-1, 2:]
        return ops.average_pool(ops.abs(4 * x[:, 1:-1, 1:-1] - beside), 8, 4)

    def loss(truth: Any, made: Any) -> Any:
        lost = ops.mean(ops.abs(detail(truth) - detail(made)))
        return ops.mean(ops.abs(truth - made)) + 0.5 * lost

    keras.utils.set_random_seed(seed)
    model = autoencoder(upsampler)
    rate = keras.optimizers.schedules.CosineDecay(2e-3, steps)
    model.compile(keras.optimizers.Adam(rate), loss, jit_compile=False)
    rng = np.random.default_rng(seed)
    for step in range(steps):
        crops = []
        for number in rng.integers(len(pictures), size=BATCH):
            picture = pictures[number]
            y, x = (rng.integers(side - SIDE + 1) for side in picture.shape[:2])
            crops.append(picture[y : y + SIDE, x : x + SIDE])
        batch = _scaled(np.stack(crops))
        value = model.train_on_batch(batch, batch)
        if (step + 1) % 500 == 0:
            print(f"Autoencoder {upsampler}, step {step + 1} of {steps}: loss {value:.3f}")
    return model


def remade(model: Any, picture: np.ndarray) -> np.ndarray:
    """Return a picture as an autoencoder gives it, cut to multiples of `STRIDE`."""
    height, width = (side // STRIDE * STRIDE for side in picture.shape[:2])
    given = _scaled(picture[None, :height, :width])
    made = keras.ops.convert_to_numpy(model(given, training=False))[0]
    return np.clip(np.rint((made + 1) * 127.5), 0, 255).astype(np.uint8)


def _scaled(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(np.float32) / 127.5 - 1


def views_of_fakes(
    originals: Sequence[Path], recipe: Recipe, steps: int, folder: Path
) -> np.ndarray:
    """Return what training sees of fakes: uint8, images x views x height x width x channels.

    They are made once, and kept in a folder. Originals smaller than a training crop have none.
    """
    seen = folder / "views.npy"
    if not seen.exists():
        _write_views(_write_fakes(originals, steps, folder), recipe, seen)
    return np.load(seen, mmap_mode="r")


def _write_fakes(originals: Sequence[Path], steps: int, folder: Path) -> list[Path]:
    """Write a PNG for each original that is as large as a training crop; return them."""
    pictures = {path: np.asarray(load_image(path).pixels) for path in originals}
    large = {path: one for path, one in pictures.items() if min(one.shape[:2]) >= SIDE}
    files = {path: folder / f"{path.stem}.png" for path in large}
    for seed, upsampler in enumerate(UPSAMPLERS):
        model = trained(upsampler, list(large.values()), seed, steps)
        for path in list(large)[seed :: len(UPSAMPLERS)]:
            with whole_file(files[path]) as temporary:
                made = Image.fromarray(remade(model, large[path]))
                made.save(temporary, "PNG", compress_level=1)
    return sorted(files.values())


def _write_views(files: Sequence[Path], recipe: Recipe, path: Path) -> None:
    def views(file: Path) -> np.ndarray:
        return training_views(load_image(file).pixels, recipe, f"pairs {file.name}")

    shape = (len(files), recipe.augmentation.views, *recipe.input_shape)
    with whole_file(path) as temporary, ThreadPoolExecutor() as pool:
        made = np.lib.format.open_memmap(temporary, "w+", np.uint8, shape)
        for number, seen in enumerate(pool.map(views, files)):
            made[number] = seen
        made.flush()
