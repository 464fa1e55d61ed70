"""The folder of a saved model: written, read back, refused where it is damaged."""

import contextlib
import json
import math
import os
import resource
import shutil
import subprocess
from errno import ENOSPC
from hashlib import sha256
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bad_files import damaged, picture
from bad_models import WRONG_SETTINGS, WRONG_WEIGHTS, change, replace, settings_of, write
from conftest import CALLED, COMMAND, linked_copy
from hf_ela import ElaClassifier
from hf_ela._files import named_if_full
from hf_ela.backend import keras
from hf_ela.ela.views import network_inputs
from hf_ela.errors import ExportError, ModelError, RunError
from hf_ela.hub.locate import split_revision
from hf_ela.models.export import _convert
from hf_ela.models.networks import build_model
from hf_ela.models.onnx_runtime import OnnxModel
from hf_ela.recipes.loading import load_recipe
from hf_ela.recipes.schema import Recipe
from networks import CROPS, classifier_of, crops_classifier, images

FILES = {"model.weights.h5", "model.onnx", "network.onnx"}


@pytest.fixture
def folder(saved_crops, tmp_path) -> Path:
    """A copy of a saved model, to be changed."""
    return linked_copy(saved_crops, tmp_path / "model")


class TestSaving:
    def test_round_trip_is_exact(self, saved_crops) -> None:
        loaded = ElaClassifier.from_pretrained(saved_crops, runtime="keras")
        classifier = crops_classifier()
        assert loaded.predict(images(5)) == classifier.predict(images(5))
        assert loaded.recipe == classifier.recipe
        assert (loaded.temperature, loaded.threshold, loaded.data) == (1.7, 0.4, None)
        assert (loaded.uncertain, loaded.labels) == (None, ("fake", "real"))

    def test_writes_keras_own_layout_and_ours(self, saved_crops) -> None:
        names = {path.name for path in saved_crops.iterdir()}
        assert names == {"config.json", "metadata.json", "hf_ela.json", *FILES}
        ours = settings_of(saved_crops)
        assert (ours["schema"], ours["labels"]) == (1, ["fake", "real"])
        assert Recipe.model_validate(ours["recipe"]) == CROPS
        digests = {name: sha256((saved_crops / name).read_bytes()).hexdigest() for name in FILES}
        assert ours["sha256"] == digests
        assert {"hf_ela", "keras", "backend", "pillow", "ela"} <= set(ours["versions"])

    def test_band_and_data_are_kept_in_a_run_too(self, tmp_path) -> None:
        data = {"id": "art", "revision": "0" * 40, "splits": {"train": 5}}
        named = ElaClassifier(crops_classifier().model, CROPS, 1.5, 0.4, (0.3, 0.45), data)
        named.save_pretrained(tmp_path / "run" / "weights", onnx=False)
        loaded = ElaClassifier.from_pretrained(str(tmp_path / "run"))
        assert (loaded.data, loaded.uncertain) == (data, (0.3, 0.45))
        assert (loaded.temperature, loaded.threshold) == (1.5, 0.4)

    def test_keras_alone_loads_it(self, saved_crops) -> None:
        """From pixels, and from what is in Keras: where hf_ela is not installed too."""
        assert "hf_ela" not in (saved_crops / "config.json").read_text("utf-8").replace(
            '"name": "hf_ela"', ""
        )
        alone = keras.saving.load_model(saved_crops)
        side = CROPS.pixel_side
        pixels = np.random.default_rng(0).integers(0, 256, (3, side, side, 3), np.uint8)
        expected = crops_classifier().model.predict_on_batch(network_inputs(pixels, CROPS))
        assert alone.predict_on_batch(pixels) == pytest.approx(np.asarray(expected), abs=1e-6)

    def test_leaves_training_state_out(self, tmp_path) -> None:
        keras.config.set_dtype_policy("mixed_float16")
        try:
            network = build_model(CROPS)
            network.compile("adam", "categorical_crossentropy")
            network.optimizer.build(network.trainable_variables)
            ElaClassifier(network, CROPS).save_pretrained(tmp_path / "model", onnx=False)
            assert keras.config.dtype_policy().name == "mixed_float16"
            loaded = ElaClassifier.from_pretrained(tmp_path / "model").model
        finally:
            keras.config.set_dtype_policy("float32")
        config = (tmp_path / "model/config.json").read_text("utf-8")
        assert "mixed_float16" not in config
        assert not json.loads(config)["compile_config"]
        with h5py.File(tmp_path / "model/model.weights.h5") as weights:
            assert not [name for name in weights if "optimizer" in name]
        assert {layer.compute_dtype for layer in loaded.layers if layer.weights} == {"float32"}
        for mine, theirs in zip(loaded.get_weights(), network.get_weights(), strict=True):
            assert np.array_equal(mine, theirs)

    def test_replaces_a_saved_model(self, folder) -> None:
        other = ElaClassifier(crops_classifier().model, CROPS, threshold=0.9)
        other.save_pretrained(folder, onnx=False)
        loaded = ElaClassifier.from_pretrained(folder)
        assert (loaded.runtime, loaded.threshold) == ("keras", 0.9)
        assert not (folder / "network.onnx").exists()
        assert [path.name for path in folder.parent.iterdir()] == ["model"]

    @pytest.mark.parametrize(
        ("temperature", "onnx", "error"), [(-1.0, False, ValueError), (1.0, True, ExportError)]
    )
    def test_a_failure_keeps_the_earlier_model(self, folder, temperature, onnx, error) -> None:
        other = classifier_of(CROPS, temperature=temperature)
        *_, bias = other.model.weights
        bias.assign([np.nan, 0])  # an ONNX file of it gives nothing that could be compared
        with pytest.raises(error, match=r"temperature|Keras's probabilities"):
            other.save_pretrained(folder, onnx=onnx)
        assert ElaClassifier.from_pretrained(folder).runtime == "onnx"
        assert [path.name for path in folder.parent.iterdir()] == ["model"]

    def test_a_full_disk_is_said_with_its_path(self, tmp_path) -> None:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**14, before[1]))  # config.json is larger
        try:
            with pytest.raises(RunError, match=f"File too large: {tmp_path}/model"):
                crops_classifier().save_pretrained(tmp_path / "model")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert [*tmp_path.iterdir()] == []

    @pytest.mark.parametrize(
        "error",
        [
            OSError(ENOSPC, "No space left on device"),
            RuntimeError("Can't write data (file write failed: errno = 28, error message = '...')"),
            RuntimeError("Data processing error: I/O error: No space left on device (os error 28)"),
        ],
        ids=["system", "HDF5", "Xet"],
    )
    def test_a_full_disk_is_not_a_network_that_cannot_be_exported(self, error) -> None:
        def fail() -> None:
            raise error

        full = pytest.raises(RunError, match="No space left on device: here")
        with full, named_if_full(Path("here")):
            _convert(fail)

    def test_refuses_to_replace_anything_else(self, tmp_path) -> None:
        notes = tmp_path / "notes.txt"
        notes.write_text("mine")
        for place in (tmp_path, notes):
            with pytest.raises(ModelError, match="Choose another folder"):
                crops_classifier().save_pretrained(place, onnx=False)
        assert notes.read_text() == "mine"
        assert list(tmp_path.iterdir()) == [notes]


class TestRuntime:
    def test_onnx_is_the_default_where_it_is(self, saved_crops, folder) -> None:
        assert ElaClassifier.from_pretrained(saved_crops).runtime == "onnx"
        assert ElaClassifier.from_pretrained(saved_crops, runtime="keras").runtime == "keras"
        with pytest.raises(ValueError, match=r"`runtime` must be .* Received: 'jax'"):
            ElaClassifier.from_pretrained(saved_crops, runtime="jax")
        # A model that was saved without has none, whatever lies beside it.
        weights = {"model.weights.h5": settings_of(folder)["sha256"]["model.weights.h5"]}
        change(sha256=weights)(folder)
        assert ElaClassifier.from_pretrained(folder).runtime == "keras"
        with pytest.raises(ModelError, match=r"requires network.onnx.*does not name it"):
            ElaClassifier.from_pretrained(folder, runtime="onnx")

    def test_the_network_is_there_when_it_is_asked_for(self, saved_crops, tmp_path) -> None:
        loaded = ElaClassifier.from_pretrained(saved_crops)
        assert loaded.runtime == "onnx"
        assert loaded.model is loaded.model
        expected = crops_classifier().model.get_weights()
        for mine, theirs in zip(loaded.model.get_weights(), expected, strict=True):
            assert np.array_equal(mine, theirs)
        loaded.save_pretrained(tmp_path / "again", onnx=False)
        again = ElaClassifier.from_pretrained(tmp_path / "again")
        assert (again.runtime, again.threshold) == ("keras", 0.4)

    def test_the_settings_of_keras_do_not_change_it(self, saved_crops) -> None:
        image = np.random.default_rng(0).integers(0, 256, (96, 64, 3), np.uint8)
        expected = ElaClassifier.from_pretrained(saved_crops, runtime="keras").predict(image)
        keras.config.set_image_data_format("channels_first")
        keras.config.set_floatx("float64")
        try:
            found = ElaClassifier.from_pretrained(saved_crops, runtime="keras").predict(image)
        finally:
            keras.config.set_image_data_format("channels_last")
            keras.config.set_floatx("float32")
        assert found == expected

    def test_weights_are_not_needed_for_onnx(self, saved_crops, tmp_path) -> None:
        for name in ("hf_ela.json", "network.onnx"):
            shutil.copy(saved_crops / name, tmp_path)
        loaded = ElaClassifier.from_pretrained(tmp_path)
        assert 0 < next(loaded.scores(images(1))) < 1
        with pytest.raises(ModelError, match=r"does not hold model\.weights\.h5"):
            loaded.model  # noqa: B018
        alone = ElaClassifier(OnnxModel((tmp_path / "network.onnx").read_bytes(), CROPS), CROPS)
        with pytest.raises(ModelError, match="made from an ONNX model alone"):
            alone.model  # noqa: B018

    def test_onnx_that_is_missing_or_damaged_is_named(self, folder) -> None:
        sound = (folder / "network.onnx").read_bytes()
        write("network.onnx", sound[:-1] + b"\0")(folder)
        with pytest.raises(ModelError, match=r"network.onnx must have the checksum .* corrupt"):
            ElaClassifier.from_pretrained(folder)
        replace("network.onnx", sound[:-9])(folder)
        with pytest.raises(ModelError, match=r"too soon.*do not use it"):
            ElaClassifier.from_pretrained(folder)
        (folder / "network.onnx").unlink()
        with pytest.raises(ModelError, match=r"does not hold network\.onnx"):
            ElaClassifier.from_pretrained(folder)
        assert ElaClassifier.from_pretrained(folder, runtime="keras").threshold == 0.4


class TestDamage:
    @pytest.mark.parametrize(("damage", "message"), WRONG_SETTINGS)
    def test_of_the_settings_is_named(self, folder, damage, message) -> None:
        damage(folder)
        with pytest.raises(ModelError, match=message):
            ElaClassifier.from_pretrained(folder)

    @pytest.mark.parametrize(("damage", "message"), WRONG_WEIGHTS)
    def test_of_the_weights_is_named(self, folder, damage, message) -> None:
        damage(folder)
        with pytest.raises(ModelError, match=message):
            ElaClassifier.from_pretrained(folder, runtime="keras")

    @pytest.mark.parametrize("shape", [(3,), (1, 2)])
    def test_of_the_shape_of_weights_is_named(self, folder, shape) -> None:
        path = folder.parent / "other.h5"
        shutil.copy(folder / "model.weights.h5", path)
        with h5py.File(path, "r+") as file:
            del file["layers/dense/vars/1"]
            file["layers/dense/vars/1"] = np.zeros(shape, np.float32)
        replace("model.weights.h5", path.read_bytes())(folder)
        with pytest.raises(ModelError, match="which Keras cannot load"):
            ElaClassifier.from_pretrained(folder, runtime="keras")

    @settings(max_examples=10)
    @given(data=st.data())
    def test_of_any_kind_to_the_weights_is_typed(self, saved_crops, tmp_path_factory, data) -> None:
        folder = linked_copy(saved_crops, tmp_path_factory.mktemp("damaged") / "model")
        weights = damaged((folder / "model.weights.h5").read_bytes(), data)
        replace("model.weights.h5", weights)(folder)
        with contextlib.suppress(ModelError):
            loaded = ElaClassifier.from_pretrained(folder, runtime="keras")
            assert loaded.model.count_params() == crops_classifier().model.count_params()

    @given(data=st.data())
    def test_of_any_kind_to_the_settings_is_typed(
        self, saved_crops, tmp_path_factory, data
    ) -> None:
        folder = linked_copy(saved_crops, tmp_path_factory.mktemp("damaged") / "model")
        write("hf_ela.json", damaged((folder / "hf_ela.json").read_bytes(), data))(folder)
        with contextlib.suppress(ModelError):
            # What still loads gives scores.
            assert 0 <= next(ElaClassifier.from_pretrained(folder).scores([picture()])) <= 1

    @settings(max_examples=8)
    @given(
        kind=st.sampled_from(["reference", "fully_convolutional"]),
        size=st.sampled_from([32, 64, 128]),
        qualities=st.lists(st.integers(50, 95), min_size=1, max_size=4),
        widths=st.lists(st.integers(4, 64), min_size=1, max_size=3),
        patch=st.sampled_from([1, 4, 8]),
        blocks=st.integers(1, 3),
    )
    def test_the_bound_knows_the_size_of_every_network(
        self, kind, size, qualities, widths, patch, blocks
    ) -> None:
        network = f"network={{kind='{kind}'}}"
        if kind == "fully_convolutional":
            network = (
                f"{network[:-1]}, patch={patch}, widths={widths}, blocks={blocks}, dropout=0}}"
            )
        recipe = load_recipe(
            "scratch", [f"input.size={size}", f"ela.qualities={qualities}", network]
        )
        model = build_model(recipe)
        small = sum(12 * width for width in widths) * (blocks + 1) + 6 * 32 + 600
        assert recipe.weights <= model.count_params() <= recipe.weights + small
        layers = max(math.prod(layer.output.shape[1:]) for layer in model.layers)
        assert recipe.largest_layer == recipe.evaluation_views * layers

    def test_the_description_of_keras_is_never_read(self, folder) -> None:
        write("config.json", b'{"module": "os", "class_name": "system"}')(folder)
        loaded = ElaClassifier.from_pretrained(folder, runtime="keras")
        assert loaded.predict(picture()) == crops_classifier().predict(picture())


class TestPlace:
    def test_neither_a_folder_nor_a_repository(self, saved_crops, tmp_path) -> None:
        for source in ("nowhere", "./no/where", "/no/where", "~/model", "", "a/b/c", "../x"):
            with pytest.raises(ModelError, match="repository of"):
                ElaClassifier.from_pretrained(source)
        for path in (tmp_path / "user" / "repo", saved_crops / "hf_ela.json"):
            with pytest.raises(ModelError, match="which is not a folder"):
                ElaClassifier.from_pretrained(path)
        for folder in (saved_crops, str(saved_crops)):
            with pytest.raises(ModelError, match="`revision`"):
                ElaClassifier.from_pretrained(folder, revision="v1")

    def test_a_folder_goes_before_a_repository_of_its_name(
        self, saved_crops, tmp_path, monkeypatch
    ) -> None:
        shutil.copytree(saved_crops, tmp_path / "user" / "repo@v1")
        monkeypatch.chdir(tmp_path)
        assert split_revision("user/repo@v1") == ("user/repo@v1", None)
        assert ElaClassifier.from_pretrained("user/repo@v1").revision is None
        assert split_revision("user/repo@refs/pr/1") == ("user/repo", "refs/pr/1")
        assert split_revision("user/repo") == ("user/repo", None)
        with pytest.raises(ModelError, match="after the @"):
            split_revision("user/repo@")


PREDICT = """
import sys
sys.modules |= dict.fromkeys(sys.argv[3].split())  # as if they were not installed
from hf_ela import ElaClassifier
classifier = ElaClassifier.from_pretrained(sys.argv[1])
(score,) = classifier.scores([sys.argv[2]])
heavy = {"keras", "tensorflow", "jax", "torch", "h5py", "onnx"}
print(score, *(name for name in heavy if sys.modules.get(name)))
try:
    classifier.model
except ImportError as error:
    print(type(error).__name__, error)
"""


def test_prediction_needs_no_keras_and_what_needs_it_says_so(saved_crops, python, tmp_path) -> None:
    images(2)[1].save(tmp_path / "a.png")
    (home := tmp_path / "home").mkdir()
    missing = "keras tensorflow jax torch h5py onnx"
    done = python(
        ["-c", PREDICT, saved_crops, tmp_path / "a.png", missing],
        **dict.fromkeys(("HOME", "XDG_CACHE_HOME"), str(home)),
        ORT_DISABLE_TELEMETRY="",
    )
    assert done.returncode == 0, done.stderr
    assert [*home.iterdir()] == []  # ONNX Runtime would leave what it reports to its maker
    (score,) = ElaClassifier.from_pretrained(saved_crops).scores([tmp_path / "a.png"])
    first, second = done.stdout.splitlines()
    assert first == str(score)
    assert second.startswith("BackendError The Keras runtime requires Keras")
    assert "[jax]" in second


def test_a_process_that_calls_another_host_is_noticed(python) -> None:
    done = python(["-c", "import socket; socket.getaddrinfo('192.0.2.1', 80)"])
    assert done.returncode == 0, done.stderr
    assert CALLED.read_text().startswith("192.0.2.1, by ")
    CALLED.unlink()  # which `nothing_calls_home` looks for after every test


@pytest.mark.second_lane
@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not here")
def test_prediction_makes_no_call_to_the_network(saved_crops, tmp_path) -> None:
    images(1)[0].save(tmp_path / "a.png")
    traced = ["strace", "-f", "-qq", "-e", "trace=network", "-o", tmp_path / "calls"]
    words = [*COMMAND, "predict", tmp_path / "a.png", "--model", saved_crops]
    env = os.environ | {"HOME": str(tmp_path), "ORT_DISABLE_TELEMETRY": ""}
    subprocess.run([*traced, *words], env=env, check=True, capture_output=True)
    assert "INET" not in (tmp_path / "calls").read_text()


FLAT = """
import resource, sys
from hf_ela import ElaClassifier
classifier = ElaClassifier.from_pretrained(sys.argv[1])
paths = [sys.argv[2]] * int(sys.argv[3])
assert sum(1 for score in classifier.scores(paths) if isinstance(score, float)) == len(paths)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.second_lane
def test_memory_does_not_grow_with_the_number_of_files(saved_crops, python, tmp_path) -> None:
    picture(1100, 1000).save(tmp_path / "a.jpg", quality=90)
    peaks = []
    for number in (100, 800):
        done = python(["-c", FLAT, saved_crops, tmp_path / "a.jpg", number])
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout))  # in KiB
    # 700 images of 3 MiB each more; their pixels alone are 2 GiB.
    assert peaks[1] - peaks[0] < 16 * 1024
