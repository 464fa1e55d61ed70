"""What a file of weights may be before Keras reads it: numbers in one HDF5 file, and no more.

HDF5 can point at other files (external links, external storage, virtual datasets) and can promise
more numbers than it stores. Keras writes none of that, so all of it is refused.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hf_ela.errors import ModelError
from hf_ela.models.settings import INPUT, OUTPUT, VIEWS
from hf_ela.recipes.schema import Recipe

__all__ = ["check_onnx", "check_weights", "from_views", "largest_weights"]

DEPTH, ENTRIES = 8, 50_000
"""Groups within groups, and groups and arrays: Keras needs 4, and some 2,000 for our deepest."""


def largest_weights(recipe: Recipe) -> int:
    """Return a size in bytes above which a file holds more than the weights of a recipe."""
    return 8 * recipe.weights + 2**23


def check_weights(path: Path, recipe: Recipe) -> None:
    """Refuse a file that is more than the float32 and integer arrays of the recipe's network.

    Raises:
        ModelError: It is no HDF5, reaches out of itself, or is too large.
    """
    limit = largest_weights(recipe)
    try:
        import h5py  # comes with Keras

        declared = 0
        with h5py.File(path, "r") as file:
            for number, (name, item) in enumerate(_entries(file)):
                if number >= ENTRIES:
                    raise ValueError(f"more than {ENTRIES:,} entries")
                if isinstance(item, h5py.Dataset):
                    declared += _bytes(name, item)
                    if declared > limit:
                        raise ValueError(
                            f"arrays of more than {limit:,} bytes, where this network has "
                            f"{4 * recipe.weights:,}"
                        )
    # h5py has no error of its own: a broken file gives any of these.
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            "The weights must fit the network of the recipe, in an HDF5 file as Keras writes it. "
            f"Received: {path}: {error}. It is damaged or made to do harm: do not use it."
        ) from error


def _entries(group: Any, depth: int = DEPTH) -> Iterator[tuple[str, Any]]:
    """Yield all below a group; a link that is not followed cannot lead anywhere."""
    import h5py

    if depth == 0:
        raise ValueError(f"groups nested deeper than {DEPTH}")
    for name in group:
        link = group.get(name, getlink=True)
        place = f"{group.name}/{name}".replace("//", "/")
        if not isinstance(link, h5py.HardLink):
            raise ValueError(f"{place} is a link ({type(link).__name__})")
        item = group[name]
        yield place, item
        if isinstance(item, h5py.Group):
            yield from _entries(item, depth - 1)
        elif not isinstance(item, h5py.Dataset):
            raise ValueError(f"{place} is a {type(item).__name__}")


def _bytes(place: str, array: Any) -> int:
    """Return how much memory an array takes."""
    if array.external or array.is_virtual:
        raise ValueError(f"{place} has its numbers in another file")
    if array.chunks is not None:  # also what is compressed, or could grow
        raise ValueError(f"{place} is stored in chunks")
    if array.dtype.kind not in "fiu" or array.shape is None:
        raise ValueError(f"{place} holds {array.dtype}, not numbers")
    return math.prod(map(int, array.shape)) * int(array.dtype.itemsize)


# Messages by the numbers of the fields that are looked into, and what refuses the file.
_INSIDE = {
    "model": {7: "graph"},
    "graph": {1: "node", 5: "tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 10: "tensor"},
    "tensor": {},
}
_REFUSED = {
    "model": {20: "training", 25: "functions"},
    "graph": {15: "sparse numbers"},
    "attribute": {6: "a graph within a node", 11: "graphs within a node", 22: "sparse numbers"}
    | {23: "sparse numbers"},
    "tensor": {13: "numbers in another file"},
}
_TEXT = 8  # TensorProto.STRING: texts lie outside of the memory that can be limited
_REFUSED_VALUES = {
    ("tensor", 2, _TEXT): "texts",
    ("attribute", 1, b"value_string"): "texts",
    ("attribute", 1, b"value_strings"): "texts",
}
_TO_TEXT = {(1, b"to"), (3, _TEXT)}  # name and value of an attribute of Cast
_FIELDS = 200_000
"""In a file: an export has a tenth of it. Memory and time of reading one grow with them."""
_OPERATORS = frozenset(
    b"Add AveragePool Cast Concat Constant ConstantOfShape Conv Equal Expand Gather Identity "
    b"MatMul MaxPool Mul ReduceMean Relu Reshape Shape Slice Softmax Sub Tile Transpose Unsqueeze "
    b"Where".split()
)
"""Of the networks of `hf_ela.models.networks`, as the exporters of TensorFlow and torch write
them."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_GRAPH, _NODE, _INPUT = 7, 1, 11
_TAKEN, _GIVEN, _OPERATOR, _DOMAIN = 1, 2, 4, 7  # of a node
_LOCATION = 14  # of a tensor


def check_onnx(data: bytes, recipe: Recipe) -> None:
    """Refuse a file that is more than a graph of standard operators, of the size of the recipe's.

    Raises:
        ModelError: It is no ONNX, reaches out of itself, or is too large.
    """
    limit = largest_weights(recipe)
    try:
        if len(data) > limit:
            raise ValueError(f"it has {len(data):,} bytes, where at most {limit:,} are read")
        _check(memoryview(data), "model")
    except ValueError as error:
        raise ModelError(
            "An ONNX file of hf-ela holds one graph of standard operators, with its numbers. "
            f"Received: another file; {error}. It is damaged or made to do harm: do not use it."
        ) from error


def from_views(data: bytes, recipe: Recipe) -> bytes:
    """Return a file that `check_onnx` passed without what makes views of pixels: ELA.

    Raises:
        ModelError: It is of another recipe, has no views, or operators of no network of ours.
    """
    model = list(_fields(memoryview(data)))
    graphs = [value for number, value, _ in model if number == _GRAPH]
    if len(graphs) != 1 or isinstance(graph := graphs[0], int):
        raise ModelError(
            f"An ONNX file of hf-ela holds one graph. Received: {len(graphs)} of them. It is "
            "damaged: copy or download the folder again."
        )
    side = recipe.pixel_side
    if [*_parts(graph, _INPUT)] != [_uint8(INPUT, (side, side, 3))]:
        raise ModelError(
            f"The ONNX file of this recipe takes {INPUT}: uint8, N x {side} x {side} x 3. "
            "Received: another input. It is of another model: copy or download the folder again."
        )
    network = _field(_GRAPH, _graph_from_views(graph, recipe.input_shape))
    return b"".join(network if number == _GRAPH else bytes(raw) for number, _, raw in model)


def _graph_from_views(graph: memoryview, shape: Sequence[int]) -> bytes:
    needed, kept = {OUTPUT.encode()}, [_field(_INPUT, _uint8(VIEWS, shape))]
    entered = False
    for number, value, raw in reversed(list(_fields(graph))):  # nodes come after what they need
        if number == _NODE and not isinstance(value, int):
            given = {*_parts(value, _GIVEN)}
            if VIEWS.encode() in given:
                entered = True
                continue
            if needed.isdisjoint(given):
                continue
            if unknown := {*_parts(value, _OPERATOR)} - _OPERATORS:
                raise ModelError(
                    "The network of an ONNX file has operators of hf-ela's own networks. Received: "
                    f"{min(unknown)!r:.100}. It is of another model: do not use it."
                )
            needed.update(_parts(value, _TAKEN))
        if number != _INPUT:
            kept.append(bytes(raw))
    if not entered:
        raise ModelError(
            f"An ONNX file of hf-ela names {VIEWS!r}, what its network takes. Received: one "
            "without, of an older version. Take runtime='keras', and save the model again."
        )
    return b"".join(reversed(kept))


def _check(message: memoryview, kind: str) -> int:
    """Return how many fields there are, those of all messages within counted."""
    inside, refused, count = _INSIDE[kind], _REFUSED.get(kind, {}), 0
    cast = set()
    for number, value, _ in _fields(message):
        # Of a longer number, readers take the lower 32 bits where 32 are all that a field has.
        plain = value & 0xFFFFFFFF if isinstance(value, int) else value[:16].tobytes()
        if reason := refused.get(number) or _REFUSED_VALUES.get((kind, number, plain)):
            raise ValueError(f"it has {reason}")
        if kind == "tensor" and number == _LOCATION and value != 0:
            raise ValueError("it has numbers in another file")
        if kind == "attribute" and (number, plain) in _TO_TEXT:
            cast.add(number)
        if number in inside or (kind == "node" and number == _DOMAIN):
            if isinstance(value, int):
                raise ValueError("it is not laid out as ONNX")
            if number in inside:
                count += _check(value, inside[number])
            elif plain not in (b"", b"ai.onnx"):
                raise ValueError("it has operators that are not of the standard")
        count += 1
        if count > _FIELDS:
            raise ValueError(f"it has more than {_FIELDS:,} fields")
    if len(cast) == len(_TO_TEXT):
        raise ValueError("it has texts")
    return count


def _parts(message: memoryview, number: int) -> Iterator[bytes]:
    """Yield the contents of each field of a number."""
    for found, value, _ in _fields(message):
        if found == number and not isinstance(value, int):
            yield value.tobytes()


def _uint8(name: str, shape: Sequence[int]) -> bytes:
    """Return a ValueInfoProto: uint8, any number times `shape`."""
    sides = [_field(2, b"N"), *(_key(1, _VARINT) + _coded(length) for length in shape)]
    tensor = _key(1, _VARINT) + _coded(2) + _field(2, b"".join(_field(1, side) for side in sides))
    return _field(1, name.encode()) + _field(2, _field(1, tensor))


def _field(number: int, value: bytes) -> bytes:
    return _key(number, _BYTES) + _coded(len(value)) + value


def _key(number: int, wire: int) -> bytes:
    return _coded(number << 3 | wire)


def _coded(value: int) -> bytes:
    """Return a number as `_varint` reads it."""
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int, memoryview]]:
    """Yield number, value and all bytes of each field; the value is left out of a fixed length."""
    at = 0
    while at < len(message):
        start = at
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        if key >= 1 << 32 or not number:  # other readers take the lower half for a number
            raise ValueError("it is no protobuf")
        value: memoryview | int = 0
        if wire == _VARINT:
            value, at = _varint(message, at)
        elif wire == _BYTES:
            length, at = _varint(message, at)
            value, at = message[at : at + length], at + length
        elif wire in (_FIXED64, _FIXED32):
            at += 8 if wire == _FIXED64 else 4
        else:
            raise ValueError("it is no protobuf")
        if at > len(message):
            raise ValueError("it ends too soon")
        yield number, value, message[start:at]


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """Return a number of 7 bits a byte, lowest first, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise ValueError("it ends too soon")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("it is no protobuf")
