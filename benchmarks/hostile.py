"""Hostile and damaged files and model folders, for campaign.py."""

import os
import pickle
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from io import BytesIO
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from common import HERE
from PIL import Image

import bad_models
from bad_files import encode, plain_files, slow_files, with_jpeg_size, write_bad_files

Damage = Callable[[Path], object]

PICTURES = sorted((HERE.parent / "tests" / "data").glob("*-*.*"))
SIDE = 160
"""Longest side of the pictures that are damaged: files of all formats, in little time."""
LARGEST = 2**23
"""Bytes of a damaged file at most."""

# ---------------------------------------------------------------------------------- damaged files


def whole_files() -> list[bytes]:
    """Return the real pictures in every format and layout that Pillow writes and we read."""
    found = []
    for number, path in enumerate(PICTURES):
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        image.thumbnail((SIDE, SIDE))
        found += plain_files(image).values()
        found += [
            encode(image, kind, save_all=True, append_images=[image.rotate(90), image.rotate(180)])
            for kind in ("MPO", "GIF", "PNG", "WEBP", "TIFF")
        ]
        found += [
            encode(image, "JPEG", subsampling=0, restart_marker_blocks=4, exif=b"Exif\0\0MM\0*"),
            encode(image.convert(("L", "CMYK")[number % 2]), "JPEG"),
            encode(image.quantize(200), "PNG", transparency=3, bits=8),
            encode(image.convert("RGBA"), "WEBP", lossless=True),
            encode(image, "TIFF", compression=("jpeg", "tiff_adobe_deflate")[number % 2]),
            encode(image.convert("1"), "TIFF", compression="group4"),
        ]
        found.append(path.read_bytes())
    return found


PARTS = re.compile(
    rb"(?s)\xff[\xc0-\xcf\xd8-\xfe]"  # JPEG
    rb"|....(?:IHDR|PLTE|tRNS|IDAT|IEND|acTL|fcTL|fdAT)"  # PNG
    rb"|....(?:ftyp|meta|iloc|iinf|infe|iprp|ipco|ipma|mdat|moov|jp2h|ihdr|jp2c)"  # AVIF, JPEG 2000
    rb"|(?:VP8[ LX]|ALPH|ANIM|ANMF|EXIF|ICCP)....|!\xf9"  # WebP, GIF
)
"""How the parts of a file begin."""
EXTREMES = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)


def _parts(data: bytes) -> list[bytes]:
    cuts = [0, *(found.start() for found in PARTS.finditer(data)), len(data)]
    return [data[start:end] for start, end in pairwise(cuts)]


def _place(rng: np.random.Generator, data: bytes) -> int:
    """Draw a place, half of the time near the beginning, where the headers are."""
    return int(rng.integers(0, min(len(data), rng.choice([300, LARGEST])) or 1))


def cut(rng: np.random.Generator, data: bytes, other: bytes) -> bytes:
    """Leave out the end."""
    return data[: _place(rng, data)]


def bits(rng: np.random.Generator, data: bytes, other: bytes) -> bytes:
    """Turn some bits over."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 4, 40])):
        changed[_place(rng, data)] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def numbers(rng: np.random.Generator, data: bytes, other: bytes) -> bytes:
    """Put extreme numbers in the place of lengths, offsets, counts, dimensions."""
    for _ in range(rng.choice([1, 3])):
        at, size = _place(rng, data), int(rng.choice([1, 2, 4]))
        number = int(rng.choice(EXTREMES)) & 256**size - 1
        order = ("big", "little")[int(rng.integers(2))]
        data = data[:at] + number.to_bytes(size, order) + data[at + size :]
    return data


def dimensions(rng: np.random.Generator, data: bytes, other: bytes) -> bytes:
    """Declare other sides than the picture's, wherever they are written."""
    for side in sorted(set(re.findall(rb"\d+", b"%d %d" % _size(data)))):
        new = int(rng.choice([1, 3, 9000, 16_383, 65_000, 65_535]))
        for order, size in (("big", 4), ("little", 4), ("big", 2), ("little", 2)):
            for less in (0, 1):  # WebP counts from 0
                old = max(int(side) - less, 0).to_bytes(size, order)
                data = data[:600].replace(old, (new - less).to_bytes(size, order)) + data[600:]
    return data


def _size(data: bytes) -> tuple[int, int]:
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(BytesIO(data)) as opened:
            return opened.size
    except Exception:  # an earlier damage: decoders raise any kind
        return SIDE, SIDE


def splice(rng: np.random.Generator, data: bytes, other: bytes) -> bytes:
    """Continue with the parts of another file, of the same format or not."""
    mine, theirs = _parts(data), _parts(other)
    kept = mine[: rng.integers(1, len(mine) + 1)] + theirs[rng.integers(len(theirs)) :]
    return b"".join(kept)


def repeat(rng: np.random.Generator, data: bytes, other: bytes) -> bytes:
    """Repeat a part, up to thousands of times: chunks, scans, frames, boxes."""
    parts = _parts(data)
    at = int(rng.integers(len(parts)))
    times = min(int(rng.choice([2, 50, 20_000])), 1 + LARGEST // (len(parts[at]) + 1))
    return b"".join([*parts[:at], parts[at] * times, *parts[at + 1 :]])


def reorder(rng: np.random.Generator, data: bytes, other: bytes) -> bytes:
    """Leave out some parts, and exchange others."""
    parts = _parts(data)
    chosen = rng.permutation(len(parts)) if rng.integers(2) else np.arange(len(parts))
    return b"".join(parts[number] for number in chosen if rng.random() < 0.9)


def insert(rng: np.random.Generator, data: bytes, other: bytes) -> bytes:
    """Put noise or one byte, many times, between two bytes or over what is there."""
    at, size = _place(rng, data), int(rng.choice([1, 100, 70_000]))
    noise = rng.bytes(size) if rng.integers(2) else rng.bytes(1) * size
    return data[:at] + noise + data[at + int(rng.choice([0, size])) :]


DAMAGES = (cut, bits, numbers, dimensions, splice, repeat, reorder, insert)


def damaged_files(seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield damaged files without an end, each with the names of its one to three damages."""
    whole = whole_files()
    for number in count():
        rng = np.random.default_rng([seed, number])
        data, names = whole[number % len(whole)], []
        for _ in range(rng.choice([1, 1, 2, 3])):
            damage = DAMAGES[rng.integers(len(DAMAGES))]
            data = damage(rng, data or b"\0", whole[rng.integers(len(whole))])[:LARGEST]
            names.append(damage.__name__)
        yield " ".join(names), data


def largest_files() -> Iterator[tuple[str, bytes]]:
    """Yield small files that are as large as is allowed when they are decoded."""
    for mode, kind in (("1", "PNG"), ("RGBA", "PNG"), ("L", "GIF"), ("RGB", "JPEG")):
        image = Image.new(mode, (9459, 9459))
        more = {"progressive": True} if kind == "JPEG" else {"compress_level": 1}
        yield f"9459 x 9459, {mode}, {kind}", encode(image, kind, **more)
    yield "65500 x 1366", encode(Image.new("L", (65_500, 1366)), "PNG")
    yield "9459 x 9459, declared", with_jpeg_size(plain_files()["jpg"], 9459, 9459)


def hostile_files(folder: Path) -> Iterator[tuple[str, bytes | Path]]:
    """Yield the files that the tests know, and those that decode to the largest pictures."""
    yield from slow_files().items()
    yield from ((file.path.name, file.path) for file in write_bad_files(folder))
    yield from largest_files()


# ------------------------------------------------------------------------------- hostile folders


class Payload:
    """Unpickled, it makes a folder: the sign that code has run."""

    def __init__(self, sign: Path) -> None:
        """Name the folder."""
        self.sign = sign

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        """Make a folder."""
        return os.mkdir, (str(self.sign),)


def _with_code(sign: Path) -> Iterator[tuple[str, Damage]]:
    """Yield damages that put code, which would leave a sign, where something could run it."""
    code = f"import os\nos.mkdir({str(sign)!r})\n".encode()
    pickled = pickle.dumps(Payload(sign))
    for name in ("__init__.py", "hf_ela.py", "handler.py", "keras.py", "conftest.py", "setup.py"):
        yield f"code as {name}", lambda folder, name=name: (folder / name).write_bytes(code)
    for name in ("model.weights.h5", "network.onnx", "hf_ela.json", "config.json"):
        yield f"a pickle as {name}", bad_models.write(name, pickled)
    for name in ("model.weights.h5", "network.onnx"):
        yield f"a pickle as {name}, with its checksum", bad_models.replace(name, pickled)
        yield f"code as {name}, with its checksum", bad_models.replace(name, code)
    for name in ("model.pkl", "pytorch_model.bin", "model.keras", "custom_objects.pkl"):
        yield f"a pickle as {name}", lambda folder, name=name: (folder / name).write_bytes(pickled)
    from hf_ela.backend import keras  # only here: files need no Keras

    lambda_of_keras = keras.layers.Lambda(
        lambda x, sign=str(sign): os.mkdir(sign) or x  # noqa: PTH102  (pickled without a Path)
    )
    network = keras.Sequential([keras.Input((1,)), lambda_of_keras])
    sign.rmdir()  # it is run when it is made, too
    yield "a lambda of Keras", bad_models.write("config.json", network.to_json().encode())


def _in_place_of(name: str, make: Callable[[Path], object]) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return damage


def _with_weights(edit: Callable[[h5py.File, Path], object]) -> Damage:
    def damage(folder: Path) -> None:
        copy = folder.parent / f"{folder.name}.h5"
        shutil.copy(folder / "model.weights.h5", copy)
        with h5py.File(copy, "r+") as file:
            edit(file, folder)
        bad_models.replace("model.weights.h5", copy.read_bytes())(folder)

    return damage


def _with_numbers(*nodes: tuple[str, list[str], str]) -> Callable[[Any], object]:
    def edit(model: Any) -> None:
        number = np.array([2**31 - 1])
        model.graph.initializer.append(bad_models.numpy_helper.from_array(number, "many"))
        bad_models.put_before_the_end(model, *nodes)

    return edit


def hostile_folders(sign: Path, seed: int) -> Iterator[tuple[str, Damage]]:
    """Yield what makes a saved model of `bad_models.RECIPE` hostile, each with its name.

    Args:
        sign: What code in a folder would make if it ran.
        seed: Draws the damages of single files that follow, without an end.
    """
    yield from _with_code(sign)
    for name in ("hf_ela.json", "model.weights.h5", "network.onnx"):
        for place in ("/dev/zero", "/etc/passwd", "/proc/self/environ", "gone", name):
            link = _in_place_of(name, lambda path, place=place: path.symlink_to(place))
            yield f"{name} is a link to {place}", link
        yield f"{name} is a pipe", _in_place_of(name, os.mkfifo)
        yield f"{name} is a folder", _in_place_of(name, Path.mkdir)
    for damage, said in bad_models.WRONG_SETTINGS + bad_models.WRONG_WEIGHTS:
        if "`quality`" not in said:  # this network has no error levels
            yield f"settings or weights: {said}", damage
    for edit, said in bad_models.MORE_THAN_NUMBERS:
        yield f"HDF5: {said}", _with_weights(edit)
    graphs = [(said, edit) for edit, said in bad_models.REACHING_OUT]
    graphs += [
        ("all memory", _with_numbers(("Expand", ["mean", "many"], "a"), ("Add", ["a", "a"], "b"))),
        ("a large constant", _with_numbers(("ConstantOfShape", ["many"], "a"))),
        ("a tower of tiles", _with_numbers(*(("Tile", ["many", "many"], f"t{i}") for i in "abcd"))),
        ("many operations", _with_numbers(*(("Sqrt", ["mean"], f"s{i}") for i in range(20_000)))),
        ("a large product", _with_numbers(("MatMul", ["mean", "mean"], "a"))),
    ]
    for said, edit in graphs:
        yield f"ONNX: {said}", bad_models.replace("network.onnx", bad_models.edited(edit))
    for number in count():
        rng = np.random.default_rng([seed, number])
        damage = DAMAGES[rng.integers(len(DAMAGES))]
        name = ("hf_ela.json", "model.weights.h5", "network.onnx")[number % 3]

        def damaged(folder: Path, name: str = name, damage=damage, rng=rng) -> None:
            data = damage(rng, (folder / name).read_bytes(), PICTURES[0].read_bytes())
            how = bad_models.write if name == "hf_ela.json" else bad_models.replace
            how(name, data)(folder)

        yield f"{damage.__name__} in {name}", damaged
