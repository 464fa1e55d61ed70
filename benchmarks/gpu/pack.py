"""Small copies of an imagefolder, for a machine with a GPU."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from hf_ela._threads import cores
from hf_ela.ela.views import draw_alignment
from hf_ela.images.loading import load_image
from hf_ela.images.operations import rescale
from hf_ela.images.sources import IMAGE_SUFFIXES


def pack(data: Path, out: Path, scale: float) -> None:
    """Write every image as the protocol `aligned` draws it, its sides times `scale`."""
    paths = [p for p in sorted(data.rglob("*")) if p.suffix.lower() in IMAGE_SUFFIXES]

    def write(number: int) -> int:
        side, quality = draw_alignment(np.random.default_rng(number))
        image = load_image(paths[number]).pixels
        small = rescale(image, scale * side / max(image.size))
        copy = out / paths[number].relative_to(data).parent / f"{number:05}.jpg"
        copy.parent.mkdir(parents=True, exist_ok=True)
        small.save(copy, quality=quality)
        return copy.stat().st_size

    with ThreadPoolExecutor(cores()) as threads:
        total = sum(threads.map(write, range(len(paths))))
    print(f"{len(paths)} images, {total / 1e6:.1f} MB: {out}")
