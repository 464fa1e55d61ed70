"""The part of a `transfer` network that sees: a network with its ImageNet weights.

`hf_ela.recipes.backbones` lists them. EfficientNet-Lite0 is built here: the network of
https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite, without
squeeze-and-excitation, ReLU6 throughout, so that it runs the same on phones, in browsers and in
ONNX. All others are those of `keras.applications`.

Each is used without the last convolution and the classifier: on sources left out, the mean of that
convolution added nothing. Batch normalisation is folded into the convolutions: as published, it is
a constant factor and offset of every channel.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from hf_ela.backend import keras
from hf_ela.errors import ModelError
from hf_ela.models.published_weights import published_file, read_tensors
from hf_ela.recipes.backbones import BACKBONES, Backbone

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
_EPSILON = 1e-3  # of the published batch normalisation


def backbone(name: str, trainable_blocks: int = 0) -> keras.Model:
    """Return a network with random weights, from pixels to the features that describe them.

    Input: float32, N x height x width x 3, from 0 to 255. Output: float32, N x `features` of its
    row in the table. Nothing is downloaded.

    Args:
        name: Its name in the table.
        trainable_blocks: How many of the last blocks training may change; 0 freezes everything.
    """
    row = BACKBONES[name]
    inputs = keras.Input((None, None, 3))
    x = layers.Rescaling(row.scale, offset=row.offset)(inputs)
    trunk = _application(row, inputs, x) if row.application else _efficientnet_lite0(inputs, x)
    features = []
    for place in row.taps:
        block = f"{row.blocks[place]}_"
        x = [layer.output for layer in trunk.layers if layer.name.startswith(block)][-1]
        features += [_mean(x), _deviation(x)]
    model = keras.Model(trunk.inputs[0], layers.Concatenate()(features), name=BACKBONE)
    first = len(row.blocks) - trainable_blocks
    changed = tuple(f"{block}_" for block in row.blocks[first:])
    for layer in model.layers:
        layer.trainable = layer.name.startswith(changed)
    return model


def load_published(model: keras.Model, name: str) -> None:
    """Give a network of `backbone` its published ImageNet weights.

    Args:
        model: The network.
        name: Its name in the table.

    Raises:
        ModelError: They are not installed, or cannot be downloaded.
    """
    row = BACKBONES[name]
    weights = _downloaded(row) if row.application else _installed()
    for layer in model.layers:
        if layer.weights:
            layer.set_weights(weights(layer))


def _application(row: Backbone, inputs: keras.KerasTensor, x: keras.KerasTensor) -> keras.Model:
    """Return a network of `keras.applications`; its convolutions have biases in place of norms."""

    def copied(layer: keras.Layer) -> keras.Layer:
        settings = layer.get_config()
        biased = {"use_bias": True} if "use_bias" in settings else {}
        return type(layer).from_config(settings | biased)

    def called(layer: keras.Layer, x: keras.KerasTensor, **_: object) -> keras.KerasTensor:
        left_out = isinstance(layer, layers.BatchNormalization | layers.Dropout)
        return x if left_out else layer(x)

    shape = (None, None, 3)
    whole = _by_keras(row, weights=None, input_tensor=x, input_shape=shape)
    return keras.models.clone_model(
        keras.Model(inputs, whole.output), clone_function=copied, call_function=called
    )


def _by_keras(row: Backbone, **how: object) -> keras.Model:
    return getattr(keras.applications, str(row.application))(
        include_top=False, **row.options, **how
    )


def _downloaded(row: Backbone) -> Callable[[keras.Layer], list[np.ndarray]]:
    """Return what gives a layer its weights by Keras, which keeps what it has downloaded."""
    try:
        whole = _by_keras(row, weights="imagenet", input_shape=(224, 224, 3))
    except Exception as error:  # Keras raises a bare one
        raise ModelError(
            f"A training with this `network.backbone` starts from {row.published}, which Keras "
            f"cannot download: {error}. Check the connection, and train again."
        ) from error
    behind = {layer.name: after for layer, after in pairwise(whole.layers)}

    def weights(layer: keras.Layer) -> list[np.ndarray]:
        found = whole.get_layer(layer.name).get_weights()
        norm = behind[layer.name]
        if not isinstance(norm, layers.BatchNormalization):
            return list(found)
        factor, offset = _constants(norm.get_weights(), norm.epsilon)
        depthwise = isinstance(layer, layers.DepthwiseConv2D)
        return [found[0] * (factor[:, None] if depthwise else factor), offset]

    return weights


def _installed() -> Callable[[keras.Layer], list[np.ndarray]]:
    """Return what gives a layer of EfficientNet-Lite0 its weights."""
    tensors = read_tensors(published_file())

    def weights(layer: keras.Layer) -> list[np.ndarray]:
        convolution, norm = _published_names(layer.name)
        names = ("weight", "bias", "running_mean", "running_var")
        factor, offset = _constants([tensors[f"{norm}.{name}"] for name in names], _EPSILON)
        kernel = tensors[f"{convolution}.weight"] * factor[:, None, None, None]
        order = (2, 3, 0, 1) if layer.name.endswith("_depthwise") else (2, 3, 1, 0)
        return [kernel.transpose(order), offset]

    return weights


def _constants(norm: list[np.ndarray], epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    """Return factor and offset of each channel in a batch normalisation that does not train."""
    gamma, beta, mean, variance = norm
    factor = gamma / np.sqrt(variance + epsilon)
    return factor, beta - mean * factor


def _efficientnet_lite0(inputs: keras.KerasTensor, x: keras.KerasTensor) -> keras.Model:
    x = _convolution(x, "stem", 32, 3, strides=2)
    stages = (stage for stage in _STAGES for _ in range(stage.blocks))
    first = {sum(stage.blocks for stage in _STAGES[:n]) for n in range(len(_STAGES))}
    for number, stage in enumerate(stages):
        x = _block(x, f"block{number}", stage, stage.stride if number in first else 1)
    return keras.Model(inputs, x)


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
    added = stride == 1 and width == stage.width
    return layers.Add(name=f"{name}_add")([x, y]) if added else y


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


def _published_names(name: str) -> tuple[str, str]:
    """Return the published names of a layer of `backbone` and of the normalisation behind it."""
    if name == "stem":
        return "_conv_stem", "_bn0"
    block, _, step = name.removeprefix("block").partition("_")
    norm = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}[step]
    return f"_blocks.{block}._{step}_conv", f"_blocks.{block}.{norm}"
