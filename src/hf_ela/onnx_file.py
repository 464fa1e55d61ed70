"""What an ONNX file may be before ONNX Runtime reads it: one graph with its numbers inside.

ONNX can point at other files (external data), nest graphs in loops and conditions, and call
functions that call functions. An exported model has none of that, so all of it is refused: what is
left comes to an end after as many steps as it has nodes. The file is read as protobuf defines it
(https://protobuf.dev/programming-guides/encoding), the numbers of its fields are those of
onnx/onnx.proto.
"""

from collections.abc import Iterator

from hf_ela.errors import ModelError
from hf_ela.recipe import Recipe
from hf_ela.weights import largest_weights

__all__ = ["check_onnx"]

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
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_DOMAIN, _LOCATION = 7, 14


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


def _check(message: memoryview, kind: str) -> None:
    inside, refused = _INSIDE[kind], _REFUSED.get(kind, {})
    for number, value in _fields(message):
        if number in refused:
            raise ValueError(f"it has {refused[number]}")
        if kind == "tensor" and number == _LOCATION and value != 0:
            raise ValueError("it has numbers in another file")
        if number in inside or (kind == "node" and number == _DOMAIN):
            if isinstance(value, int):
                raise ValueError("it is not laid out as ONNX")
            if number in inside:
                _check(value, inside[number])
            elif value.tobytes() not in (b"", b"ai.onnx"):
                raise ValueError("it has operators that are not of the standard")


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Yield number and value of each field; the value of what has a fixed length is left out."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
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
        yield number, value


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
