"""Keras's layers and operations as nodes of ONNX: those of our networks and of ELA.

Each function adds one to a graph. It takes the graph, the operation, shape and type of its result,
and its arguments, with values of the graph in place of tensors.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hf_ela.backend import keras
from hf_ela.models.onnx_graph import OnnxGraph, Value

Spec = Any  # a keras.KerasTensor, for its shape and type
Write = Callable[..., Value | list[Value]]


def _alike(
    graph: OnnxGraph, given: Sequence[Any], dtype: str, *, channels_last: bool = False
) -> tuple[list[str], bool]:
    """Return names of values and numbers of one type, and whether their channels are first."""
    values = [one for one in given if isinstance(one, Value)]
    numbers = [one for one in given if not isinstance(one, Value)]
    first = not channels_last and any(value.channels_first for value in values)
    first &= all(len(value.spec.shape) == 4 for value in values)
    first &= all(np.ndim(number) == 0 for number in numbers)
    names = []
    for one in given:
        if not isinstance(one, Value):
            names.append(graph.number(keras.ops.convert_to_numpy(one), dtype))
            continue
        name = graph.channels_first(one) if first else graph.channels_last(one)
        names.append(name if one.spec.dtype == dtype else graph.cast(name, dtype))
    return names, first


def _elementwise(kind: str) -> Write:
    def write(graph: OnnxGraph, _: Any, spec: Spec, *given: Any) -> Value:
        names, first = _alike(graph, keras.tree.flatten(given), spec.dtype)
        return Value(graph.add(kind, *names), spec, first)

    return write


def _cast(graph: OnnxGraph, _: Any, spec: Spec, x: Value) -> Value:
    return Value(graph.cast(x.name, spec.dtype), spec, x.channels_first)


def _clipped(graph: OnnxGraph, x: Value, spec: Spec, low: float, high: float) -> Value:
    limits = [graph.number(limit, spec.dtype) for limit in (low, high)]
    return Value(graph.add("Clip", x.name, *limits), spec, x.channels_first)


def _clip(graph: OnnxGraph, op: Any, spec: Spec, x: Value) -> Value:
    return _clipped(graph, x, spec, op.x_min, op.x_max)


def _relu(graph: OnnxGraph, op: Any, spec: Spec, x: Value) -> Value:
    if op.negative_slope or op.threshold:
        raise NotImplementedError("a slope or a threshold of a ReLU")
    if op.max_value is not None:
        return _clipped(graph, x, spec, 0, op.max_value)
    return Value(graph.add("Relu", x.name), spec, x.channels_first)


def _square(graph: OnnxGraph, _: Any, spec: Spec, x: Value) -> Value:
    return Value(graph.add("Mul", x.name, x.name), spec, x.channels_first)


def _shift(graph: OnnxGraph, _: Any, spec: Spec, x: Value, bits: int) -> Value:
    # ONNX shifts no signed numbers; `hf_ela.ela.cosine_transform.shifted` shifts no negative ones.
    unsigned = graph.cast(x.name, "uint32")
    moved = graph.add("BitShift", unsigned, graph.number(bits, "uint32"), direction="RIGHT")
    return Value(graph.cast(moved, spec.dtype), spec, x.channels_first)


def _affine(graph: OnnxGraph, x: Value, spec: Spec, factor: Any, offset: Any) -> Value:
    """Add a multiplication and an addition, by a number or by one for each channel."""
    name, by_channel = x.name, (-1, 1, 1) if x.channels_first else (-1,)
    if x.spec.dtype != spec.dtype:
        name = graph.cast(name, spec.dtype)
    for kind, numbers, neutral in (("Mul", factor, 1), ("Add", offset, 0)):
        if np.any(numbers != neutral):
            shaped = np.reshape(numbers, by_channel if np.ndim(numbers) else ())
            name = graph.add(kind, name, graph.number(shaped, spec.dtype))
    return Value(name, spec, x.channels_first)


def _rescaling(graph: OnnxGraph, op: Any, spec: Spec, x: Value) -> Value:
    return _affine(graph, x, spec, np.float32(op.scale), np.float32(op.offset))


def _batch_normalization(graph: OnnxGraph, op: Any, spec: Spec, x: Value) -> Value:
    mean, variance = map(keras.ops.convert_to_numpy, (op.moving_mean, op.moving_variance))
    gamma = 1 if op.gamma is None else keras.ops.convert_to_numpy(op.gamma)
    beta = 0 if op.beta is None else keras.ops.convert_to_numpy(op.beta)
    factor = gamma / np.sqrt(variance + np.float32(op.epsilon))
    return _affine(graph, x, spec, factor, beta - mean * factor)


def _activated(graph: OnnxGraph, op: Any, result: Value) -> Value:
    match keras.activations.serialize(op.activation):
        case "linear":
            return result
        case "relu":
            return replace(result, name=graph.add("Relu", result.name))
        case "sigmoid":
            return replace(result, name=graph.add("Sigmoid", result.name))
        case "silu":
            gate = graph.add("Sigmoid", result.name)
            return replace(result, name=graph.add("Mul", result.name, gate))
        case "softmax":
            last = graph.channels_last(result)
            return Value(graph.add("Softmax", last, axis=-1), result.spec)
        case other:
            raise NotImplementedError(f"the activation {other}")


def _activation(graph: OnnxGraph, op: Any, spec: Spec, x: Value) -> Value:
    return _activated(graph, op, x)


def _dense(graph: OnnxGraph, op: Any, spec: Spec, x: Value) -> Value:
    kernel, *bias = (keras.ops.convert_to_numpy(weight) for weight in op.weights)
    name = graph.add("MatMul", graph.channels_last(x), graph.number(kernel, spec.dtype))
    for numbers in bias:
        name = graph.add("Add", name, graph.number(numbers, spec.dtype))
    return _activated(graph, op, Value(name, spec))


def _convolution(graph: OnnxGraph, op: Any, spec: Spec, x: Value) -> Value:
    """Add a convolution; where each channel is filtered by itself, that is a group of its own."""
    kernel, *bias = (keras.ops.convert_to_numpy(weight) for weight in op.weights)
    if depthwise := isinstance(op, keras.layers.DepthwiseConv2D):
        kernel = kernel.reshape(*kernel.shape[:2], 1, -1)
    name = graph.add(
        "Conv",
        graph.channels_first(x),
        graph.number(kernel.transpose(3, 2, 0, 1), spec.dtype),
        *(graph.number(numbers, spec.dtype) for numbers in bias),
        group=x.spec.shape[-1] if depthwise else op.groups,
        dilations=list(op.dilation_rate),
        **_window(op.strides, op.padding),
    )
    return _activated(graph, op, Value(name, spec, channels_first=True))


def _pooling(kind: str) -> Write:
    def write(graph: OnnxGraph, op: Any, spec: Spec, x: Value) -> Value:
        window = _window(op.strides, op.padding)
        name = graph.add(kind, graph.channels_first(x), kernel_shape=list(op.pool_size), **window)
        return Value(name, spec, channels_first=True)

    return write


def _window(strides: Sequence[int], padding: str) -> dict[str, Any]:
    pads = {"valid": "VALID", "same": "SAME_UPPER"}  # as TensorFlow: an odd rest lies behind
    return {"strides": list(strides), "auto_pad": pads[padding]}


def _padded(graph: OnnxGraph, op: Any, spec: Spec, x: Value, constant_values: int = 0) -> Value:
    axes = (0, 3, 1, 2) if x.channels_first else range(len(op.pad_width))
    widths = [op.pad_width[axis][end] for end in (0, 1) for axis in axes]
    value = graph.number(constant_values, spec.dtype)
    return Value(graph.add("Pad", x.name, graph.number(widths), value), spec, x.channels_first)


def _mean(graph: OnnxGraph, op: Any, spec: Spec, x: Value) -> Value:
    axes = graph.number([2, 3] if x.channels_first else [1, 2])
    name = graph.add("ReduceMean", x.name, axes, keepdims=int(op.keepdims))
    return Value(name, spec, x.channels_first and op.keepdims)


def _enlarged(graph: OnnxGraph, op: Any, spec: Spec, x: Value) -> Value:
    if op.interpolation != "nearest":
        raise NotImplementedError(f"enlarging by {op.interpolation}")
    (_, height, width, _), (down, across) = x.spec.shape, op.size
    apart = graph.add("Reshape", graph.channels_first(x), graph.number([0, 0, height, 1, width, 1]))
    copied = graph.add("Expand", apart, graph.number([1, 1, 1, down, 1, across]))
    name = graph.add("Reshape", copied, graph.number([0, 0, height * down, width * across]))
    return Value(name, spec, channels_first=True)


def _reshape(graph: OnnxGraph, op: Any, spec: Spec, x: Value) -> Value:
    shape = [-1 if side is None else side for side in spec.shape]
    return Value(graph.add("Reshape", graph.channels_last(x), graph.number(shape)), spec)


def _transpose(graph: OnnxGraph, op: Any, spec: Spec, x: Value) -> Value:
    return Value(graph.add("Transpose", graph.channels_last(x), perm=list(op.axes)), spec)


def _moveaxis(graph: OnnxGraph, op: Any, spec: Spec, x: Value) -> Value:
    # Where each axis of a small array goes, told apart by its length.
    lengths = np.moveaxis(np.empty(range(len(x.spec.shape))), op.source, op.destination).shape
    order = list(lengths)
    return Value(graph.add("Transpose", graph.channels_last(x), perm=order), spec)


def _concatenated(graph: OnnxGraph, op: Any, spec: Spec, xs: Sequence[Any]) -> Value:
    names, _ = _alike(graph, xs, spec.dtype, channels_last=True)
    return Value(graph.add("Concat", *names, axis=op.axis), spec)


def _stacked(graph: OnnxGraph, op: Any, spec: Spec, xs: Sequence[Any]) -> Value:
    names, _ = _alike(graph, xs, spec.dtype, channels_last=True)
    axis = graph.number([op.axis])
    parts = [graph.add("Unsqueeze", name, axis) for name in names]
    return Value(graph.add("Concat", *parts, axis=op.axis), spec)


def _unstacked(graph: OnnxGraph, op: Any, specs: Sequence[Spec], x: Value) -> list[Value]:
    name = graph.channels_last(x)
    return [
        Value(graph.add("Gather", name, graph.number(place), axis=op.axis), spec)
        for place, spec in enumerate(specs)
    ]


def _item(graph: OnnxGraph, _: Any, spec: Spec, x: Value, key: Any) -> Value:
    keys = list(key) if isinstance(key, tuple) else [key]
    if Ellipsis in keys:
        at = keys.index(Ellipsis)
        keys[at : at + 1] = [slice(None)] * (len(x.spec.shape) - len(keys) + 1)
    name, ends = graph.channels_last(x), np.iinfo(np.int64)
    for axis, one in reversed([*enumerate(keys)]):  # from the last: one place takes its axis away
        if isinstance(one, int):
            name = graph.add("Gather", name, graph.number(one), axis=axis)
        elif one != slice(None):
            limits = (one.start or 0, ends.max if one.stop is None else one.stop, axis)
            steps = [graph.number([number]) for number in (*limits, one.step or 1)]
            name = graph.add("Slice", name, *steps)
    return Value(name, spec)


def _taken(graph: OnnxGraph, op: Any, spec: Spec, x: Any, indices: Any) -> Value:
    (table,), _ = _alike(graph, [x], spec.dtype, channels_last=True)
    (places,), _ = _alike(graph, [indices], "int32", channels_last=True)
    return Value(graph.add("Gather", table, places, axis=op.axis), spec)


def _largest(graph: OnnxGraph, op: Any, spec: Spec, x: Value) -> Value:
    axes = graph.number(list(op.axis))
    return Value(
        graph.add("ReduceMax", graph.channels_last(x), axes, keepdims=int(op.keepdims)), spec
    )


def _repeated(graph: OnnxGraph, op: Any, spec: Spec, x: Value) -> Value:
    places = np.repeat(np.arange(x.spec.shape[op.axis]), op.repeats)
    return Value(
        graph.add("Gather", graph.channels_last(x), graph.number(places), axis=op.axis), spec
    )


OPERATIONS: dict[str, Write] = {
    **{name: _elementwise(name) for name in ("Add", "Sign", "Sqrt")},
    "Absolute": _elementwise("Abs"),
    "Activation": _activation,
    "AveragePooling2D": _pooling("AveragePool"),
    "BatchNormalization": _batch_normalization,
    "Cast": _cast,
    "Clip": _clip,
    "Concatenate": _concatenated,
    "Conv2D": _convolution,
    "ConvertToTensor": lambda graph, op, spec, x: x,
    "Dense": _dense,
    "DepthwiseConv2D": _convolution,
    "Dropout": lambda graph, op, spec, x: x,
    "Flatten": _reshape,
    "FloorDivide": _elementwise("Div"),  # of numbers that are not negative
    "GetItem": _item,
    "GlobalAveragePooling2D": _mean,
    "Max": _largest,
    "MaxPooling2D": _pooling("MaxPool"),
    "Maximum": _elementwise("Max"),
    "Moveaxis": _moveaxis,
    "Multiply": _elementwise("Mul"),
    "Pad": _padded,
    "ReLU": _relu,
    "Repeat": _repeated,
    "Rescaling": _rescaling,
    "Reshape": _reshape,
    "RightShift": _shift,
    "Softmax": lambda graph, op, spec, x: Value(
        graph.add("Softmax", graph.channels_last(x), axis=op.axis), spec
    ),
    "Square": _square,
    "Stack": _stacked,
    "Subtract": _elementwise("Sub"),
    "Take": _taken,
    "Transpose": _transpose,
    "Unstack": _unstacked,
    "UpSampling2D": _enlarged,
}
"""By the name of the class in Keras. Where a layer and an operation share one, they do the same."""
