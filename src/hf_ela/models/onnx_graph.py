"""An ONNX graph in the making: its nodes, its numbers, and the order of channels of its values.

Keras's images have their channels last, ONNX's convolutions first. A value keeps the order in which
it was computed until an operation needs the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hf_ela._version import __version__
from hf_ela.backend import keras
from hf_ela.models.half_precision import halved

OPSET = 18
"""Version of ONNX's operators: of December 2022, so that runtimes since then read the files."""
_FIRST, _LAST = [0, 3, 1, 2], [0, 2, 3, 1]


@dataclass(frozen=True)
class Value:
    """A value of a graph; `spec` has its shape and type in Keras, where channels are last."""

    name: str
    spec: keras.KerasTensor
    channels_first: bool = False


class OnnxGraph:
    """A graph to which nodes are added."""

    def __init__(self) -> None:
        """Start without any."""
        self._nodes: list[Any] = []
        self._tensors: list[Any] = []
        self._inputs: list[Any] = []
        self._numbers: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._turned: dict[str, str] = {}

    def input(self, name: str, spec: keras.KerasTensor) -> Value:
        """Add an input of any batch size."""
        self._inputs.append(_declared(name, spec))
        return Value(name, spec)

    def add(self, kind: str, *given: str, name: str | None = None, **attributes: Any) -> str:
        """Add a node of one result, and return the name of it."""
        from onnx import helper

        name = name or f"{kind}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, given, [name], **attributes))
        return name

    def cast(self, name: str, dtype: str) -> str:
        """Add a `Cast` to a type of Keras."""
        return self.add("Cast", name, to=_kind(dtype))

    def number(self, numbers: Any, dtype: str = "int64") -> str:
        """Store numbers once, in half precision if that changes none, and return their name.

        A `Cast` before their use gives back float32, in which everything is computed. Runtimes
        compute it once, when they load the model.
        """
        from onnx import numpy_helper

        array = np.array(numbers, dtype, order="C")
        key = array.dtype.str, array.shape, array.tobytes()
        if key not in self._numbers:
            stored, name = halved(array), f"numbers_{len(self._tensors)}"
            self._tensors.append(numpy_helper.from_array(stored, name))
            same = stored.dtype == array.dtype
            self._numbers[key] = name if same else self.cast(name, "float32")
        return self._numbers[key]

    def channels_first(self, value: Value) -> str:
        """Return the name of a value of four dimensions with its channels first."""
        return value.name if value.channels_first else self._turn(value.name, _FIRST)

    def channels_last(self, value: Value) -> str:
        """Return the name of a value with its channels last."""
        return self._turn(value.name, _LAST) if value.channels_first else value.name

    def _turn(self, name: str, order: list[int]) -> str:
        if name not in self._turned:
            turned = self.add("Transpose", name, perm=order)
            self._turned |= {name: turned, turned: name}
        return self._turned[name]

    def serialized(self, output: Value, says: str) -> bytes:
        """Return the file of the graph with one output, and with a sentence on what it is."""
        from onnx import checker, helper

        ends = [_declared(output.name, output.spec)]
        graph = helper.make_graph(self._nodes, "hf_ela", self._inputs, ends, self._tensors)
        model = helper.make_model_gen_version(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            producer_name="hf_ela",
            producer_version=__version__,
            doc_string=says,
        )
        checker.check_model(model)
        return bytes(model.SerializeToString())


def _kind(dtype: str) -> int:
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def _declared(name: str, spec: keras.KerasTensor) -> Any:
    from onnx import helper

    sides: Sequence[int | None] = spec.shape[1:]
    shape = ["N", *(f"{name}_{place}" if n is None else n for place, n in enumerate(sides))]
    return helper.make_tensor_value_info(name, _kind(spec.dtype), shape)
