"""One image as a row of a store: file facts, a perceptual hash, and its view sets.

A view set is a list of views, each a lossless WebP: those that evaluation sees (`as_is`, `aligned`)
or training (`augmented`), or those that the device augments (`sources`). They hold the ELA of the
recipe, or the pixels that it starts from, where it is computed when a view is read. `pixels` are
the views of the training protocol without it.

For the leak audit a row can have statistics in place of views: `statistics_by_condition`, float32.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from io import BytesIO
from pathlib import PurePath
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from PIL import Image

from hf_ela.data.duplicates import perceptual_hash
from hf_ela.ela.augmentation import source_views, training_pixels
from hf_ela.ela.error_level import brightened, error_level
from hf_ela.ela.statistics import statistics_by_condition
from hf_ela.ela.views import align, evaluation_pixels, network_inputs, pixel_versions
from hf_ela.errors import ImageError, LabelError
from hf_ela.hub.datasets import read_image
from hf_ela.images.containers import memory_errors
from hf_ela.images.loading import LoadedImage, load_image
from hf_ela.recipes.schema import Preprocessing, Protocol

StoredSet = Literal["augmented", "sources"] | Protocol
ViewSet = Literal["pixels"] | StoredSet
PIXEL_SETS = ("sources", "pixels")
"""View sets that are read without ELA."""

FACT_COLUMNS = {
    "file_name": pa.string(),
    "label": pa.int8(),  # 1 fake, 0 real
    "key": pa.string(),  # SHA-256 of the file's bytes
    "perceptual_hash": pa.int64(),
    "format": pa.string(),
    "mode": pa.string(),
    "width": pa.int32(),
    "height": pa.int32(),
    "bytes": pa.int64(),
    "jpeg_quality": pa.int16(),
    "subsampling": pa.string(),
    "exif": pa.bool_(),
    "icc": pa.bool_(),
    "mean_error_level": pa.float32(),  # of all pixels and channels, RGB, quality 90
    "error": pa.string(),  # why the image was refused; the views are then null
}
PICTURES = ("thumbnail", "ela", "aligned_png")
"""Optional columns: JPEGs for the sheets of a run, and the image as `align` leaves it, for later
measurements, when a stream has passed."""
THUMBNAIL_SIDE = 256


@dataclass(frozen=True)
class RowSettings:
    """Everything that a row depends on besides the file: the key of a cache."""

    preprocessing: Preprocessing
    view_sets: tuple[StoredSet, ...]
    labels: Mapping[str, str]  # the values of the label column, as text, to `fake` or `real`
    split: str
    root: str  # the dataset's folder or commit, where file names begin
    pictures: bool
    statistics: bool = False
    ela: bool = False  # whether views hold it

    def to_json(self) -> str:
        """Return a text that differs whenever a row could; without ELA where rows have none."""
        preprocessing = self.preprocessing
        if not self.ela:
            preprocessing = preprocessing.model_copy(update={"ela": None})
        values = {
            **vars(self),
            "preprocessing": preprocessing.model_dump(),
            "pictures": self.pictures and PICTURES,
            "versions": pixel_versions(),
        }
        return json.dumps(values, sort_keys=True)

    @staticmethod
    @lru_cache(maxsize=8)
    def from_json(text: str) -> "RowSettings":
        """Invert `to_json`."""
        values = json.loads(text)
        del values["versions"]
        return RowSettings(
            preprocessing=Preprocessing.model_validate(values.pop("preprocessing")),
            view_sets=tuple(values.pop("view_sets")),
            pictures=bool(values.pop("pictures")),
            **values,
        )

    def column(self, view_set: ViewSet) -> str:
        """Return the column that holds a view set."""
        return f"views_{self.preprocessing.input.training if view_set == 'pixels' else view_set}"

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of a row."""
        views = {f"views_{name}": pa.list_(pa.binary()) for name in self.view_sets}
        binary = [*PICTURES] if self.pictures else []
        binary += ["statistics"] if self.statistics else []
        return pa.schema({**FACT_COLUMNS, **views, **dict.fromkeys(binary, pa.binary())})


def compute_row(
    image: Mapping[str, Any] | None, label: int | str, index: int, *, settings: str
) -> dict[str, Any]:
    """Return one row of a store.

    `datasets` fingerprints a function of an installed package by its name alone, so everything that
    a result depends on, versions included, is an argument.

    Args:
        image: Undecoded image, ``{"bytes", "path"}``; an empty cell is refused.
        label: Class index or name: a key of the settings' `labels`.
        index: Number of the row in its split.
        settings: `RowSettings.to_json`.
    """
    how = RowSettings.from_json(settings)
    name, named = name_and_label(image, label, index, how.split, how.root, how.labels)
    row: dict[str, Any] = dict.fromkeys(how.schema.names) | {
        "file_name": name,
        "label": int(named == "fake"),
    }
    try:
        content = read_image(image)
        key = sha256(content).hexdigest()
        row |= {"key": key, "bytes": len(content)}
        with memory_errors(name):
            return row | _content(load_image(content, name=name), how, key)
    except ImageError as error:
        return row | {"error": f"{type(error).__name__}: {error.reason}"}


def _content(loaded: LoadedImage, how: RowSettings, key: str) -> dict[str, Any]:
    """Return the columns of a row that are computed from its pixels."""
    facts = ("format", "mode", "width", "height", "jpeg_quality", "subsampling", "exif", "icc")
    row: dict[str, Any] = {fact: getattr(loaded.info, fact) for fact in facts}
    row["perceptual_hash"] = perceptual_hash(loaded.pixels)
    levels = error_level(loaded.pixels)
    row["mean_error_level"] = float(levels.mean())
    for view_set in how.view_sets:
        views = _pixels(loaded.pixels, how.preprocessing, view_set, key)
        if how.ela and view_set not in PIXEL_SETS:
            views = network_inputs(views, how.preprocessing)
        row[f"views_{view_set}"] = [packed(view) for view in views]
    if how.pictures:
        row |= {
            "thumbnail": _thumbnail(loaded.pixels),
            "ela": _thumbnail(Image.fromarray(brightened(levels))),
            "aligned_png": _encoded(align(loaded.pixels, key), "PNG", compress_level=1),
        }
    if how.statistics:
        row["statistics"] = statistics_by_condition(loaded.pixels, key).tobytes()
    return row


def name_and_label(
    image: Mapping[str, Any] | None,
    label: int | str,
    index: int,
    split: str,
    root: str,
    labels: Mapping[str, str],
) -> tuple[str, str]:
    """Return the name of a row's image, and `fake` or `real`.

    The arguments are those of `compute_row` and the fields of `RowSettings`.

    Raises:
        LabelError: The label is not one of the dataset's.
    """
    name = file_name(image, root) or f"{split}/{index:06d}"
    if str(label) not in labels:
        found = "no label" if label is None else label
        raise LabelError(
            f"A label must be one of {', '.join(sorted(labels))}. Received: {found} for {name}. "
            "Fix the dataset, or map its labels with `label_map`, such as 0=fake,1=real."
        )
    return name, labels[str(label)]


def _pixels(
    image: Image.Image, preprocessing: Preprocessing, view_set: StoredSet, key: str
) -> np.ndarray:
    match view_set:
        case "augmented":
            return training_pixels(image, preprocessing, key)
        case "sources":
            return source_views(image, preprocessing, key)
        case protocol:
            return evaluation_pixels(image, preprocessing, protocol, key)


def packed(view: np.ndarray) -> bytes:
    """Return a square view, uint8, as a lossless WebP: two fifths of its size, for art.

    Every three channels become one picture; the pictures lie side by side. Method and quality, here
    those that take least time, are effort.
    """
    pictures = np.hstack(np.split(view, view.shape[2] // 3, axis=2))
    return _encoded(Image.fromarray(pictures), "WEBP", lossless=True, method=0, quality=0)


def unpacked(content: bytes) -> np.ndarray:
    """Invert `packed`."""
    pictures = np.asarray(Image.open(BytesIO(content), formats=["WEBP"]))
    height, width, _ = pictures.shape
    if width == height:
        return pictures
    return np.dstack(np.hsplit(pictures, width // height))


def _thumbnail(image: Image.Image) -> bytes:
    small = image.copy()
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    return _encoded(small, "JPEG", quality=90)


def _encoded(image: Image.Image, kind: str, **how: int) -> bytes:
    file = BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


def hash_row(
    image: Mapping[str, Any] | None, index: int, *, root: str, versions: Mapping[str, str]
) -> dict[str, Any]:
    """Return file name, key and perceptual hash, for splits that are made before any ELA.

    An image that will be refused has its row number as key, and an uninformative hash. `versions`
    only keys the cache of `datasets`, as `settings` does in `compute_row`.
    """
    name = file_name(image, root) or f"{index:06d}"
    try:
        content = read_image(image)
        with memory_errors(name):
            key, value = sha256(content).hexdigest(), perceptual_hash(load_image(content).pixels)
    except ImageError:
        key, value = str(index), 0
    return {"file_name": name, "key": key, "perceptual_hash": value}


def file_name(image: Mapping[str, Any] | None, root: str) -> str | None:
    """Return the path inside the dataset: the part after its folder, or its commit on the Hub."""
    path = str((image and image["path"]) or "")
    if not path:
        return None
    _, found, inside = path.partition(root)
    if not found:  # a path of another machine, whose folders mean nothing here
        return PurePath(path).name if PurePath(path).is_absolute() else path
    return inside.replace(os.sep, "/").lstrip("/")
