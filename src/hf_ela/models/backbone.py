"""EfficientNet-Lite0 with its ImageNet weights: the part of a `transfer` network that sees.

The network of https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite: no
squeeze-and-excitation, ReLU6 throughout, so that it runs the same on phones, in browsers and in
ONNX. Its 16 blocks are here, 2.94 million weights, without the last convolution and the classifier:
on sources left out, the mean of that convolution added nothing. Batch normalisation is folded into
the convolutions: as published, it is a constant factor and offset of every channel.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from hf_ela.backend import keras
from hf_ela.models.published_weights import published_file, read_tensors

layers = keras.layers

BACKBONE = "backbone"
"""Name of the part of a network that is this one."""


class _Stage(NamedTuple):
    expansion: int
    kernel: int
    stride: int
    width: int
    blocks: int


_STAGES = (
    _Stage(1, 3, 1, 16, 1),
    _Stage(6, 3, 2, 24, 2),
    _Stage(6, 5, 2, 40, 2),
    _Stage(6, 3, 2, 80, 3),
    _Stage(6, 5, 1, 112, 3),
    _Stage(6, 5, 2, 192, 4),
    _Stage(6, 3, 1, 320, 1),
)
BLOCKS = sum(stage.blocks for stage in _STAGES)
TAPS = (0, 2, 4, 7, 10, 15)
"""Blocks whose outputs are summarised: the last of each width, but for that of 192 channels."""
FEATURES = 2 * (16 + 24 + 40 + 80 + 112 + 320)
"""Numbers that describe a crop: mean and deviation of every tapped channel."""
_EPSILON = 1e-3  # of the published batch normalisation


def backbone(trainable_blocks: int = 0) -> keras.Model:
    """Return the network with random weights: pixels in, `FEATURES` numbers out.

    Input: float32, N x height x width x 3, from 0 to 255. Output: float32, N x `FEATURES`.

    Args:
        trainable_blocks: How many of the last `BLOCKS` blocks training may change; 0 freezes
            everything.
    """
    inputs = keras.Input((None, None, 3))
    x = layers.Rescaling(1 / 128, offset=-127 / 128)(inputs)
    x = _convolution(x, "stem", 32, 3, strides=2)
    features = []
    stages = (stage for stage in _STAGES for _ in range(stage.blocks))
    first = {sum(stage.blocks for stage in _STAGES[:n]) for n in range(len(_STAGES))}
    for number, stage in enumerate(stages):
        x = _block(x, f"block{number}", stage, stage.stride if number in first else 1)
        if number in TAPS:
            features += [_mean(x), _deviation(x)]
    model = keras.Model(inputs, layers.Concatenate()(features), name=BACKBONE)
    changed = tuple(f"block{number}_" for number in range(BLOCKS - trainable_blocks, BLOCKS))
    for layer in model.layers:
        layer.trainable = layer.name.startswith(changed)
    return model


def load_published(model: keras.Model) -> None:
    """Give a network of `backbone` the published ImageNet weights.

    Raises:
        ModelError: They are not installed.
    """
    tensors = read_tensors(published_file())
    for layer in model.layers:
        if layer.weights:
            layer.set_weights(_folded(tensors, layer))


def _block(x: keras.KerasTensor, name: str, stage: _Stage, stride: int) -> keras.KerasTensor:
    """Expand, filter each channel by itself, project; and add the input where shapes allow."""
    width = x.shape[-1]
    y = x
    if stage.expansion > 1:
        y = _convolution(y, f"{name}_expand", stage.expansion * width, 1)
    y = layers.DepthwiseConv2D(
        stage.kernel, strides=stride, padding="same", name=f"{name}_depthwise"
    )(y)
    y = layers.ReLU(6)(y)
    y = layers.Conv2D(stage.width, 1, name=f"{name}_project")(y)
    return layers.Add()([x, y]) if stride == 1 and width == stage.width else y


def _convolution(
    x: keras.KerasTensor, name: str, width: int, kernel: int, strides: int = 1
) -> keras.KerasTensor:
    x = layers.Conv2D(width, kernel, strides=strides, padding="same", name=name)(x)
    return layers.ReLU(6)(x)


def _mean(x: keras.KerasTensor) -> keras.KerasTensor:
    return layers.GlobalAveragePooling2D()(x)


def _deviation(x: keras.KerasTensor) -> keras.KerasTensor:
    """Return the standard deviation of each channel over space, at least a thousandth.

    At zero, the gradient of a root would not be finite.
    """
    mean = layers.GlobalAveragePooling2D(keepdims=True)(x)
    return keras.ops.sqrt(keras.ops.maximum(_mean(keras.ops.square(x - mean)), 1e-6))


def _folded(tensors: Mapping[str, np.ndarray], layer: keras.Layer) -> list[np.ndarray]:
    """Return kernel and bias of a layer, with the batch normalisation behind it folded in."""
    convolution, norm = _published_names(layer.name)
    factor = tensors[f"{norm}.weight"] / np.sqrt(tensors[f"{norm}.running_var"] + _EPSILON)
    offset = tensors[f"{norm}.bias"] - tensors[f"{norm}.running_mean"] * factor
    kernel = tensors[f"{convolution}.weight"] * factor[:, None, None, None]
    order = (2, 3, 0, 1) if layer.name.endswith("_depthwise") else (2, 3, 1, 0)
    return [kernel.transpose(order), offset]


def _published_names(name: str) -> tuple[str, str]:
    """Return the published names of a layer of `backbone` and of the normalisation behind it."""
    if name == "stem":
        return "_conv_stem", "_bn0"
    block, _, step = name.removeprefix("block").partition("_")
    norm = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}[step]
    return f"_blocks.{block}._{step}_conv", f"_blocks.{block}.{norm}"
