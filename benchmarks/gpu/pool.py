"""The images of a GPU benchmark as one small file."""

from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from hf_ela._threads import cores
from hf_ela.ela.views import ALIGNED_QUALITY, ALIGNED_SIDE
from hf_ela.images.loading import IMAGE_SUFFIXES, load_image
from hf_ela.recipes.schema import LABELS

SPLITS = ("train", "test")


def encoded(path: Path, index: int, factor: float) -> bytes:
    """Return an image as the pack holds it: size and quality depend on its number alone."""
    rng = np.random.default_rng(index)
    side, quality = (
        rng.integers(*ALIGNED_SIDE, endpoint=True),
        rng.integers(*ALIGNED_QUALITY, endpoint=True),
    )
    image = load_image(path).pixels
    scale = factor * side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    file = BytesIO()
    small = image.resize(size, Image.Resampling.LANCZOS)
    small.save(file, "JPEG", quality=int(quality), optimize=True)
    return file.getvalue()


def pack(data: Path, out: Path, megabytes: float) -> None:
    """Write the images of an imagefolder with train and test, and their labels, as one file."""
    found = [
        (path, split == "test", kind == "fake")
        for split in SPLITS
        for kind in LABELS
        for path in sorted((data / split / kind).iterdir())
        if path.suffix.lower() in IMAGE_SUFFIXES
    ]
    paths, test, fake = zip(*found, strict=True)
    room, factor = megabytes * 1e6, 1.0
    with ThreadPoolExecutor(cores()) as pool:
        while True:
            numbers, factors = range(len(paths)), [factor] * len(paths)
            files = list(pool.map(encoded, paths, numbers, factors))
            total = sum(map(len, files))
            if total <= room:
                break
            factor *= 0.98 * (room / total) ** 0.5  # the area is what takes space
    np.savez(
        out,
        bytes=np.frombuffer(b"".join(files), np.uint8),
        ends=np.cumsum([len(file) for file in files]),
        test=np.array(test),
        fake=np.array(fake),
        factor=factor,
    )
    low, high = (factor * side for side in ALIGNED_SIDE)
    print(f"{len(files)} images, longest side {low:.0f}-{high:.0f} px, {total / 1e6:.1f} MB: {out}")


class Pool(NamedTuple):
    """Images and labels: decoded, and in an order drawn once."""

    images: list[Image.Image]
    fake: np.ndarray
    test: np.ndarray

    def part(self, name: str) -> np.ndarray:
        """Return the numbers of the images of train (80 %), validation or test."""
        if name == "test":
            return np.flatnonzero(self.test)
        rows = np.flatnonzero(~self.test)
        held = len(rows) // 5
        return rows[:held] if name == "validation" else rows[held:]

    def one_hot(self, rows: np.ndarray) -> np.ndarray:
        """Return the labels, in the order of `LABELS`."""
        return np.stack([self.fake[rows], ~self.fake[rows]], axis=1).astype(np.float32)


def read_pool(path: Path, limit: int | None) -> Pool:
    """Read and decode a pack, by threads."""
    with np.load(path) as file:
        ends, data, fake, test = (file[key] for key in ("ends", "bytes", "fake", "test"))
    starts = np.concatenate([[0], ends[:-1]])
    order = np.random.default_rng(0).permutation(len(ends))[:limit]

    def decoded(row: int) -> Image.Image:
        image = Image.open(BytesIO(data[starts[row] : ends[row]].tobytes()))
        image.load()
        return image

    with ThreadPoolExecutor(cores()) as pool:
        return Pool(list(pool.map(decoded, order)), fake[order], test[order])
