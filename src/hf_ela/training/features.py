"""Features of a frozen backbone: computed once per view of a split, and kept beside its store.

Training the layers behind the backbone then costs seconds an epoch. The features are written in
shards, each whole or absent, so that an interruption loses at most one. Those of error levels and
of pixels lie apart: a recipe with only one of them finds its own.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import numpy as np

from hf_ela._files import held_alone, sweep, whole_file
from hf_ela._terminal import progress_bar
from hf_ela._threads import batched
from hf_ela.backend import has_gpu, keras
from hf_ela.data.preparation import Split
from hf_ela.data.rows import ViewSet
from hf_ela.models.onnx_conversion import converted
from hf_ela.models.onnx_runtime import onnx_session
from hf_ela.recipes.schema import Preprocessing

FEATURES_VERSION = 4
"""Raised whenever the features of the same weights change."""
SHARD_IMAGES = 64
"""Images per shard, as in the stores."""
STEP = 32
"""Views per step of the backbone: more of them are not faster on a CPU."""
MANY = 2048
"""Views from which on converting the backbone to ONNX takes less time than it saves."""


@dataclass(frozen=True)
class FeatureSplit(Split):
    """The images of a split, with features in place of views.

    Attributes:
        shards: Features of consecutive images: float16, images x views x features.
        places: Shard of each row of the store, and the place in it.
    """

    shards: list[np.ndarray]
    places: dict[int, tuple[int, int]]

    def views_of(self, view_set: ViewSet, row: int, chosen: slice = slice(None)) -> np.ndarray:
        """Return the features of the image in a row of the store: float32, views x features."""
        shard, place = self.places[row]
        return np.asarray(self.shards[shard][place][chosen], np.float32)

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and variance of each feature over all views of the images: float64."""
        sums = np.zeros((2, self.shards[0].shape[-1]))
        views = 0
        for row in self.rows.tolist():
            features = self.views_of("augmented", row).astype(np.float64)
            sums += features.sum(axis=0), np.square(features).sum(axis=0)
            views += len(features)
        mean, square = sums / views
        return mean, np.maximum(square - mean**2, 0)


def in_features(
    split: Split, view_set: ViewSet, backbone: keras.Model, *, mirrored: bool
) -> FeatureSplit:
    """Compute the features of a split, or find them.

    Args:
        split: The images.
        view_set: Which of their views.
        backbone: From three channels to features, of `hf_ela.models.networks.head_of`.
        mirrored: Exchange left and right in every second view of an image.
    """
    shows = _streams(split.store.settings.preprocessing)
    folders = [_folder(split, view_set, backbone, mirrored, what) for what in shows]
    shards: list[np.ndarray] = []
    places: dict[int, tuple[int, int]] = {}
    views_of_one = len(split.views_of(view_set, int(split.rows[0])))
    describe = lru_cache(_describing)  # once, and only if features are missing
    with ExitStack() as held:
        for folder in folders:
            held.enter_context(held_alone(folder, wait=True))
            sweep(folder)
        rows = progress_bar(split.rows.tolist(), "Features", total=len(split))
        for number, shard in enumerate(batched(rows, SHARD_IMAGES)):
            paths = [folder / f"{number:05d}.npy" for folder in folders]
            # A file may also have been emptied by a power loss.
            missing = [
                n for n, path in enumerate(paths) if not path.exists() or not path.stat().st_size
            ]
            if missing:
                views = np.stack([split.views_of(view_set, row) for row in shard])
                if mirrored:
                    views[:, 1::2] = views[:, 1::2, :, ::-1]
                for n in missing:
                    with whole_file(paths[n]) as temporary, temporary.open("wb") as file:
                        how = describe(backbone, len(split) * views_of_one * len(shows))
                        np.save(file, _features(views[..., 3 * n : 3 * n + 3], how))
                split.store.release()
            shards.append(np.concatenate([np.load(path) for path in paths], axis=-1))
            places |= {row: (number, place) for place, row in enumerate(shard)}
    return FeatureSplit(split.store, split.rows, shards, places)


def _streams(how: Preprocessing) -> list[str]:
    """Return what each three channels of a view show."""
    levels = [f"{quality} {how.ela.settings}" for quality in how.ela.qualities] if how.ela else []
    return levels + ["pixels"] * (how.ela is None or how.ela.with_pixels)


def _describing(backbone: keras.Model, views: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return what computes features: Keras, or for many views on a CPU, ONNX Runtime.

    There it takes less than half of TensorFlow's time.
    """
    if views < MANY or has_gpu():
        return backbone.predict_on_batch  # type: ignore[no-any-return]  # Keras has no types
    session = onnx_session(converted(backbone))
    (given,) = session.get_inputs()
    return lambda batch: np.asarray(session.run(None, {given.name: batch})[0])


def _features(views: np.ndarray, describe: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return float16, images x views x features."""
    flat = views.reshape(-1, *views.shape[2:])
    steps = [describe(flat[at : at + STEP].astype(np.float32)) for at in range(0, len(flat), STEP)]
    features = np.concatenate(steps).reshape(*views.shape[:2], -1)
    return np.asarray(features, np.float16)


def _folder(
    split: Split, view_set: ViewSet, backbone: keras.Model, mirrored: bool, shows: str
) -> Path:
    """Return the folder of exactly these features; it is made."""
    first = split.store.files[0]
    what = (list(map(str, split.store.files)), view_set, mirrored, shows)
    how = (FEATURES_VERSION, keras.backend.backend(), backbone.compute_dtype, backbone.output_shape)
    key = sha256(repr((what, how)).encode())
    key.update(np.ascontiguousarray(split.rows).tobytes())
    for weights in backbone.get_weights():
        key.update(np.ascontiguousarray(weights).tobytes())
    folder = first.parent / f"features-{key.hexdigest()[:16]}"
    folder.mkdir(exist_ok=True)
    return folder
