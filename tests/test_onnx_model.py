"""Models as ONNX: what a file may be, ONNX Runtime against Keras, saving and loading."""

import contextlib
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession

from bad_files import encode, picture
from conftest import TINY
from hf_ela import ElaClassifier
from hf_ela.ela.views import evaluation_pixels, network_inputs
from hf_ela.errors import ExportError, ImageNotReadableError, ModelError, NotAnImageError
from hf_ela.images.loading import load_image
from hf_ela.models.export import export_onnx
from hf_ela.models.networks import build_model
from hf_ela.models.onnx_runtime import PIXELS, OnnxModel
from hf_ela.recipes.loading import load_recipe

CROPS = load_recipe("default", [*TINY, "input.grid=2"])
RESIZED = load_recipe("reference", ["input.before=64", "input.size=32"])
SIDE = CROPS.pixel_side


def classifier_of(recipe: Any, seed: int = 0) -> ElaClassifier:
    """Random weights, and a low temperature: scores that differ from image to image."""
    network = build_model(recipe)
    rng = np.random.default_rng(seed)
    for weight in network.weights:
        if weight.name == "kernel":
            weight.assign(rng.normal(0, np.prod(weight.shape[:-1]) ** -0.5, weight.shape))
    return ElaClassifier(network, recipe, temperature=0.2, threshold=0.4)


@pytest.fixture(scope="module")
def classifier() -> ElaClassifier:
    return classifier_of(CROPS)


@pytest.fixture(scope="module")
def saved(classifier: ElaClassifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    classifier.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def exported(saved: Path) -> bytes:
    return (saved / "model.onnx").read_bytes()


def images(number: int) -> list[Any]:
    sizes = [(61, 47), (200, 100), (20, 90), (64, 64)]
    return [picture(*sizes[i % 4], seed=i) for i in range(number)]


def means(**ends: Any) -> ModelProto:
    """A model of the right input and output: its views are pixels, its answer twice their mean."""
    nodes = [
        helper.make_node("Concat", ["pixels", "pixels"], ["views"], axis=3),
        helper.make_node("Cast", ["views"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats", "axes"], ["mean"], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "one"], ["column"]),
        helper.make_node("Concat", ["column", "column"], ["probabilities"], axis=1),
    ]
    axes = numpy_helper.from_array(np.array([1, 2, 3]), "axes")
    one = numpy_helper.from_array(np.array([1]), "one")
    pixels = helper.make_tensor_value_info(
        "pixels", ends.get("kind", TensorProto.UINT8), ends.get("given", ["N", SIDE, SIDE, 3])
    )
    output = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 2])
    graph = helper.make_graph(nodes, "means", [pixels], [output], [axes, one])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def edited(edit: Callable[[ModelProto], object]) -> bytes:
    model = means()
    edit(model)
    return bytes(model.SerializeToString())


def external(location: str, **more: str) -> TensorProto:
    """A tensor with its numbers in a file."""
    tensor = TensorProto(name="c", dims=[2], data_type=TensorProto.FLOAT)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def node_with(**attribute: Any) -> Callable[[ModelProto], object]:
    def edit(model: ModelProto) -> None:
        node = model.graph.node.add(op_type="Identity", input=["mean"], output=["copy"])
        node.attribute.add(name="a", **attribute)

    return edit


def constant_text(model: ModelProto) -> None:
    node = model.graph.node.add(op_type="Constant", output=["text"])
    node.attribute.add(name="value_string", s=b"x", type=AttributeProto.STRING)


def in_function(model: ModelProto) -> None:
    model.functions.add(name="f", domain="own")


class TestFile:
    """Each of these would be run, or read, if it were not refused."""

    def test_one_graph_of_standard_operators_is_taken(self) -> None:
        views = np.full((3, SIDE, SIDE, 6), 7, np.uint8)
        found = OnnxModel(edited(lambda model: None), CROPS).probabilities(views)
        assert found.tolist() == [[7, 7]] * 3

    @pytest.mark.parametrize(
        ("edit", "message"),
        [
            (lambda m: m.graph.initializer.append(external("/etc/passwd")), "in another file"),
            (lambda m: m.graph.initializer.append(external("weights.bin")), "in another file"),
            (
                # A place in this process's memory, as ONNX Runtime writes it.
                lambda m: m.graph.initializer.append(external("*/_ORT_MEM_ADDR_/*", offset="4096")),
                "in another file",
            ),
            (node_with(type=AttributeProto.TENSOR, t=external("secret.bin")), "in another file"),
            (
                node_with(type=AttributeProto.TENSORS, tensors=[external("secret.bin")]),
                "in another file",
            ),
            (
                lambda m: m.graph.initializer.add(
                    name="c", dims=[1], data_type=1, data_location=TensorProto.EXTERNAL
                ),
                "in another file",
            ),
            (node_with(type=AttributeProto.GRAPH, g=GraphProto(name="body")), "within a node"),
            (
                node_with(type=AttributeProto.GRAPHS, graphs=[GraphProto(name="body")]),
                "within a node",
            ),
            (in_function, "functions"),
            (lambda m: m.training_info.add(), "training"),
            (lambda m: m.graph.sparse_initializer.add(), "sparse"),
            (lambda m: m.graph.node.add(op_type="Evil", domain="own"), "not of the standard"),
            (lambda m: m.graph.initializer.add(dims=[1], data_type=TensorProto.STRING), "texts"),
            (lambda m: setattr(m.graph.node[1].attribute[0], "i", TensorProto.STRING), "texts"),
            (lambda m: setattr(m.graph.node[1].attribute[0], "i", 2**32 + 8), "texts"),
            (lambda m: m.graph.initializer.add(dims=[1], data_location=1), "in another file"),
            (node_with(type=AttributeProto.TENSOR, t=TensorProto(data_type=8)), "texts"),
            (constant_text, "texts"),
        ],
    )
    def test_what_it_must_not_hold(
        self, edit: Callable[[ModelProto], object], message: str
    ) -> None:
        with pytest.raises(ModelError, match=f"{message}.*do not use it"):
            OnnxModel(edited(edit), CROPS)

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"", "holds one graph. Received: 0 of them"),
            (2 * edited(lambda m: None), "holds one graph. Received: 2 of them"),
            (b"\x28\x01" * 200_001, "more than 200,000 fields"),
            # Fields 20 and 7, training and the graph, to who reads 32 bits of a number.
            (edited(lambda m: None) + b"\xa2\x81\x80\x80\x10\x00", "no protobuf"),
            (b"\xba\x80\x80\x80\x10" + edited(lambda m: None)[1:], "no protobuf|too soon"),
            (b"\x02\x00", "no protobuf"),  # field 0
            # A tensor of the graph: its place 1, and its type 8, in more than 32 bits.
            (b"\x3a\x08\x2a\x06\x70\x81\x80\x80\x80\x10", "in another file"),
            (b"\x3a\x08\x2a\x06\x10\x88\x80\x80\x80\x10", "it has texts"),
            (b"no ONNX", "no protobuf|too soon"),
            (b"\x38\x00", "not laid out as ONNX"),  # the graph as a number
            (b"\x3a" + b"\xff" * 12, "no protobuf"),
            (b"\x0b", "no protobuf"),  # a group, which is no longer in use
            (bytes(8) + b"ORTM" + bytes(99), "ONNX"),  # ONNX Runtime's own layout
            (edited(lambda m: None)[:-9], "too soon"),
            (bytes(2**24), "16,777,216 bytes, where at most"),
        ],
    )
    def test_what_is_no_onnx(self, data: bytes, message: str) -> None:
        with pytest.raises(ModelError, match=message):
            OnnxModel(data, CROPS)

    @pytest.mark.parametrize(
        ("edit", "message"),
        [
            (lambda m: m.graph.node[1].ClearField("input"), "ONNX Runtime can load"),
            (lambda m: m.graph.node[1].input.__setitem__(0, "pixels"), "ONNX Runtime can load"),
            (lambda m: m.graph.node[0].output.__setitem__(0, "x"), "older version.*keras"),
            (lambda m: setattr(m, "ir_version", 9999), "newer than this onnxruntime"),
            (lambda m: m.graph.CopyFrom(means(given=["N", 9, 9, 3]).graph), "another input"),
            (lambda m: m.graph.CopyFrom(means(given=[1, SIDE, SIDE, 3]).graph), "another input"),
            (lambda m: m.graph.CopyFrom(means(given=None).graph), "another input"),
            (lambda m: m.graph.CopyFrom(means(kind=TensorProto.FLOAT).graph), "another input"),
            (lambda m: m.graph.node.add(op_type="Loop", output=["probabilities"]), "b'Loop'"),
            (lambda m: m.graph.output.pop(), "of another model|can load"),
        ],
    )
    def test_what_is_of_another_model(
        self, edit: Callable[[ModelProto], object], message: str
    ) -> None:
        with pytest.raises(ModelError, match=message):
            OnnxModel(edited(edit), CROPS)

    def test_a_file_that_asks_for_all_memory(self) -> None:
        def bomb(model: ModelProto) -> None:
            model.graph.initializer.append(numpy_helper.from_array(np.array([2 * 10**9]), "many"))
            for kind, taken, name in (
                ("ConstantOfShape", ["many"], "big"),
                ("ReduceMean", ["big"], "zero"),
                ("Add", ["mean", "zero"], "same"),
            ):
                model.graph.node.add(op_type=kind, input=taken, output=[name])
            nodes = [*model.graph.node]
            nodes[3].input[0] = "same"
            del model.graph.node[:]
            model.graph.node.extend([*nodes[:3], *nodes[5:], *nodes[3:5]])

        model = OnnxModel(edited(bomb), CROPS)
        with pytest.raises(ModelError, match="4,294,967,296 bytes of memory"):
            model.probabilities(np.zeros((1, SIDE, SIDE, 6), np.uint8))

    def test_an_output_of_another_shape(self) -> None:
        def longer(model: ModelProto) -> None:
            model.graph.node[-1].input[:] = ["column", "column", "column"]
            model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 3

        with pytest.raises(ModelError, match="of another model"):
            OnnxModel(edited(longer), CROPS)

    def test_an_answer_for_other_views_than_asked(self) -> None:
        def one_row(model: ModelProto) -> None:
            model.graph.node[-1].output[0] = "all"
            model.graph.node.add(
                op_type="Slice", input=["all", "zero", "one"], output=["probabilities"]
            )
            model.graph.initializer.append(numpy_helper.from_array(np.array([0]), "zero"))

        model = OnnxModel(edited(one_row), CROPS)
        with pytest.raises(ModelError, match=r"must have the shape \(3, 2\)\. Received: \(1, 2\)"):
            model.probabilities(np.zeros((3, SIDE, SIDE, 6), np.uint8))

    @settings(max_examples=60)
    @given(data=st.data())
    def test_any_damage_is_typed(self, exported: bytes, data: st.DataObject) -> None:
        damaged = bytearray(exported)
        first = data.draw(st.integers(0, len(damaged) - 1))
        damaged[first : first + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
        with contextlib.suppress(ModelError):
            model = OnnxModel(bytes(damaged), CROPS)
            found = model.probabilities(np.zeros((2, SIDE, SIDE, 6), np.uint8))
            assert found.shape == (2, 2)


class TestProbabilities:
    def test_are_those_of_keras(self, classifier: ElaClassifier, exported: bytes) -> None:
        model = OnnxModel(exported, CROPS)
        number = PIXELS // SIDE**2 + 3  # more than one step
        noise = np.random.default_rng(0).integers(0, 256, (number, SIDE, SIDE, 6), np.uint8)
        found = model.probabilities(noise)
        assert (found.shape, found.dtype) == ((number, 2), np.float32)
        one_by_one = [model.probabilities(view[None])[0] for view in noise]
        assert found == pytest.approx(np.array(one_by_one), abs=1e-6)
        assert np.ptp(found[:, 0]) > 0.01

    @pytest.mark.parametrize(
        ("shape", "kind"),
        [
            ((0, SIDE, SIDE, 6), "uint8"),
            ((SIDE, SIDE, 6), "uint8"),
            ((1, SIDE, SIDE, 3), "uint8"),
            ((1, SIDE, SIDE + 1, 6), "uint8"),
            ((1, SIDE, SIDE, 6), "float32"),
        ],
    )
    def test_other_views_are_refused(self, shape: tuple[int, ...], kind: str) -> None:
        model = OnnxModel(edited(lambda model: None), CROPS)
        rule = rf"N x {SIDE} x {SIDE} x 6, N at least 1. Received: {kind} of shape \({shape[0]}, "
        with pytest.raises(ValueError, match=rule):
            model.probabilities(np.zeros(shape, kind))

    @pytest.mark.parametrize("recipe", [CROPS, RESIZED], ids=["crops", "resized"])
    def test_scores_agree_within_a_ten_thousandth(
        self, recipe: Any, tmp_path: Path, request: pytest.FixtureRequest
    ) -> None:
        classifier_of(recipe).save_pretrained(tmp_path / "model")
        by_onnx, by_keras = (
            ElaClassifier.from_pretrained(tmp_path / "model", runtime=runtime)
            for runtime in ("onnx", "keras")
        )
        sources = images(24)
        with contextlib.suppress(pytest.skip.Exception):
            pool = request.getfixturevalue("pool")
            sources += sorted(pool.glob("test/*/*"))[::12]
        scores = [list(one.scores(sources)) for one in (by_onnx, by_keras)]
        assert np.abs(np.subtract(*scores)).max() < 1e-4
        assert np.ptp(scores[0]) > 0.02
        assert by_onnx.explain(sources[0]).scores == pytest.approx(
            by_keras.explain(sources[0]).scores, abs=1e-4
        )

    @pytest.mark.parametrize("overrides", [[], ["ela=none"]], ids=["ela", "pixels"])
    def test_a_file_gives_the_same_entered_at_pixels_and_at_views(
        self, overrides: list[str], tmp_path: Path
    ) -> None:
        recipe = load_recipe("default", [*TINY, *overrides])
        export_onnx(classifier_of(recipe).model, recipe, tmp_path / "model.onnx")
        session = InferenceSession(tmp_path / "model.onnx")
        pixels = evaluation_pixels(load_image(images(2)[1]).pixels, recipe, "as_is", key="")
        (expected,) = session.run(["probabilities"], {"pixels": pixels})
        model = OnnxModel((tmp_path / "model.onnx").read_bytes(), recipe)
        found = model.probabilities(network_inputs(pixels, recipe))
        assert found == pytest.approx(expected, abs=1e-6)


class TestBatches:
    """What `test_classifier` shows of Keras, of ONNX."""

    @pytest.fixture(scope="class")
    @classmethod
    def loaded(cls, saved: Path) -> ElaClassifier:
        return ElaClassifier.from_pretrained(saved)

    def test_refusals_come_in_their_place(self, loaded: ElaClassifier) -> None:
        files = [encode(image, "PNG") for image in images(5)]
        sources = [b"no image", *files[:3], "missing.png", *files[3:], images(1)[0]]
        expected = [loaded.predict(file) for file in files]
        for batch_size in (1, 3, 32):
            found = list(loaded.scores(sources, batch_size=batch_size))
            assert [type(found[i]) for i in (0, 4)] == [NotAnImageError, ImageNotReadableError]
            scores = [score for score in found if isinstance(score, float)]
            by_label = [{entry["label"]: entry["score"] for entry in one} for one in expected]
            assert scores == [*(one["fake"] for one in by_label), scores[0]]

    def test_a_stream_is_drawn_a_batch_at_a_time(self, loaded: ElaClassifier) -> None:
        drawn = 0

        def endless() -> Iterator[bytes]:
            nonlocal drawn
            while True:
                drawn += 1
                yield encode(picture(seed=drawn), "PNG")

        results = loaded.predict(endless(), batch_size=3)
        for number in range(1, 8):
            next(results)
            assert drawn == -(-number // 3) * 3

    def test_no_thread_is_left(self, loaded: ElaClassifier) -> None:
        file = encode(picture(), "PNG")
        started = threading.active_count()
        for sources in ([file] * 50, iter([file] * 50)):
            results = loaded.scores(sources, batch_size=20)
            next(results)
            assert threading.active_count() > started
            del results  # abandoned
            assert threading.active_count() == started
        with pytest.raises(NotAnImageError) as refused:  # the error holds on to what raised it
            loaded.predict([file] * 30 + [b"no image"] + [file] * 30)
        assert threading.active_count() == started
        assert refused.value.name == "<bytes>"


class TestSaved:
    def test_it_is_the_default_where_it_is(self, saved: Path) -> None:
        names = {"config.json", "metadata.json", "model.weights.h5", "hf_ela.json", "model.onnx"}
        assert {path.name for path in saved.iterdir()} == names
        ours = json.loads((saved / "hf_ela.json").read_text("utf-8"))
        assert ours["onnx_sha256"] == sha256((saved / "model.onnx").read_bytes()).hexdigest()
        assert ElaClassifier.from_pretrained(saved).runtime == "onnx"
        assert ElaClassifier.from_pretrained(saved, runtime="keras").runtime == "keras"

    def test_the_network_is_there_when_it_is_asked_for(
        self, saved: Path, classifier: ElaClassifier, tmp_path: Path
    ) -> None:
        loaded = ElaClassifier.from_pretrained(saved)
        assert loaded.model is loaded.model
        for mine, theirs in zip(
            loaded.model.get_weights(), classifier.model.get_weights(), strict=True
        ):
            assert np.array_equal(mine, theirs)
        loaded.save_pretrained(tmp_path / "again", onnx=False)
        again = ElaClassifier.from_pretrained(tmp_path / "again")
        assert (again.runtime, again.threshold) == ("keras", 0.4)
        assert list(again.scores(images(3))) == list(classifier.scores(images(3)))

    def test_of_an_onnx_model_alone_there_is_no_network(self, exported: bytes) -> None:
        alone = ElaClassifier(OnnxModel(exported, CROPS), CROPS)
        assert 0 < next(alone.scores(images(1))) < 1
        with pytest.raises(ModelError, match="made of an ONNX model alone"):
            alone.model  # noqa: B018

    def test_a_model_saved_without_has_none(self, saved: Path, tmp_path: Path) -> None:
        folder = tmp_path / "model"
        classifier_of(CROPS, seed=1).save_pretrained(folder, onnx=False)
        shutil.copy(saved / "model.onnx", folder)  # of another model, and named by nobody
        assert ElaClassifier.from_pretrained(folder).runtime == "keras"
        with pytest.raises(ModelError, match="must have been saved with an ONNX file"):
            ElaClassifier.from_pretrained(folder, runtime="onnx")
        with pytest.raises(ValueError, match=r"`runtime` must be .* Received: 'jax'"):
            ElaClassifier.from_pretrained(folder, runtime="jax")

    def test_a_model_of_schema_1_is_one_without(self, saved: Path, tmp_path: Path) -> None:
        shutil.copytree(saved, folder := tmp_path / "model")
        old = json.loads((folder / "hf_ela.json").read_text("utf-8")) | {"schema": 1}
        del old["onnx_sha256"]
        (folder / "hf_ela.json").write_text(json.dumps(old))
        assert ElaClassifier.from_pretrained(folder).runtime == "keras"

    def test_what_is_missing_or_damaged_is_named(
        self, saved: Path, exported: bytes, tmp_path: Path
    ) -> None:
        shutil.copytree(saved, folder := tmp_path / "model")
        (folder / "model.onnx").write_bytes(exported[:-1] + b"\0")
        with pytest.raises(ModelError, match=r"onnx must have the checksum .* It is damaged"):
            ElaClassifier.from_pretrained(folder)
        (folder / "model.onnx").unlink()
        with pytest.raises(ModelError, match="or take runtime='keras'"):
            ElaClassifier.from_pretrained(folder)
        assert ElaClassifier.from_pretrained(folder, runtime="keras").threshold == 0.4

    def test_weights_are_not_needed(self, saved: Path, tmp_path: Path) -> None:
        for name in ("hf_ela.json", "model.onnx"):
            shutil.copy(saved / name, tmp_path)
        loaded = ElaClassifier.from_pretrained(tmp_path)
        assert 0 < next(loaded.scores(images(1))) < 1
        with pytest.raises(ModelError, match=r"has its weights in model\.weights\.h5"):
            loaded.model  # noqa: B018

    def test_an_export_that_fails_keeps_the_earlier_model(
        self, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shutil.copytree(saved, folder := tmp_path / "model")
        other = classifier_of(CROPS)
        *_, bias = other.model.weights
        bias.assign([np.nan, 0])  # it gives nothing that could be compared
        with pytest.raises(ExportError):
            other.save_pretrained(folder)
        assert [path.name for path in tmp_path.iterdir()] == ["model"]
        assert ElaClassifier.from_pretrained(folder).runtime == "onnx"


PREDICT = """
import sys
sys.modules |= dict.fromkeys(sys.argv[3].split())  # as if they were not installed
from hf_ela import ElaClassifier
classifier = ElaClassifier.from_pretrained(sys.argv[1])
(score,) = classifier.scores([sys.argv[2]])
heavy = {"keras", "tensorflow", "jax", "torch", "h5py", "onnx"}
print(score, *(name for name in heavy if sys.modules.get(name)))
"""


class TestWithoutKeras:
    @pytest.mark.parametrize("missing", ["", "keras tensorflow jax torch h5py onnx tf2onnx"])
    def test_nothing_of_it_is_imported(
        self, saved: Path, python: Any, tmp_path: Path, missing: str
    ) -> None:
        images(2)[1].save(tmp_path / "a.png")
        done = python(["-c", PREDICT, saved, tmp_path / "a.png", missing])
        assert done.returncode == 0, done.stderr
        (score,) = ElaClassifier.from_pretrained(saved).scores([tmp_path / "a.png"])
        assert done.stdout.split() == [str(score)]

    def test_what_needs_it_says_so(self, saved: Path, python: Any, tmp_path: Path) -> None:
        code = PREDICT.replace("(score,) =", "classifier.model #")
        done = python(["-c", code, saved, "a.png", "keras"])
        assert "BackendError: This needs Keras" in done.stderr


FLAT = """
import resource, sys
from hf_ela import ElaClassifier
classifier = ElaClassifier.from_pretrained(sys.argv[1])
paths = [sys.argv[2]] * int(sys.argv[3])
assert sum(1 for score in classifier.scores(paths) if isinstance(score, float)) == len(paths)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.second_lane
def test_memory_does_not_grow_with_the_number_of_files(
    saved: Path, python: Any, tmp_path: Path
) -> None:
    picture(1100, 1000).save(tmp_path / "a.jpg", quality=90)
    peaks = []
    for number in (100, 800):
        done = python(["-c", FLAT, saved, tmp_path / "a.jpg", number])
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout))  # in KiB
    # 700 images of 3 MiB each more; their pixels alone are 2 GiB.
    assert peaks[1] - peaks[0] < 16 * 1024
