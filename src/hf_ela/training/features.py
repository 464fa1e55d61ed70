"""Features of a frozen backbone: computed once for every view of a split, kept beside its ELA.

Training the layers behind the backbone then costs seconds an epoch. The features are written in
shards, each whole or absent, so that an interruption loses at most one.
"""

from hashlib import sha256
from pathlib import Path

import numpy as np

from hf_ela._files import whole_file
from hf_ela._terminal import progress_bar
from hf_ela._threads import batched
from hf_ela.backend import keras
from hf_ela.data.preparation import Split
from hf_ela.data.rows import ViewSet

SHARD_IMAGES = 64
"""Images per shard, as in the stores of ELA."""
STEP = 32
"""Views per step of the backbone: more of them are not faster on a CPU."""


class FeatureStore:
    """The features of some rows of an `ElaStore`, in place of their views.

    Attributes:
        facts: One dict per image of the whole store.
    """

    def __init__(self, split: Split, view_set: ViewSet, backbone: keras.Model, mirrored: bool):
        """Compute the features, or find them.

        Args:
            split: The images.
            view_set: Which of their views.
            backbone: From views to features, `hf_ela.models.networks.head_of`.
            mirrored: Exchange left and right in every second view of an image.
        """
        self.facts = split.store.facts
        folder = _folder(split, view_set, backbone, mirrored)
        self._shards: list[np.ndarray] = []
        self._places: dict[int, tuple[int, int]] = {}
        rows = progress_bar(split.rows.tolist(), "Features", total=len(split))
        for number, shard in enumerate(batched(rows, SHARD_IMAGES)):
            path = folder / f"{number:05d}.npy"
            if not path.exists():
                views = np.stack([split.store.views(view_set, row) for row in shard])
                with whole_file(path) as temporary, temporary.open("wb") as file:
                    np.save(file, _features(views, backbone, mirrored))
                split.store.release()
            self._shards.append(np.load(path, mmap_mode="r"))
            self._places |= {row: (number, place) for place, row in enumerate(shard)}

    def views(self, view_set: ViewSet, row: int) -> np.ndarray:
        """Return the features of an image: float16, views x features."""
        shard, place = self._places[row]
        return self._shards[shard][place]

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and variance of each feature over all views: float64."""
        sums = np.zeros((2, self._shards[0].shape[-1]))
        for shard in self._shards:
            flat = np.asarray(shard, np.float64).reshape(-1, shard.shape[-1])
            sums += flat.sum(axis=0), np.square(flat).sum(axis=0)
        mean, square = sums / sum(shard.shape[0] * shard.shape[1] for shard in self._shards)
        return mean, np.maximum(square - mean**2, 0)

    def release(self) -> None:
        """Keep everything: features take a hundredth of the memory of views."""


def _features(views: np.ndarray, backbone: keras.Model, mirrored: bool) -> np.ndarray:
    """Return float16, images x views x features."""
    if mirrored:
        views[:, 1::2] = views[:, 1::2, :, ::-1]
    flat = views.reshape(-1, *views.shape[2:])
    steps = [backbone.predict_on_batch(flat[at : at + STEP]) for at in range(0, len(flat), STEP)]
    return np.concatenate(steps).reshape(*views.shape[:2], -1).astype(np.float16)


def _folder(split: Split, view_set: ViewSet, backbone: keras.Model, mirrored: bool) -> Path:
    """Return the folder of exactly these features; it is made."""
    first = split.store.files[0]
    key = sha256(repr((list(map(str, split.store.files)), view_set, mirrored)).encode())
    key.update(np.ascontiguousarray(split.rows).tobytes())
    for weights in backbone.get_weights():
        key.update(np.ascontiguousarray(weights).tobytes())
    folder = first.parent / f"features-{key.hexdigest()[:16]}"
    folder.mkdir(exist_ok=True)
    return folder
