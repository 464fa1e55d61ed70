"""A small labelled sample set made by code, for a demo without a network.

Each *picture* is painted once, stroke by stroke, and saved twice with the same size, JPEG quality
and chroma subsampling: as painted (`real`), and passed through a small decoder, as at the end of an
image generator (`fake`). Content and file history are thus the same in both classes; the difference
is the grid that upsampling leaves (Odena et al., "Deconvolution and Checkerboard Artifacts",
Distill 2016). The set shows that the pipeline works and says nothing about art.
"""

import csv
import io
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import PIL
from PIL import Image

from hf_ela._processes import Workers
from hf_ela._terminal import progress_bar
from hf_ela.data.synthetic.painting import STYLES, Pixels, paint
from hf_ela.errors import DataError

SAMPLES_VERSION = 1
"""Increased whenever the same settings give different pictures."""

# Drawn once for both files of a picture: JPEG quality, both ends included, and chroma subsampling.
SAVED_QUALITIES = (82, 96)
SUBSAMPLINGS = ("4:2:0", "4:4:4")

README = """---
license: cc0-1.0
---
# Synthetic samples of hf-ela

Made by code (`hf-ela samples`); {per_class} training and {test_per_class} test images per class.

**This is not art, and a score on it says nothing about performance on art.** It exists to try
the whole pipeline without a download.

- `real`: painted stroke by stroke by a program, in the styles {styles}.
- `fake`: the same pictures passed through a small decoder ({decoders}), as at the
  end of an image generator. No generative model was used.
- Both files of a picture have the same size, JPEG quality and chroma subsampling, and nearly the
  same length: the format says nothing about the class.
- `groups.csv`: a file's picture (`group`; on one side of train and test only) and its style or
  decoder (`source`).

The settings and versions in `samples.json` reproduce the same bytes. Public domain (CC0 1.0).
"""


def _jpeg(pixels: Pixels, quality: int, subsampling: str) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
    image.save(file, "JPEG", quality=quality, subsampling=subsampling)
    return file.getvalue()


def _write_pair(folder: Path, seed: int, split: str, index: int) -> list[tuple[str, str, str]]:
    """Write both files of a picture; return their rows of `groups.csv`."""
    rng = np.random.default_rng([seed, ("train", "test").index(split), index])
    style, decoder = list(STYLES)[index % len(STYLES)], list(DECODERS)[index % len(DECODERS)]
    quality = int(rng.integers(SAVED_QUALITIES[0], SAVED_QUALITIES[1] + 1))
    encode = partial(_jpeg, quality=quality, subsampling=str(rng.choice(SUBSAMPLINGS)))
    pixels = paint(rng, style)
    group = f"{split}-{index:04d}"
    rows = []
    for label, source, data in (
        ("fake", decoder, decode(pixels, decoder, rng, encode)),
        ("real", style, encode(pixels)),
    ):
        name = f"{split}/{label}/{style}-{index:04d}.jpg"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
        rows.append((name, group, source))
    return rows


def _in_words(settings: Mapping[str, int]) -> str:
    named = [f"{name.replace('_', ' ')} {value}" for name, value in settings.items()]
    return ", ".join(named) or "other files"


def _is_complete(folder: Path, settings: dict[str, int]) -> bool:
    """Return whether `folder` already holds the set; False if it is empty or missing.

    Raises:
        DataError: It holds something else.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    try:
        found = json.loads((folder / "samples.json").read_text())["settings"]
    except (OSError, ValueError, KeyError, TypeError):
        found = {}
    if found == settings:
        return True
    raise DataError(
        "Samples need a new or empty folder, or one with a set of the same settings. Received: "
        f"{folder}, with {_in_words(found)}; requested: {_in_words(settings)}. Choose another "
        "folder."
    )


def write_samples(
    folder: str | os.PathLike[str],
    *,
    per_class: int = 240,
    test_per_class: int = 60,
    seed: int = 0,
    num_proc: int = 1,
    progress: bool = False,
) -> Path:
    """Write the synthetic sample set as an imagefolder with `groups.csv` (file_name,group,source).

    The same arguments give the same bytes, whatever `num_proc` is, on the same versions of Pillow
    and NumPy; Pillow decides the pixels. An existing set of the same settings is kept.
    The set is written beside `folder` and renamed when complete.

    Args:
        folder: Where `train/{fake,real}` and `test/{fake,real}` go; new, or empty.
        per_class: Training images of each class.
        test_per_class: Test images of each class.
        seed: Seed of the pictures.
        num_proc: Processes that share the work.
        progress: Show a bar on standard error, and say if a set is kept.

    Returns:
        The path of the folder.

    Raises:
        DataError: A count or the seed is out of range, `folder` holds something else, or a process
            was killed.
    """
    settings = {"per_class": per_class, "test_per_class": test_per_class, "seed": seed}
    for name, value in settings.items():
        if value < (least := 0 if name == "seed" else 1):
            raise DataError(f"`{name}` must be at least {least}. Received: {value}.")
    if num_proc < 1:
        raise DataError(f"`num_proc` must be at least 1. Received: {num_proc}.")
    settings["version"] = SAMPLES_VERSION
    folder = Path(folder)
    if _is_complete(folder, settings):
        if progress:
            print(f"{folder} already holds these samples: kept as they are.", file=sys.stderr)
        return folder

    pictures = [("train", i) for i in range(per_class)]
    pictures += [("test", i) for i in range(test_per_class)]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        # A folder inside, since only its owner can read a temporary one.
        made = Path(temporary) / "set"
        calls: list[Callable[[], list[tuple[str, str, str]]]]
        calls = [partial(_write_pair, made, seed, *picture) for picture in pictures]
        with ExitStack() as stack:
            if num_proc > 1:
                pool = stack.enter_context(Workers(num_proc))
                # Not `map`: it cancels calls while the pool that lost a worker ends them (CPython).
                calls = [pool.submit(call).result for call in calls]
            pairs = (call() for call in calls)
            bar = progress_bar(pairs, "Painting", len(pictures), shown=progress)
            rows = list(chain.from_iterable(bar))
        with (made / "groups.csv").open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerows([("file_name", "group", "source"), *rows])
        text = README.format(styles=", ".join(STYLES), decoders=", ".join(DECODERS), **settings)
        (made / "README.md").write_text(text)
        versions = {"pillow": PIL.__version__, "numpy": np.__version__}
        record = json.dumps({"settings": settings, "versions": versions}, indent=2)
        (made / "samples.json").write_text(record + "\n")
        if folder.exists():
            folder.rmdir()
        made.rename(folder)
    return folder


# Each picture draws a share of the decoder and a gain of the checkerboard from these ranges.
STRENGTHS = (0.6, 1.0)
RIPPLES = (0.01, 0.04)


def _soften(pixels: Pixels, side: float) -> Pixels:
    """Blur with the kernel (side, 1 - 2 side, side) along both axes."""
    for axis in (0, 1):
        neighbours = np.roll(pixels, 1, axis) + np.roll(pixels, -1, axis)
        pixels = side * neighbours + (1 - 2 * side) * pixels
    return pixels


def _nearest(latent: Pixels) -> Pixels:
    """Upsample by nearest neighbours, then blur by 3x3."""
    return _soften(latent.repeat(2, 0).repeat(2, 1), 0.15)


def _subpixel(latent: Pixels) -> Pixels:
    """Shuffle pixels: a position becomes 2x2 pixels, each with its own weights."""
    right, below = np.roll(latent, -1, 1), np.roll(latent, -1, 0)
    out = latent.repeat(2, 0).repeat(2, 1)
    out[::2, 1::2] = 0.7 * latent + 0.3 * right
    out[1::2, ::2] = 0.75 * latent + 0.25 * below
    out[1::2, 1::2] = 0.5 * latent + 0.25 * (right + below)
    return out


def _transposed(latent: Pixels) -> Pixels:
    """Convolve transposed, kernel 3 and stride 2: its overlaps make a checkerboard."""
    height, width, channels = latent.shape
    out = np.zeros((2 * height, 2 * width, channels), np.float32)
    out[::2, ::2] = latent
    for axis in (0, 1):
        out = 0.5 * (np.roll(out, 1, axis) + np.roll(out, -1, axis)) + out
    return out


DECODERS: dict[str, Callable[[Pixels], Pixels]] = {
    "nearest": _nearest,
    "subpixel": _subpixel,
    "transposed": _transposed,
}
"""Upsampling of a latent (h, w, 3) to pixels (2h, 2w, 3), by the name used as `source`."""


def decode(
    pixels: Pixels, decoder: str, rng: np.random.Generator, encode: Callable[[Pixels], bytes]
) -> bytes:
    """Return the file of `pixels` (H, W, 3) after `decoder`, about as long as `encode(pixels)`.

    The latent (means of 2x2 pixels) loses grain; as in a generator, it gets detail of its own where
    the picture is busy: sharper edges and noise. More detail makes a longer file, so a bisection
    finds how much. Neighbours in the latent differ a little in gain: the checkerboard of an earlier
    upsampling stage.
    """
    height, width, _ = pixels.shape
    upsample = DECODERS[decoder]
    pads = (4, 4 + -height % 4), (4, 4 + -width % 4), (0, 0)
    padded = np.pad(pixels, pads, mode="edge")
    latent = padded.reshape(len(padded) // 2, 2, -1, 2, 3).mean((1, 3), dtype=np.float32)
    rows, columns, _ = latent.shape

    lost = Image.fromarray(np.abs(padded - upsample(latent)).mean(2)).reduce(4)
    lost = lost.resize((columns, rows), Image.Resampling.BICUBIC)
    busy = np.clip(np.asarray(lost) - 2, 0, 8)[..., None]
    grey, tint = rng.standard_normal((rows, columns, 1)), rng.standard_normal(latent.shape)
    smooth = _soften(latent, 0.25)
    edges = 0.5 * (latent - smooth)
    detail = edges + (0.5 * busy * (grey + 0.3 * tint)).astype(np.float32)
    checkerboard = 1 - 2 * (np.indices((rows, columns)).sum(0)[..., None] % 2)
    base = smooth * (1 + rng.uniform(*RIPPLES) * checkerboard).astype(np.float32) + edges
    strength = rng.uniform(*STRENGTHS)

    def file(gain: float) -> bytes:
        made = upsample(base + gain * detail)[4 : 4 + height, 4 : 4 + width]
        return encode(pixels + strength * (made - pixels))

    longest, low, high = len(encode(pixels)), 0.0, 4.0
    for _ in range(7):
        gain = (low + high) / 2
        low, high = (gain, high) if len(file(gain)) <= longest else (low, gain)
    return file(low)
