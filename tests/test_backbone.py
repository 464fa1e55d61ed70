"""The backbone: a file of tensors that runs nothing, and a network that sees as published."""

import pickle
import struct
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hf_ela.backend import keras
from hf_ela.errors import ModelError, RecipeError
from hf_ela.models.backbone import backbone, load_published
from hf_ela.models.networks import build_model, head_of
from hf_ela.models.onnx_conversion import converted
from hf_ela.models.onnx_runtime import onnx_session
from hf_ela.models.published_weights import published_file, read_tensors
from hf_ela.recipes.backbones import BACKBONES
from hf_ela.recipes.loading import load_recipe

MAGIC = 0x1950A86A20F9469CFC6C
LITE = "efficientnet-lite0"
BLOCKS, FEATURES = len(BACKBONES[LITE].blocks), BACKBONES[LITE].features
APPLICATIONS = [name for name, row in BACKBONES.items() if row.application]


@pytest.fixture(scope="module")
def tensors() -> dict[str, np.ndarray]:
    return read_tensors(published_file())


@pytest.fixture(scope="module")
def network() -> keras.Model:
    model = backbone(LITE)
    load_published(model, LITE)
    return model


class Names:
    """Pickles as one global of a module, whatever is installed."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class Call:
    """Pickles as a call."""

    def __init__(self, what: object, *values: object) -> None:
        self.what, self.values = what, values

    def __reduce__(self):
        return self.what, self.values


class Writer(pickle._Pickler):  # the one in Python: it lets a class be written as a global
    """Writes what `torch.save` wrote before PyTorch 1.6."""

    def persistent_id(self, value: object) -> object:
        return value if isinstance(value, tuple) and value[:1] == ("storage",) else None

    def save(self, value: object, save_persistent_id: bool = True) -> None:
        if isinstance(value, Names):
            self.write(f"c{value.module}\n{value.name}\n".encode())
        elif isinstance(value, Call) and isinstance(value.what, Names):
            self.save(value.what)
            self.save(value.values)
            self.write(pickle.REDUCE)
        else:
            super().save(value, save_persistent_id)


def write(path: Path, value: object, *numbers: np.ndarray) -> Path:
    with path.open("wb") as file:
        for part in (MAGIC, 1001, {}, value, [str(key) for key in range(len(numbers))]):
            Writer(file, protocol=2).dump(part)
        for array in numbers:
            file.write(struct.pack("<q", array.size) + array.tobytes())
    return path


def tensor(offset=0, shape=(2, 3), strides=(3, 1), size=6, kind="FloatStorage") -> Call:
    storage = ("storage", Names("torch", kind), "0", "cpu", size, None)
    values = (storage, offset, shape, strides, False, OrderedDict())
    return Call(Names("torch._utils", "_rebuild_tensor_v2"), *values)


def test_reads_tensors_of_any_strides(tmp_path) -> None:
    numbers = np.arange(6, dtype=np.float32)
    value = {"rows": tensor(), "columns": tensor(strides=(1, 2)), "one": tensor(5, (), ())}
    found = read_tensors(write(tmp_path / "a.pth", value, numbers))
    assert list(found) == ["rows", "columns", "one"]
    assert np.array_equal(found["rows"], numbers.reshape(2, 3))
    assert np.array_equal(found["columns"], numbers.reshape(3, 2).T)
    assert found["one"] == 5


@pytest.mark.second_lane
@pytest.mark.parametrize("name", list(BACKBONES))
def test_onnx_gives_the_features_of_keras(name) -> None:
    model = backbone(name)
    session = onnx_session(converted(model))
    views = np.random.default_rng(0).uniform(0, 255, (2, 97, 120, 3)).astype(np.float32)
    (found,) = session.run(None, {session.get_inputs()[0].name: views})
    expected = np.asarray(model.predict_on_batch(views))
    assert np.abs(expected).max() > 0.01
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    "value",
    [
        {"a": Call(Names("posix", "system"), "touch ran")},
        {"a": Call(Names("builtins", "eval"), "open('ran', 'w')")},
        {"a": Names("torch", "load")},
        {"a": tensor(offset=1)},
        {"a": tensor(offset=-1)},
        {"a": tensor(strides=(-3, 1))},
        {"a": tensor(shape=(2, 10**12))},
        {"a": tensor(shape=(2,))},
        {"a": tensor(shape=(10**9,), strides=(0,))},  # eight bytes would become gigabytes
        {"a": tensor(kind="HalfStorage")},
        {"a": 5},
        [1, 2],
    ],
)
def test_a_file_that_holds_more_than_tensors_runs_nothing(tmp_path, monkeypatch, value) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "a.pth", value, np.zeros(6, np.float32))
    with pytest.raises(ModelError, match="is not a file of tensors"):
        read_tensors(path)
    assert [file.name for file in tmp_path.iterdir()] == ["a.pth"]


def test_a_damaged_file_is_refused(tmp_path) -> None:
    whole = write(tmp_path / "a.pth", {"a": tensor()}, np.ones(6, np.float32)).read_bytes()
    for end in (*range(0, len(whole), 7), len(whole) - 1):
        (tmp_path / "cut.pth").write_bytes(whole[:end])
        with pytest.raises(ModelError, match="is not a file of tensors"):
            read_tensors(tmp_path / "cut.pth")
    with pytest.raises(ModelError, match="is not a file of tensors"):
        read_tensors(tmp_path / "missing.pth")


@pytest.mark.second_lane
def test_torch_reads_the_same(tensors) -> None:
    torch = pytest.importorskip("torch")
    expected = torch.load(published_file(), weights_only=True)
    assert list(tensors) == list(expected)
    for name, array in tensors.items():
        assert np.array_equal(array, expected[name].numpy())


def test_sees_what_imagenet_taught_it(network, tensors) -> None:
    """The published head on top of our network names what scikit-learn's two photographs show."""
    from sklearn.datasets import load_sample_images

    last = keras.Model(network.input, network.get_layer(f"block{BLOCKS - 1}_project").output)
    factor = tensors["_bn1.weight"] / np.sqrt(tensors["_bn1.running_var"] + 1e-3)
    offset = tensors["_bn1.bias"] - tensors["_bn1.running_mean"] * factor
    kernel = tensors["_conv_head.weight"][:, :, 0, 0].T * factor
    best = []
    for pixels in load_sample_images().images:
        image = Image.fromarray(pixels[:, 100:527]).resize((224, 224), Image.Resampling.BICUBIC)
        blocks = last.predict_on_batch(np.asarray(image, np.float32)[np.newaxis])
        head = np.clip(blocks @ kernel + offset, 0, 6).mean(axis=(1, 2))
        best.append(int((head @ tensors["_fc.weight"].T + tensors["_fc.bias"]).argmax()))
    assert best == [698, 985]  # palace, daisy


def test_features_are_moments_of_channels(network) -> None:
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 64, 96, 3)).astype(np.float32)
    first = keras.Model(network.input, network.get_layer("block0_project").output)
    channels = keras.ops.convert_to_numpy(first(pixels))
    features = keras.ops.convert_to_numpy(network(pixels))
    assert features.shape == (2, FEATURES)
    np.testing.assert_allclose(features[:, :16], channels.mean(axis=(1, 2)), atol=1e-4)
    np.testing.assert_allclose(features[:, 16:32], channels.std(axis=(1, 2)), atol=1e-4)


def test_a_channel_without_deviation_has_a_finite_gradient() -> None:
    """A crop of 32 pixels leaves one value of a channel in the last blocks."""
    tf = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("takes gradients by TensorFlow")
    model = backbone(LITE, 2)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(model(tf.zeros((1, 32, 32, 3))))
    assert all(np.isfinite(g).all() for g in tape.gradient(total, model.trainable_variables))


@pytest.mark.parametrize("blocks", [0, 2, BLOCKS])
def test_only_the_last_blocks_are_trained(blocks) -> None:
    trained = {weight.path.split("/")[-2] for weight in backbone(LITE, blocks).trainable_weights}
    names = {f"block{BLOCKS - 1 - n}" for n in range(blocks)}
    assert {name.partition("_")[0] for name in trained} == names


def test_streams_share_a_backbone() -> None:
    recipe = load_recipe("transfer")
    model = build_model(recipe)
    describe, head = head_of(model)
    views = np.random.default_rng(0).integers(0, 256, (2, *recipe.input_shape), dtype=np.uint8)
    levels, pixels = (
        describe.predict_on_batch(views[..., n : n + 3].astype(np.float32)) for n in (0, 3)
    )
    whole = model.predict_on_batch(views)
    apart = head.predict_on_batch(np.concatenate([levels, pixels], axis=1))
    np.testing.assert_allclose(apart, whole, atol=1e-6)


def application(name: str, weights: str | None) -> keras.Model:
    row = BACKBONES[name]
    build = getattr(keras.applications, row.application)
    return build(include_top=False, weights=weights, input_shape=(224, 224, 3), **row.options)


def assert_sees_as(whole: keras.Model, model: keras.Model, name: str) -> None:
    """The features of a backbone are the moments of the channels of the whole network."""
    row = BACKBONES[name]
    ends = [
        [layer for layer in whole.layers if layer.name.startswith(f"{row.blocks[place]}_")][-1]
        for place in row.taps
    ]
    pixels = np.random.default_rng(0).uniform(0, 255, (1, 224, 224, 3)).astype(np.float32)
    given = (pixels * row.scale + row.offset).astype(np.float32)
    expected: list[np.ndarray] = []
    for channels in keras.Model(whole.inputs[0], [end.output for end in ends])(given):
        numbers = keras.ops.convert_to_numpy(channels)
        deviations = np.maximum(numbers.std(axis=(1, 2)), 1e-3)  # as little as the network tells
        expected += [numbers.mean(axis=(1, 2))[0], deviations[0]]
    found = keras.ops.convert_to_numpy(model(pixels))[0]
    assert found.shape == (row.features,)
    scale = np.abs(np.concatenate(expected)).max()
    np.testing.assert_allclose(found, np.concatenate(expected), rtol=1e-3, atol=1e-4 * scale)


# One with each kind of layer in the first lane.
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == "mobilenet-v2" else pytest.mark.second_lane)
        for name in APPLICATIONS
    ],
)
def test_an_application_is_folded_without_a_download(name, monkeypatch) -> None:
    """Weights of chance stand for those of ImageNet, which only a training asks for."""

    def refuse(*_: object, **__: object) -> None:
        raise Exception("URL fetch failure: refused")  # as Keras does

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", refuse)
    model = backbone(name, 2)
    rule = r"cannot download: URL fetch failure: refused\. Check the connection"
    with pytest.raises(ModelError, match=rule):
        load_published(model, name)
    trained = {weight.path.split("/")[-2] for weight in model.trainable_weights}
    last = BACKBONES[name].blocks[-2:]
    assert {block for block in last for layer in trained if layer.startswith(block)} == set(last)
    assert all(layer.startswith(last) for layer in trained)
    kernels = sum(np.prod(weight.shape) for weight in model.weights if len(weight.shape) > 1)
    assert kernels == pytest.approx(BACKBONES[name].weights, rel=0.02)

    keras.utils.set_random_seed(1)
    whole, rng = application(name, None), np.random.default_rng(1)
    for weight in whole.weights:
        if len(weight.shape) == 1:  # of normalisation
            weight.assign(rng.uniform(0.8, 1.2, weight.shape))
    monkeypatch.setattr(keras.applications, BACKBONES[name].application, lambda **_: whole)
    load_published(model, name)
    assert_sees_as(whole, model, name)


@pytest.mark.network
@pytest.mark.parametrize("name", APPLICATIONS)
def test_the_weights_of_an_application(name) -> None:
    model = backbone(name)
    load_published(model, name)
    assert_sees_as(application(name, "imagenet"), model, name)


def test_a_recipe_names_a_backbone_and_as_many_blocks_as_it_has() -> None:
    with pytest.raises(RecipeError, match="must be one of efficientnet-lite0, mobilenet-v2"):
        load_recipe("transfer", ["network.backbone=resnet"])
    with pytest.raises(RecipeError, match="at most the 17 blocks of mobilenet-v2"):
        load_recipe("transfer", ["network.backbone=mobilenet-v2", "network.trainable_blocks=18"])
