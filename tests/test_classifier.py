import contextlib
import io
import json
import math
import shutil
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bad_files import encode, picture
from hf_ela import ElaClassifier
from hf_ela.backend import keras
from hf_ela.ela.views import evaluation_views
from hf_ela.errors import ImageNotReadableError, ModelError, NotAnImageError
from hf_ela.hub.locate import split_revision
from hf_ela.models.detector import image_logits, keras_probabilities
from hf_ela.models.networks import build_model
from hf_ela.recipes.loading import load_recipe
from hf_ela.recipes.schema import Recipe

# Keras reads a TensorFlow variable by an interface that NumPy 2 calls old.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

TINY = ("input.size=32", "network.widths=[4, 8]", "network.blocks=1", "ela.qualities=[75, 95]")


def tiny_classifier(seed: int = 0, **settings: Any) -> ElaClassifier:
    """Random weights large enough for scores that differ from image to image."""
    recipe = load_recipe("default", TINY)
    network = build_model(recipe)
    rng = np.random.default_rng(seed)
    for weight in network.weights:
        values = rng.normal(0, 0.4, weight.shape)
        weight.assign(np.abs(values) + 0.5 if weight.name == "moving_variance" else values)
    return ElaClassifier(network, recipe, **settings)


def images(number: int) -> list[Image.Image]:
    sizes = [(61, 47), (200, 100), (20, 90), (64, 64)]
    return [picture(*sizes[i % 4], seed=i) for i in range(number)]


def fake_scores(predictions: Any) -> list[float]:
    return [entry["score"] for one in predictions for entry in one if entry["label"] == "fake"]


@pytest.fixture(scope="module")
def classifier() -> ElaClassifier:
    return tiny_classifier(temperature=1.7, threshold=0.4)


@pytest.fixture(scope="module")
def saved(classifier: ElaClassifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    classifier.save_pretrained(folder, onnx=False)
    return folder


class TestPredict:
    def test_is_the_mean_logit_over_the_temperature(self, classifier: ElaClassifier) -> None:
        image = picture(200, 100)
        views = evaluation_views(image, classifier.recipe, "as_is", key="")
        assert views.shape == (4, 32, 32, 9)
        probabilities = np.asarray(classifier.model(views), np.float64)
        logits = [math.log(fake) - math.log(real) for fake, real in probabilities]
        expected = 1 / (1 + math.exp(-np.mean(logits) / 1.7))
        assert 0.01 < expected < 0.99
        by_label = {entry["label"]: entry["score"] for entry in classifier.predict(image)}
        assert by_label == pytest.approx({"fake": expected, "real": 1 - expected}, abs=1e-6)

    def test_first_entry_is_the_label_by_the_threshold(self) -> None:
        low, high = (tiny_classifier(threshold=threshold) for threshold in (0.0, 1.0))
        assert [entry["label"] for entry in low.predict(picture())] == ["fake", "real"]
        assert [entry["label"] for entry in high.predict(picture())] == ["real", "fake"]
        assert fake_scores([low.predict(picture())]) == fake_scores([high.predict(picture())])
        assert (low.label(0.0), high.label(0.999), high.label(1.0)) == ("fake", "real", "fake")

    def test_abstains_only_when_asked_and_only_in_the_band(self, classifier: ElaClassifier) -> None:
        many = images(4)
        plain = classifier.predict(many)
        ordered = sorted(fake_scores(plain))
        band = (min(ordered[1], 0.4), max(ordered[2], 0.4))  # its ends belong to it
        unsure = ElaClassifier(classifier.model, classifier.recipe, 1.7, 0.4, band)
        assert unsure.predict(many) == plain
        found = unsure.predict(many, abstain=True)
        for answer, expected in zip(found, plain, strict=True):
            (fake,) = fake_scores([expected])
            assert unsure.is_uncertain(fake) == (band[0] <= fake <= band[1])
            if unsure.is_uncertain(fake):
                first, *rest = answer
                assert first == {"label": "uncertain", "score": expected[0]["score"]}
                assert rest == expected
            else:
                assert answer == expected
        assert 2 <= sum(len(answer) == 3 for answer in found) < 4
        assert unsure.predict(many[0], abstain=True) == found[0]
        assert list(unsure.predict(iter(many), abstain=True)) == found
        # A model without a band always decides.
        assert classifier.predict(many, abstain=True) == plain

    def test_is_sorted_by_score_at_one_half(self) -> None:
        predictions = [
            one for seed in range(10) for one in tiny_classifier(seed).predict(images(4))
        ]
        assert {one[0]["label"] for one in predictions} == {"fake", "real"}
        assert all(first["score"] >= second["score"] for first, second in predictions)

    @settings(max_examples=15)
    @given(number=st.integers(1, 7), batch_size=st.integers(1, 8))
    def test_batches_change_nothing(
        self, classifier: ElaClassifier, number: int, batch_size: int
    ) -> None:
        many = classifier.predict(images(number), batch_size=batch_size)
        one_by_one = [classifier.predict(image) for image in images(number)]
        assert fake_scores(many) == pytest.approx(fake_scores(one_by_one), abs=1e-6)
        assert len({round(score, 4) for score in fake_scores(many)}) == number

    def test_takes_one_image_of_every_kind(self, classifier: ElaClassifier, tmp_path: Path) -> None:
        image = picture()
        data = encode(image, "PNG")
        path = tmp_path / "a.png"
        path.write_bytes(data)
        kinds: list[Any] = [str(path), path, data, bytearray(data), memoryview(data)]
        kinds += [io.BytesIO(data), image, np.asarray(image)]
        expected = classifier.predict(image)
        assert [classifier.predict(kind) for kind in kinds] == [expected] * len(kinds)
        with path.open("rb") as file:
            assert classifier.predict(file) == expected

    def test_gives_a_list_for_a_list(self, classifier: ElaClassifier) -> None:
        expected = [classifier.predict(picture())]
        assert classifier.predict([picture()]) == expected
        assert classifier.predict((picture(),)) == expected
        assert classifier.predict([]) == []

    def test_draws_one_batch_at_a_time(self, classifier: ElaClassifier) -> None:
        drawn = 0

        def endless() -> Iterator[Image.Image]:
            nonlocal drawn
            while True:
                drawn += 1
                yield picture(seed=drawn)

        results = classifier.predict(endless(), batch_size=3)
        assert drawn == 0
        first = [next(results) for _ in range(3)]
        assert drawn == 3
        next(results)
        assert drawn == 6
        assert first == classifier.predict([picture(seed=i) for i in (1, 2, 3)], batch_size=3)

    def test_raises_the_refusal_of_an_image(self, classifier: ElaClassifier) -> None:
        with pytest.raises(ImageNotReadableError, match=r"^missing\.png: "):
            classifier.predict("missing.png")
        with pytest.raises(ImageNotReadableError, match=r"^missing\.png: "):
            classifier.predict([picture(), "missing.png"])
        results = classifier.predict(iter([picture(), b"text, not an image", picture()]))
        assert next(results) == classifier.predict(picture())
        with pytest.raises(NotAnImageError):
            next(results)

    def test_scores_gives_refusals_in_place(self, classifier: ElaClassifier) -> None:
        sources = [b"text, not an image", *images(3), "missing.png", *images(2), b"x" * 99]
        for batch_size in (1, 2, 32):
            found = list(classifier.scores(sources, batch_size=batch_size))
            refused = [type(score) for score in found if not isinstance(score, float)]
            assert refused == [NotAnImageError, ImageNotReadableError, NotAnImageError]
            assert [found.index(score) for score in found if not isinstance(score, float)] == [
                0,
                4,
                7,
            ]
            expected = fake_scores(classifier.predict([*images(3), *images(2)]))
            assert [s for s in found if isinstance(s, float)] == pytest.approx(expected, abs=1e-6)

    def test_refuses_what_is_no_image(self, classifier: ElaClassifier) -> None:
        with pytest.raises(TypeError, match="Received: int"):
            classifier.predict(5)
        with pytest.raises(ValueError, match="`batch_size` must be at least 1"):
            classifier.predict([picture()], batch_size=0)

    def test_shows_progress_on_standard_error(
        self, classifier: ElaClassifier, capfd: pytest.CaptureFixture[str]
    ) -> None:
        quiet = classifier.predict(images(2))
        assert capfd.readouterr() == ("", "")
        assert classifier.predict(images(2), progress=True) == quiet
        out, err = capfd.readouterr()
        assert out == ""
        assert "100%" in err

    def test_scores_real_images(self, classifier: ElaClassifier, pool: Path) -> None:
        files = [
            path for kind in ("fake", "real") for path in sorted((pool / "test" / kind).iterdir())
        ]
        predictions = classifier.predict(files[:4] + files[-4:])
        assert len({round(score, 6) for score in fake_scores(predictions)}) == 8
        assert all(0 < score < 1 for score in fake_scores(predictions))


class TestImageLogits:
    def views(self, classifier: ElaClassifier, number: int) -> list[np.ndarray]:
        recipe = classifier.recipe
        return [evaluation_views(image, recipe, "as_is", key="") for image in images(number)]

    def test_is_what_predict_is_built_on(self, classifier: ElaClassifier) -> None:
        judge = keras_probabilities(classifier.model)
        logits = image_logits(judge, self.views(classifier, 5), batch_size=2)
        assert logits.dtype == np.float64
        expected = 1 / (1 + np.exp(-logits / 1.7))
        scores = fake_scores(classifier.predict(images(5), batch_size=2))
        assert scores == pytest.approx(expected.tolist(), rel=1e-12)

    def test_takes_an_iterator_and_nothing(self, classifier: ElaClassifier) -> None:
        views = self.views(classifier, 3)
        judge = keras_probabilities(classifier.model)
        expected = image_logits(judge, views).tolist()
        assert image_logits(judge, iter(views)).tolist() == expected
        assert len(expected) == 3
        assert image_logits(judge, []).shape == (0,)

    def test_stays_finite_when_the_softmax_is_saturated(self) -> None:
        sure = tiny_classifier(temperature=0.05)
        *_, bias = sure.model.weights
        for sign, score in ((1, 1.0), (-1, 0.0)):
            bias.assign([sign * 1e4, 0])
            (logit,) = image_logits(keras_probabilities(sure.model), self.views(sure, 1))
            assert logit == pytest.approx(sign * 87.3, abs=0.1)
            assert fake_scores([sure.predict(picture())]) == [score]

    def test_refuses_a_diverged_network(self) -> None:
        diverged = tiny_classifier()
        *_, bias = diverged.model.weights
        bias.assign([np.nan, 0])
        with pytest.raises(ModelError, match="diverged"):
            diverged.predict(picture())


class TestSaving:
    def test_round_trip_is_exact(self, classifier: ElaClassifier, saved: Path) -> None:
        loaded = ElaClassifier.from_pretrained(saved)
        assert loaded.predict(images(5)) == classifier.predict(images(5))
        assert loaded.recipe == classifier.recipe
        assert (loaded.temperature, loaded.threshold, loaded.data) == (1.7, 0.4, None)
        assert loaded.labels == ("fake", "real")

    def test_writes_keras_own_layout_and_ours(self, saved: Path) -> None:
        names = {"config.json", "metadata.json", "model.weights.h5", "hf_ela.json"}
        assert {path.name for path in saved.iterdir()} == names
        assert [path.name for path in saved.parent.iterdir()] == ["model"]
        ours = json.loads((saved / "hf_ela.json").read_text("utf-8"))
        assert (ours["schema"], ours["onnx_sha256"]) == (4, None)
        assert ours["labels"] == ["fake", "real"]
        assert Recipe.model_validate(ours["recipe"]).input_shape == (32, 32, 9)
        digest = sha256((saved / "model.weights.h5").read_bytes()).hexdigest()
        assert ours["weights_sha256"] == digest
        assert {"hf_ela", "keras", "backend", "pillow", "ela"} <= set(ours["versions"])

    def test_keeps_the_uncertain_band(self, classifier: ElaClassifier, tmp_path: Path) -> None:
        unsure = ElaClassifier(classifier.model, classifier.recipe, 1.7, 0.4, (0.3, 0.45))
        unsure.save_pretrained(tmp_path / "model", onnx=False)
        assert ElaClassifier.from_pretrained(tmp_path / "model").uncertain == (0.3, 0.45)

    def test_a_model_of_schema_2_has_no_band(self, saved: Path, tmp_path: Path) -> None:
        shutil.copytree(saved, folder := tmp_path / "model")
        old = json.loads((folder / "hf_ela.json").read_text("utf-8")) | {"schema": 2}
        del old["uncertain"], old["recipe"]["calibration"]["certain"]
        (folder / "hf_ela.json").write_text(json.dumps(old))
        loaded = ElaClassifier.from_pretrained(folder)
        assert (loaded.uncertain, loaded.threshold) == (None, 0.4)

    def test_a_model_of_schema_3_sees_no_pixels(self, tmp_path: Path) -> None:
        recipe = load_recipe("default", [*TINY, "ela.with_pixels=false"])
        alone = ElaClassifier(build_model(recipe), recipe)
        alone.save_pretrained(folder := tmp_path / "model", onnx=False)
        old = json.loads((folder / "hf_ela.json").read_text("utf-8")) | {"schema": 3}
        del old["recipe"]["ela"]["with_pixels"]
        (folder / "hf_ela.json").write_text(json.dumps(old))
        loaded = ElaClassifier.from_pretrained(folder)
        assert loaded.recipe == recipe
        assert loaded.predict(picture()) == alone.predict(picture())

    def test_keras_alone_loads_it(self, classifier: ElaClassifier, saved: Path) -> None:
        alone = keras.saving.load_model(saved)
        views = evaluation_views(picture(), classifier.recipe, "as_is", key="")
        expected = classifier.model.predict_on_batch(views)
        assert alone.predict_on_batch(views).tolist() == expected.tolist()

    def test_keeps_data_and_reads_a_run_folder(
        self, classifier: ElaClassifier, tmp_path: Path
    ) -> None:
        data = {"id": "art", "revision": "0" * 40, "splits": {"train": 5}}
        named = ElaClassifier(classifier.model, classifier.recipe, data=data)
        named.save_pretrained(tmp_path / "run" / "weights", onnx=False)
        assert ElaClassifier.from_pretrained(str(tmp_path / "run")).data == data

    def test_leaves_training_state_out(self, tmp_path: Path) -> None:
        recipe = load_recipe("default", TINY)
        keras.config.set_dtype_policy("mixed_float16")
        try:
            network = build_model(recipe)
            network.compile("adam", "categorical_crossentropy")
            network.fit(np.zeros((2, *recipe.input_shape), np.uint8), np.eye(2), verbose=0)
            ElaClassifier(network, recipe).save_pretrained(tmp_path / "model", onnx=False)
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

    def test_replaces_a_saved_model(self, saved: Path, tmp_path: Path) -> None:
        folder = tmp_path / "model"
        shutil.copytree(saved, folder)
        other = tiny_classifier(seed=1)
        other.save_pretrained(folder, onnx=False)
        assert ElaClassifier.from_pretrained(folder).predict(picture()) == other.predict(picture())
        assert [path.name for path in tmp_path.iterdir()] == ["model"]

    def test_a_failure_keeps_the_earlier_model(
        self, classifier: ElaClassifier, saved: Path, tmp_path: Path
    ) -> None:
        folder = tmp_path / "model"
        shutil.copytree(saved, folder)
        with pytest.raises(ValueError, match="temperature"):
            tiny_classifier(seed=1, temperature=-1.0).save_pretrained(folder, onnx=False)
        loaded = ElaClassifier.from_pretrained(folder)
        assert loaded.predict(picture()) == classifier.predict(picture())
        assert [path.name for path in tmp_path.iterdir()] == ["model"]

    def test_refuses_to_replace_anything_else(
        self, classifier: ElaClassifier, tmp_path: Path
    ) -> None:
        notes = tmp_path / "notes.txt"
        notes.write_text("mine")
        for place in (tmp_path, notes):
            with pytest.raises(ModelError, match="Choose another folder"):
                classifier.save_pretrained(place, onnx=False)
        assert notes.read_text() == "mine"
        assert list(tmp_path.iterdir()) == [notes]


def change(**values: Any) -> Callable[[Path], None]:
    def changed(folder: Path) -> None:
        file = folder / "hf_ela.json"
        settings = json.loads(file.read_text("utf-8"))
        for key, value in values.items():
            *sections, last = key.split("__")
            target = settings
            for section in sections:
                target = target[section]
            target[last] = value
        file.write_text(json.dumps(settings), "utf-8")

    return changed


def write(name: str, data: bytes) -> Callable[[Path], None]:
    return lambda folder: [(folder / name).write_bytes(data), None][1]


def flip_a_bit(folder: Path) -> None:
    file = folder / "model.weights.h5"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def weights_that_are_no_hdf5(folder: Path) -> None:
    write("model.weights.h5", b"no HDF5")(folder)
    change(weights_sha256=sha256(b"no HDF5").hexdigest())(folder)


def rewrite(edit: Callable[[h5py.File, Path], object]) -> Callable[[Path], None]:
    """Edit the file of weights, and state its new checksum."""

    def changed(folder: Path) -> None:
        path = folder / "model.weights.h5"
        with h5py.File(path, "r+") as file:
            edit(file, folder.parent)
        change(weights_sha256=sha256(path.read_bytes()).hexdigest())(folder)

    return changed


BIAS = "layers/dense/vars/1"


def secret(folder: Path) -> Path:
    """The numbers of another file."""
    path = folder / "secret.h5"
    with h5py.File(path, "w") as file:
        file["numbers"] = np.zeros(2, np.float32)
    return path


def put(file: h5py.File, name: str, item: object) -> None:
    del file[name]
    file[name] = item


def external_storage(file: h5py.File, beside: Path) -> None:
    del file[BIAS]
    (beside / "secret.bin").write_bytes(bytes(8))
    stored = [(str(beside / "secret.bin"), 0, 8)]
    file.create_dataset(BIAS, (2,), np.float32, external=stored)


def virtual(file: h5py.File, beside: Path) -> None:
    del file[BIAS]
    layout = h5py.VirtualLayout((2,), np.float32)
    layout[:] = h5py.VirtualSource(secret(beside), "numbers", (2,))
    file.create_virtual_dataset(BIAS, layout)


def nested(file: h5py.File, beside: Path) -> None:
    file["layers/dense/vars/deep"] = file["layers"]  # a group within itself


class TestDamage:
    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            (shutil.rmtree, "which is no folder. Train a model"),
            (lambda folder: (folder / "hf_ela.json").unlink(), "must hold hf_ela.json"),
            (lambda folder: (folder / "model.weights.h5").unlink(), "without it. Copy or download"),
            (write("hf_ela.json", b'{"schema": 1,'), "must be JSON"),
            (write("hf_ela.json", b"\xff\xfe{}"), "must be JSON"),
            (write("hf_ela.json", b"[" * 100_000), "must be JSON"),
            (write("hf_ela.json", b"[]"), "is not valid"),
            (write("hf_ela.json", b"{}"), "`weights_sha256`: Field required"),
            (change(schema=5, novelty=5), "Received: schema=5, of a newer version. Upgrade"),
            (change(novelty=5), "`novelty`"),
            (change(labels=["real", "fake"]), "`labels"),
            (change(temperature=0), "`temperature`"),
            (change(threshold=float("nan")), "must be JSON"),
            (change(threshold=2), "`threshold`"),
            (change(uncertain=[0.1]), "`uncertain"),
            (change(uncertain=[0.1, 1.5]), "`uncertain"),
            *(
                (change(uncertain=band), "with the threshold in between")
                for band in ([0.5, 0.6], [0.1, 0.3], [0.6, 0.3])
            ),
            (change(recipe__input__size="32"), "`recipe.input"),
            (change(recipe__ela__qualities=[0]), "`quality` must be an integer from 1 to 100"),
            (flip_a_bit, "Received: .*weights.h5 with [0-9a-f]{64}. It is damaged"),
            (change(recipe__network__widths=[8, 8]), "must fit the network of the recipe"),
            (change(recipe__network__blocks=2), "must fit the network of the recipe"),
            (weights_that_are_no_hdf5, "must fit the network of the recipe"),
            (write("hf_ela.json", b" " * 2**24 + b"{}"), "at most 16,777,216 bytes"),
            (write("hf_ela.json", b'{"schema": 1' + b"0" * 9999 + b"}"), "must be JSON"),
            (change(data={"threshold": float("inf")}), "must be JSON"),
            (change(**{f"novelty{i}": i for i in range(999)}), "Copy the folder again"),
            (
                change(recipe__network={"kind": "reference"}, recipe__input__size=1024),
                r"weights .* at most 268,435,456 .* about 2,114,0",
            ),
            (
                change(
                    recipe__network__widths=[1024] * 2,
                    recipe__network__patch=1,
                    recipe__input__size=1024,
                ),
                "layers .* at most 268,435,456 .* about 4,294,967,296",
            ),
        ],
    )
    def test_is_named(
        self, saved: Path, tmp_path: Path, damage: Callable[[Path], object], message: str
    ) -> None:
        folder = tmp_path / "model"
        shutil.copytree(saved, folder)
        damage(folder)
        with pytest.raises(ModelError, match=message):
            ElaClassifier.from_pretrained(folder)

    @pytest.mark.parametrize(
        ("edit", "message"),
        [
            (
                lambda f, beside: put(f, BIAS, h5py.ExternalLink(secret(beside), "numbers")),
                r"layers/dense/vars/1 is a link \(ExternalLink\)",
            ),
            (
                lambda f, beside: put(f, "layers/dense", h5py.ExternalLink(secret(beside), "/")),
                r"layers/dense is a link \(ExternalLink\)",
            ),
            (lambda f, _: put(f, BIAS, h5py.SoftLink("/layers")), r"is a link \(SoftLink\)"),
            (external_storage, "vars/1 has its numbers in another file"),
            (virtual, "vars/1 has its numbers in another file"),
            (lambda f, _: put(f, BIAS, np.dtype("f4")), "vars/1 is a Datatype"),
            (lambda f, _: put(f, BIAS, "text"), "vars/1 holds object, not numbers"),
            (lambda f, _: put(f, BIAS, h5py.Empty("f4")), "vars/1 holds float32, not numbers"),
            (
                lambda f, _: f.create_dataset("bomb", (2**40,), "f4", chunks=(2**20,)),
                "bomb is stored in chunks",
            ),
            (lambda f, _: f.create_dataset("bomb", (2**40,), "f4"), "arrays of more than"),
            (nested, "nested deeper than 8"),
            (lambda f, _: [f.create_group(f"g{i}") for i in range(50_001)], "more than 50,000"),
            (lambda f, _: put(f, BIAS, np.zeros(3, np.float32)), "of which Keras says"),
            (lambda f, _: put(f, BIAS, np.zeros((1, 2), np.float32)), "of which Keras says"),
        ],
    )
    def test_weights_are_numbers_of_their_own_file(
        self,
        saved: Path,
        tmp_path: Path,
        edit: Callable[[h5py.File, Path], object],
        message: str,
    ) -> None:
        folder = tmp_path / "model"
        shutil.copytree(saved, folder)
        rewrite(edit)(folder)
        with pytest.raises(ModelError, match=message):
            ElaClassifier.from_pretrained(folder)

    @settings(max_examples=40)
    @given(data=st.data())
    def test_any_damage_to_the_weights_is_typed(
        self,
        classifier: ElaClassifier,
        saved: Path,
        tmp_path_factory: pytest.TempPathFactory,
        data: st.DataObject,
    ) -> None:
        folder = tmp_path_factory.mktemp("damaged") / "model"
        shutil.copytree(saved, folder)
        weights = bytearray((folder / "model.weights.h5").read_bytes())
        first = data.draw(st.integers(0, len(weights) - 1))
        weights[first : first + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
        (folder / "model.weights.h5").write_bytes(weights)
        change(weights_sha256=sha256(weights).hexdigest())(folder)
        with contextlib.suppress(ModelError):
            loaded = ElaClassifier.from_pretrained(folder)
            assert loaded.model.count_params() == classifier.model.count_params()

    @settings(max_examples=20)
    @given(
        kind=st.sampled_from(["reference", "fully_convolutional"]),
        size=st.sampled_from([32, 64, 128]),
        qualities=st.lists(st.integers(50, 95), min_size=1, max_size=4),
        widths=st.lists(st.integers(4, 64), min_size=1, max_size=3),
        patch=st.sampled_from([1, 4, 8]),
        blocks=st.integers(1, 3),
    )
    def test_the_bound_knows_the_size_of_every_network(
        self, kind: str, size: int, qualities: list[int], widths: list[int], patch: int, blocks: int
    ) -> None:
        network = f"network={{kind='{kind}'}}"
        if kind == "fully_convolutional":
            network = (
                f"{network[:-1]}, patch={patch}, widths={widths}, blocks={blocks}, dropout=0}}"
            )
        recipe = load_recipe(
            "default", [f"input.size={size}", f"ela.qualities={qualities}", network]
        )
        model = build_model(recipe)
        small = sum(12 * width for width in widths) * (blocks + 1) + 6 * 32 + 600
        assert recipe.weights <= model.count_params() <= recipe.weights + small
        views = recipe.evaluation_views
        layers = max(math.prod(layer.output.shape[1:]) for layer in model.layers)
        assert recipe.largest_layer == views * layers

    def test_neither_a_folder_nor_a_repository(self, saved: Path, tmp_path: Path) -> None:
        for source in ("nowhere", "./no/where", "/no/where", "~/model", "", "a/b/c", "../x"):
            with pytest.raises(ModelError, match="or a repository of the Hub, `user/repo`"):
                ElaClassifier.from_pretrained(source)
        with pytest.raises(ModelError, match="which is no folder"):
            ElaClassifier.from_pretrained(tmp_path / "user" / "repo")
        for source in (saved, str(saved)):
            with pytest.raises(ModelError, match="`revision` goes with a repository"):
                ElaClassifier.from_pretrained(source, revision="v1")

    def test_a_folder_goes_before_a_repository_of_its_name(
        self, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shutil.copytree(saved, tmp_path / "user" / "repo@v1")
        monkeypatch.chdir(tmp_path)
        assert split_revision("user/repo@v1") == ("user/repo@v1", None)
        assert ElaClassifier.from_pretrained("user/repo@v1").revision is None
        assert split_revision("user/repo@refs/pr/1") == ("user/repo", "refs/pr/1")
        assert split_revision("user/repo") == ("user/repo", None)
        with pytest.raises(ModelError, match="after the @"):
            split_revision("user/repo@")

    def test_links_of_the_owner_are_followed(self, saved: Path, tmp_path: Path) -> None:
        for path in saved.iterdir():
            (tmp_path / path.name).symlink_to(path)
        assert ElaClassifier.from_pretrained(tmp_path).threshold == 0.4

    def test_a_file_is_no_model(self, saved: Path) -> None:
        with pytest.raises(ModelError, match="which is no folder"):
            ElaClassifier.from_pretrained(saved / "hf_ela.json")

    def test_the_description_of_keras_is_never_read(
        self, classifier: ElaClassifier, saved: Path, tmp_path: Path
    ) -> None:
        folder = tmp_path / "model"
        shutil.copytree(saved, folder)
        (folder / "config.json").write_text('{"module": "os", "class_name": "system"}')
        loaded = ElaClassifier.from_pretrained(folder)
        assert loaded.predict(picture()) == classifier.predict(picture())

    @settings(max_examples=60)
    @given(data=st.data())
    def test_any_damage_to_the_settings_is_typed(
        self,
        classifier: ElaClassifier,
        saved: Path,
        tmp_path_factory: pytest.TempPathFactory,
        data: st.DataObject,
    ) -> None:
        folder = tmp_path_factory.mktemp("damaged") / "model"
        shutil.copytree(saved, folder)
        text = bytearray((folder / "hf_ela.json").read_bytes())
        first = data.draw(st.integers(0, len(text) - 1))
        length = data.draw(st.integers(0, 12))
        text[first : first + length] = data.draw(st.binary(max_size=4))
        (folder / "hf_ela.json").write_bytes(text)
        with contextlib.suppress(ModelError):
            # What still loads has the network that the weights belong to.
            loaded = ElaClassifier.from_pretrained(folder)
            assert loaded.model.count_params() == classifier.model.count_params()
