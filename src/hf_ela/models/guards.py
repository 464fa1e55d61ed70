"""Guards of saved models: what an HDF5 or ONNX file may hold before a library reads it.

Weights are numbers in one HDF5 file and no more. HDF5 can point at other files (external links,
external storage, virtual datasets) and can declare more numbers than it stores. Keras writes none
of that, so all of it is refused.

An ONNX file holds one graph with its numbers. The format can also point at other files, bring its
own operators, and hold loops and texts that escape a memory limit: all of that is refused.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hf_ela.errors import ModelError
from hf_ela.recipes.schema import Recipe

DEPTH, ENTRIES = 8, 50_000
"""Most nested groups, and most groups and arrays: Keras needs 4, and about 2,000 for our deepest
network."""


def largest_weights(recipe: Recipe) -> int:
    """Return the size in bytes above which a file holds more than the weights of a recipe."""
    return 8 * recipe.weights + 2**23


def check_weights(path: Path, recipe: Recipe) -> None:
    """Refuse a file that is more than the float32 and integer arrays of the recipe's network.

    Raises:
        ModelError: The file is not HDF5, reaches out of itself, or is too large.
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
                            f"about {4 * recipe.weights:,}"
                        )
    # h5py has no error of its own: a broken file gives any of these.
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            "The weights must fit the network of the recipe, in an HDF5 file as Keras writes it. "
            f"Received: {path}: {error}. The file is corrupt or malicious: do not use it."
        ) from error


def _entries(group: Any, depth: int = DEPTH) -> Iterator[tuple[str, Any]]:
    """Yield everything below a group; links are refused before they are followed."""
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
    """Return the memory that an array takes."""
    if array.external or array.is_virtual:
        raise ValueError(f"{place} has its numbers in another file")
    if array.chunks is not None:  # also what is compressed, or could grow
        raise ValueError(f"{place} is stored in chunks")
    if array.dtype.kind not in "fiu" or array.shape is None:
        raise ValueError(f"{place} holds {array.dtype}, not numbers")
    return math.prod(map(int, array.shape)) * int(array.dtype.itemsize)


# Kinds of protobuf messages in an ONNX file (onnx.proto3): the number of each field that is looked
# into, with the kind of message in it, and the number of each field for which a file is refused.
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
"""Most fields in a file: an export has a tenth of it. Reading takes memory and time for each."""
_OPERATORS = frozenset(
    b"Add AveragePool Cast Clip Concat Constant ConstantOfShape Conv Equal Expand Gather Identity "
    b"MatMul Max MaxPool Min Mul Pad ReduceMean Relu Reshape Shape Sigmoid Slice Softmax Sqrt Sub "
    b"Tile Transpose Unsqueeze Where".split()
)
"""Operators in the networks of `hf_ela.models.networks`, as `hf_ela.models.onnx_operations` writes
them, and as the exporters of TensorFlow and torch wrote them before."""
_NODES = 3_000
"""Most operations: our deepest network has 300 from TensorFlow and 1,700 from torch."""
_NO_WORK = frozenset(b"Cast Constant Identity Reshape Transpose Unsqueeze".split())
"""Operators that take about as long as reading their input."""
_PRODUCTS = (b"Conv", b"MatMul")
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_OPERATOR, _DOMAIN = 4, 7  # of a node
_LOCATION = 14  # of a tensor


def check_onnx(data: bytes, recipe: Recipe) -> bool:
    """Refuse a file that is more than a graph of our networks' operators, of the recipe's size.

    Returns:
        Whether ONNX Runtime may compute something when it loads the file: from stored numbers
        alone, or from shapes.

    Raises:
        ModelError: The file is not ONNX, reaches out of itself, holds another operator, or is too
            large.
    """
    limit = largest_weights(recipe)
    try:
        if len(data) > limit:
            raise ValueError(f"it has {len(data):,} bytes, more than the limit of {limit:,}")
        _check(memoryview(data), "model")
        return _check_work(memoryview(data))
    except ValueError as error:
        raise ModelError(
            "The ONNX file must hold one graph of the operators of hf-ela's networks, with its "
            f"numbers, but {error}. The file is corrupt or malicious: do not use it."
        ) from error


def _check(message: memoryview, kind: str) -> int:
    """Return the number of fields, with those of all messages within."""
    inside, refused, count = _INSIDE[kind], _REFUSED.get(kind, {}), 0
    cast = set()
    for number, value in _fields(message):
        # Readers take the lower 32 bits of a longer number where the field has 32.
        plain = value & 0xFFFFFFFF if isinstance(value, int) else value[:40].tobytes()
        if reason := refused.get(number) or _REFUSED_VALUES.get((kind, number, plain)):
            raise ValueError(f"it has {reason}")
        if kind == "tensor" and number == _LOCATION and value != 0:
            raise ValueError("it has numbers in another file")
        if kind == "attribute" and (number, plain) in _TO_TEXT:
            cast.add(number)
        if number in inside or (kind == "node" and number in (_OPERATOR, _DOMAIN)):
            if isinstance(value, int):
                raise ValueError("it is not laid out as ONNX")
            if number in inside:
                count += _check(value, inside[number])
            elif number == _DOMAIN and plain not in (b"", b"ai.onnx"):
                raise ValueError("it has operators outside of the ONNX standard")
            elif number == _OPERATOR and plain not in _OPERATORS:
                raise ValueError(f"it has the operator {str(value[:40], 'ascii', 'replace')!r}")
        count += 1
        if count > _FIELDS:
            raise ValueError(f"it has more than {_FIELDS:,} fields")
    if len(cast) == len(_TO_TEXT):
        raise ValueError("it has texts")
    return count


def _check_work(model: memoryview) -> bool:
    """Refuse work that our networks do not have; return what `check_onnx` does."""
    # Readers join graphs of one file, and take the last of two names.
    graphs: Any = [graph for number, graph in _fields(model) if number == 7]
    parts = [part for graph in graphs for part in _fields(graph)]
    stored = {name for number, tensor in parts if number == 5 for name in _texts(tensor, 8)[-1:]}
    nodes = [node for number, node in parts if number == 1]
    if len(nodes) > _NODES:
        raise ValueError(f"it has {len(nodes):,} operations, more than the limit of {_NODES:,}")
    computes = False
    for node in nodes:
        operator, given = b"".join(_texts(node, _OPERATOR)[-1:]), _texts(node, 1)
        if operator in _PRODUCTS and not stored.issuperset(given[1:]):
            raise ValueError(f"it has a {operator.decode()} by numbers that it does not store")
        if stored.issuperset(filter(None, given)):
            computes |= operator not in _NO_WORK
            stored.update(_texts(node, 2))
        computes |= operator == b"Shape"
    return computes


def _texts(message: Any, field: int) -> list[bytes]:
    """Return the contents of a field of text in a message, in order."""
    return [
        value.tobytes()
        for number, value in _fields(message)
        if number == field and not isinstance(value, int)
    ]


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Yield number and value of each protobuf field; the value of a fixed length is left out."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        if key >= 1 << 32 or not number:  # other readers take the lower half for a number
            raise ValueError("it is not valid protobuf")
        value: memoryview | int = 0
        if wire == _VARINT:
            value, at = _varint(message, at)
        elif wire == _BYTES:
            length, at = _varint(message, at)
            value, at = message[at : at + length], at + length
        elif wire in (_FIXED64, _FIXED32):
            at += 8 if wire == _FIXED64 else 4
        else:
            raise ValueError("it is not valid protobuf")
        if at > len(message):
            raise ValueError("it ends too soon")
        yield number, value


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """Return a number, stored in 7 bits of each byte with the lowest first, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise ValueError("it ends too soon")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("it is not valid protobuf")
