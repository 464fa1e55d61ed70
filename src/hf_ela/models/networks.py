"""The networks, from built-in Keras layers only: uint8 views in, class probabilities out."""

from typing import Any

from hf_ela.backend import keras
from hf_ela.ela.layers import ErrorLevel, PillowResize
from hf_ela.models.backbone import BACKBONE, backbone
from hf_ela.models.settings import INPUT, OUTPUT
from hf_ela.recipes.backbones import BACKBONES
from hf_ela.recipes.networks import FullyConvolutional, Transfer
from hf_ela.recipes.schema import LABELS, Preprocessing, Recipe

layers = keras.layers
NORMALISED = "normalised_features"
"""Layer of a `transfer` network between its backbone and its head."""


def build_model(recipe: Recipe) -> keras.Model:
    """Return the untrained network of a recipe.

    The same graph on TensorFlow, JAX and torch. Input: uint8, N x height x width x channels
    (`recipe.input_shape`). Output: float32, N x 2, softmax in the order of `LABELS`.
    """
    inputs = keras.Input(recipe.input_shape, dtype="uint8", name="ela")
    network = recipe.network
    match network:
        case Transfer():
            x = _transfer(inputs, network)
        case FullyConvolutional():
            x = _patches(inputs, network)
        case _:
            x = _reference(inputs)
    # Mixed precision ends before the softmax, so that probabilities are always float32.
    logits = layers.Dense(len(LABELS), dtype="float32", name="logits")(x)
    outputs = layers.Softmax(dtype="float32", name=OUTPUT)(logits)
    return keras.Model(inputs, outputs, name=f"hf_ela_{network.kind}")


def preprocessing_model(recipe: Preprocessing, *, built_in: bool = False) -> keras.Model:
    """Return a model without weights, from pixels to views: ELA, pixels beside it, resize.

    Input: uint8, N x side x side x 3, side = `recipe.pixel_side`. Output: uint8, N x
    `recipe.input_shape`, the bits of `hf_ela.ela.views.network_inputs`.

    Args:
        recipe: What it computes.
        built_in: Take our layers apart into Keras's own operations.
    """
    side, ela = recipe.pixel_side, recipe.ela
    x = pixels = keras.Input((side, side, 3), dtype="uint8", name=INPUT)
    if ela:
        levels = ErrorLevel(ela.qualities, **ela.settings)
        x = levels.call(x) if built_in else levels(x)
        if ela.with_pixels:
            x = layers.Concatenate(dtype="uint8")([x, pixels])
    if recipe.input.kind == "resize":
        resize = PillowResize(recipe.input.size)
        x = resize.call(x) if built_in else resize(x)
    return keras.Model(pixels, x, name="preprocessing")


def with_error_level(network: keras.Model, recipe: Recipe) -> keras.Model:
    """Return a model from pixels to probabilities: `preprocessing_model`, then the network.

    Args:
        network: Network of `build_model`; its weights are shared.
        recipe: Its recipe.
    """
    before = preprocessing_model(recipe)
    return keras.Model(before.input, network(before.output), name="hf_ela")


def built_in_model(network: keras.Model, recipe: Recipe) -> keras.Model:
    """Return a model from pixels to probabilities that Keras loads without this package.

    It has some 800 operations of Keras in place of our layers. What has weights is the network's,
    so that its file of weights is that of the network.

    Args:
        network: Network of `build_model`; its layers are shared.
        recipe: Its recipe.
    """
    before = preprocessing_model(recipe, built_in=True)
    return keras.Model(before.input, network.call(before.output), name="hf_ela")


def add_bias(network: keras.Model, bias: float) -> None:
    """Add a bias to the log odds of fake that a network of `build_model` gives."""
    last = network.get_layer("logits")
    kernel, before = last.get_weights()
    last.set_weights([kernel, before + [bias if label == "fake" else 0.0 for label in LABELS]])


def describe(model: keras.Model, recipe: Recipe) -> dict[str, Any]:
    """Return the `model` section of ``run.json``: input, parameters, and the layers in order.

    A `transfer` network also names the published weights that it started from.
    """
    network = recipe.network
    published = isinstance(network, Transfer) and BACKBONES[network.backbone].published
    return {
        "network": network.kind,
        **({"published_weights": published} if published else {}),
        "input_shape": list(recipe.input_shape),
        "parameters": model.count_params(),
        "layers": [
            {
                "name": layer.name,
                "kind": type(layer).__name__,
                "output": list(layer.output.shape[1:]),
                "parameters": layer.count_params(),
            }
            for layer in model.layers
        ],
    }


def head_of(network: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Divide a `transfer` network in two, which share its weights.

    Returns:
        Its backbone, from three channels of views (float32, 0 to 255) to features (float32, N x
        features); and its head, from the features of all channels to probabilities.
    """
    features = network.get_layer(NORMALISED).input
    return network.get_layer(BACKBONE), keras.Model(features, network.output)


def _reference(x: keras.KerasTensor) -> keras.KerasTensor:
    x = layers.Rescaling(1 / 255)(x)
    x = layers.Conv2D(32, 5, activation="relu")(x)
    x = layers.Conv2D(32, 5, activation="relu")(x)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Dropout(0.25)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(256, activation="relu")(x)
    return layers.Dropout(0.5)(x)


def _transfer(x: keras.KerasTensor, network: Transfer) -> keras.KerasTensor:
    shared = backbone(network.backbone, network.trainable_blocks)
    streams = [x[..., first : first + 3] for first in range(0, x.shape[-1], 3)]
    features = [shared(layers.Rescaling(1.0)(stream)) for stream in streams]  # uint8 to float
    x = layers.Concatenate()(features) if len(features) > 1 else features[0]
    x = layers.BatchNormalization(momentum=0.9, center=False, scale=False, name=NORMALISED)(x)
    x = keras.ops.clip(x, -6, 6)  # an image unlike all others does not outvote its other features
    if network.hidden:
        x = layers.Dense(network.hidden, activation="relu")(x)
    return layers.Dropout(network.dropout)(x)


def _patches(x: keras.KerasTensor, network: FullyConvolutional) -> keras.KerasTensor:
    # 128 is a residual of zero. Luma and chroma, low and high quality, and pixels differ tenfold in
    # size: each channel is normalised by its own statistics.
    x = layers.Rescaling(1 / 8, offset=-128 / 8)(x)
    if network.block_means == "removed":
        means = layers.AveragePooling2D(8)(x)
        x = layers.Subtract()([x, layers.UpSampling2D(8)(means)])
    x = layers.BatchNormalization(momentum=0.9, center=False, scale=False)(x)
    x = layers.Conv2D(network.widths[0], network.patch, strides=network.patch, use_bias=False)(x)
    x = layers.BatchNormalization(momentum=0.9)(x)
    for stage, width in enumerate(network.widths):
        if stage:
            x = layers.Conv2D(width, 2, strides=2, use_bias=False)(x)
            x = layers.BatchNormalization(momentum=0.9)(x)
        for _ in range(network.blocks):
            x = _residual(x, width)
    x = layers.BatchNormalization(momentum=0.9)(x)
    x = layers.Activation("relu")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return layers.Dropout(network.dropout)(x)


def _residual(x: keras.KerasTensor, width: int) -> keras.KerasTensor:
    y = layers.Activation("relu")(x)
    y = layers.Conv2D(width, 3, padding="same", use_bias=False)(y)
    y = layers.BatchNormalization(momentum=0.9)(y)
    y = layers.Activation("relu")(y)
    y = layers.Conv2D(width, 1, use_bias=False)(y)
    y = layers.BatchNormalization(momentum=0.9)(y)
    return layers.Add()([x, y])
