"""What a saved network may be, as ONNX and as HDF5: else it is refused before it is run or read."""

import contextlib
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, helper, numpy_helper

from bad_files import damaged
from conftest import TINY
from hf_ela.backend import keras
from hf_ela.errors import ModelError
from hf_ela.models.guards import check_weights
from hf_ela.models.onnx_runtime import PIXELS, OnnxModel
from hf_ela.recipes.loading import load_recipe
from networks import CROPS

RECIPE = load_recipe("default", [*TINY, "ela=none", "network.widths=[4]"])
SHAPE = RECIPE.input_shape


def means(given: Any = ("N", *SHAPE), kind: int = TensorProto.UINT8) -> ModelProto:
    """A network of one layer: its answer is twice the mean of the views."""
    nodes = [
        helper.make_node("Cast", ["views"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats", "axes"], ["mean"], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "one"], ["column"]),
        helper.make_node("Concat", ["column", "column"], ["probabilities"], axis=1),
    ]
    axes = numpy_helper.from_array(np.array([1, 2, 3]), "axes")
    one = numpy_helper.from_array(np.array([1]), "one")
    views = helper.make_tensor_value_info("views", kind, given)
    output = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 2])
    graph = helper.make_graph(nodes, "means", [views], [output], [axes, one])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def edited(edit: Callable[[ModelProto], object] = lambda model: None) -> bytes:
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


def cast_to(kind: int) -> Callable[[ModelProto], object]:
    return lambda model: setattr(model.graph.node[0].attribute[0], "i", kind)


def put_before_the_end(model: ModelProto, *nodes: tuple[str, list[str], str]) -> None:
    """Put nodes after the mean; if one gives "same", the end is made of that."""
    *first, unsqueeze, concat = model.graph.node
    if nodes[-1][2] == "same":
        unsqueeze.input[0] = "same"
    new = [
        helper.make_node(kind, given, [name], keepdims=0)
        if kind == "ReduceMean"
        else helper.make_node(kind, given, [name])
        for kind, given, name in nodes
    ]
    kept = [*first, *new, unsqueeze, concat]
    del model.graph.node[:]
    model.graph.node.extend(kept)


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


OTHER_FILE, TEXTS = "numbers in another file", "it has texts"
BODY = GraphProto(name="body")


class TestOnnx:
    def test_one_graph_of_our_operators_is_taken(self) -> None:
        number = PIXELS // SHAPE[0] ** 2 + 3  # more than one step
        views = np.full((number, *SHAPE), 7, np.uint8)
        found = OnnxModel(edited(), RECIPE).probabilities(views)
        assert (found.tolist(), found.dtype) == ([[7, 7]] * number, np.float32)

    @pytest.mark.parametrize(
        ("edit", "message"),
        [
            (lambda m: m.graph.initializer.append(external("/etc/passwd")), OTHER_FILE),
            (lambda m: m.graph.initializer.append(external("weights.bin")), OTHER_FILE),
            (
                # A place in this process's memory, as ONNX Runtime writes it.
                lambda m: m.graph.initializer.append(external("*/_ORT_MEM_ADDR_/*", offset="4096")),
                OTHER_FILE,
            ),
            (node_with(type=AttributeProto.TENSOR, t=external("secret.bin")), OTHER_FILE),
            (node_with(type=AttributeProto.TENSORS, tensors=[external("secret.bin")]), OTHER_FILE),
            (node_with(type=AttributeProto.GRAPH, g=BODY), "within a node"),
            (node_with(type=AttributeProto.GRAPHS, graphs=[BODY]), "within a node"),
            (lambda m: m.functions.add(name="f", domain="own"), "functions"),
            (lambda m: m.training_info.add(), "training"),
            (lambda m: m.graph.sparse_initializer.add(), "sparse"),
            (lambda m: m.graph.node.add(op_type="Relu", domain="own"), "outside of the ONNX"),
            (lambda m: m.graph.node.add(op_type="Loop", output=["x"]), "the operator 'Loop'"),
            (lambda m: m.graph.node.add(op_type="Evil", domain="own"), "the operator 'Evil'|out"),
            (lambda m: m.graph.initializer.add(dims=[1], data_type=TensorProto.STRING), TEXTS),
            (cast_to(TensorProto.STRING), TEXTS),
            (cast_to(2**32 + 8), TEXTS),
            (lambda m: m.graph.initializer.add(dims=[1], data_location=1), OTHER_FILE),
            (node_with(type=AttributeProto.TENSOR, t=TensorProto(data_type=8)), TEXTS),
            (constant_text, TEXTS),
        ],
    )
    def test_what_would_be_run_or_read_is_refused(self, edit, message) -> None:
        with pytest.raises(ModelError, match=f"{message}.*do not use it"):
            OnnxModel(edited(edit), RECIPE)

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"", "cannot load"),
            (b"\x28\x01" * 200_001, "more than 200,000 fields"),
            # Fields 20 and 7, training and the graph, to who reads 32 bits of a number.
            (edited() + b"\xa2\x81\x80\x80\x10\x00", "not valid protobuf"),
            (b"\xba\x80\x80\x80\x10" + edited()[1:], "not valid protobuf|too soon"),
            (b"\x02\x00", "not valid protobuf"),  # field 0
            # A tensor of the graph: its place 1, and its type 8, in more than 32 bits.
            (b"\x3a\x08\x2a\x06\x70\x81\x80\x80\x80\x10", OTHER_FILE),
            (b"\x3a\x08\x2a\x06\x10\x88\x80\x80\x80\x10", TEXTS),
            (b"no ONNX", "not valid protobuf|too soon"),
            (b"\x38\x00", "not laid out as ONNX"),  # the graph as a number
            (b"\x3a" + b"\xff" * 12, "not valid protobuf"),
            (b"\x0b", "not valid protobuf"),  # a group, which is no longer in use
            (bytes(8) + b"ORTM" + bytes(99), "not valid protobuf"),  # ONNX Runtime's own layout
            (edited()[:-9], "too soon"),
            (bytes(2**24), "16,777,216 bytes, more than the limit"),
        ],
    )
    def test_what_is_not_onnx_is_refused(self, data, message) -> None:
        with pytest.raises(ModelError, match=message):
            OnnxModel(data, RECIPE)

    def test_two_graphs_are_checked_as_readers_join_them(self) -> None:
        with pytest.raises(ModelError, match="cannot load"):
            OnnxModel(2 * edited(), RECIPE)

    @pytest.mark.parametrize(
        ("edit", "message"),
        [
            (lambda m: m.graph.node[1].ClearField("input"), "ONNX Runtime cannot load"),
            (lambda m: m.graph.node[1].input.__setitem__(0, "views"), "ONNX Runtime cannot load"),
            (lambda m: setattr(m, "ir_version", 9999), "newer than this onnxruntime"),
            *(
                (lambda m, ends=ends: m.CopyFrom(means(**ends)), "another model|cannot load")
                for ends in (
                    {"given": ["N", 9, 9, 3]},
                    {"given": [1, *SHAPE]},
                    {"given": None},
                    {"kind": TensorProto.FLOAT},
                )
            ),
            (lambda m: m.graph.input.add().CopyFrom(means().graph.input[0]), "cannot load"),
            (lambda m: m.graph.output.pop(), "another model|cannot load"),
            (lambda m: setattr(m.graph.output[0], "name", "column"), "another model|cannot load"),
        ],
    )
    def test_another_graph_is_refused(self, edit, message) -> None:
        with pytest.raises(ModelError, match=message):
            OnnxModel(edited(edit), RECIPE)

    def test_a_file_that_asks_for_all_memory(self) -> None:
        def bomb(model: ModelProto) -> None:
            model.graph.initializer.append(numpy_helper.from_array(np.array([2 * 10**9]), "many"))
            for kind, taken, name in (
                ("Expand", ["mean", "many"], "big"),
                ("ReduceMean", ["big"], "zero"),
                ("Add", ["mean", "zero"], "same"),
            ):
                model.graph.node.add(op_type=kind, input=taken, output=[name])
            nodes = [*model.graph.node]
            nodes[2].input[0] = "same"
            del model.graph.node[:]
            model.graph.node.extend([*nodes[:2], *nodes[4:], *nodes[2:4]])

        model = OnnxModel(edited(bomb), RECIPE)
        with pytest.raises(ModelError, match="4,294,967,296 bytes of memory"):
            model.probabilities(np.zeros((1, *SHAPE), np.uint8))

    def test_memory_is_given_back(self) -> None:
        def wide(model: ModelProto) -> None:
            many = numpy_helper.from_array(np.array([2**27]), "many")
            model.graph.initializer.append(many)
            put_before_the_end(
                model,
                ("Expand", ["mean", "many"], "big"),
                ("ReduceMean", ["big"], "one value"),
                ("Add", ["mean", "one value"], "same"),
            )

        before = resident()
        model = OnnxModel(edited(wide), RECIPE)
        model.probabilities(np.zeros((1, *SHAPE), np.uint8))
        held = resident() - before
        del model
        assert resident() - before < held / 2

    @pytest.mark.parametrize(
        ("nodes", "message"),
        [
            ([("Expand", ["mean", "one"], "a"), ("MatMul", ["a", "a"], "b")], "does not store"),
            ([("Conv", ["floats", "floats"], "a")], "a Conv by numbers that it does not store"),
            ([("Identity", ["mean"], f"a{i}") for i in range(3_000)], "3,004 operations, more"),
        ],
    )
    def test_work_without_a_bound_is_refused(self, nodes, message) -> None:
        with pytest.raises(ModelError, match=f"{message}.*do not use it"):
            OnnxModel(edited(lambda model: put_before_the_end(model, *nodes)), RECIPE)

    @pytest.mark.parametrize(
        "start",
        [
            [("Shape", ["views"], "shape"), ("Expand", ["mean", "many"], "a0")],
            [("ConstantOfShape", ["many"], "a0")],
        ],
        ids=["shape", "stored"],
    )
    def test_what_takes_too_long_is_ended_before_it_is_loaded(self, monkeypatch, start) -> None:
        monkeypatch.setattr("hf_ela.models.onnx_runtime.SECONDS", 0)
        chain = [("Sqrt", [f"a{i}"], f"a{i + 1}") for i in range(900)]
        size = numpy_helper.from_array(np.array([2**20]), "many")

        def long(model: ModelProto) -> None:
            model.graph.initializer.append(size)
            put_before_the_end(
                model,
                *start,
                *chain,
                ("ReduceMean", ["a900"], "one value"),
                ("Add", ["mean", "one value"], "same"),
            )

        with pytest.raises(ModelError, match="in 0 seconds and"):
            OnnxModel(edited(long), RECIPE)

    def test_another_number_of_classes_or_of_answers(self) -> None:
        def longer(model: ModelProto) -> None:
            model.graph.node[-1].input[:] = ["column", "column", "column"]
            model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 3

        def one_row(model: ModelProto) -> None:
            model.graph.node[-1].output[0] = "all"
            model.graph.node.add(
                op_type="Slice", input=["all", "zero", "one"], output=["probabilities"]
            )
            model.graph.initializer.append(numpy_helper.from_array(np.array([0]), "zero"))

        with pytest.raises(ModelError, match="belongs to another model"):
            OnnxModel(edited(longer), RECIPE)
        model = OnnxModel(edited(one_row), RECIPE)
        with pytest.raises(ModelError, match=r"of shape \(3, 2\)\. Received: \(1, 2\)"):
            model.probabilities(np.zeros((3, *SHAPE), np.uint8))

    @pytest.mark.parametrize(
        ("shape", "kind"),
        [
            ((0, *SHAPE), "uint8"),
            (SHAPE, "uint8"),
            ((1, 32, 32, 6), "uint8"),
            ((1, 32, 33, 3), "uint8"),
            ((1, *SHAPE), "float32"),
        ],
    )
    def test_other_views_are_refused(self, shape, kind) -> None:
        model = OnnxModel(edited(), RECIPE)
        rule = rf"N x 32 x 32 x 3, N at least 1. Received: {kind} of shape \({shape[0]}, "
        with pytest.raises(ValueError, match=rule):
            model.probabilities(np.zeros(shape, kind))

    @given(data=st.data())
    def test_any_damage_is_typed(self, saved_crops, data) -> None:
        content = damaged((saved_crops / "network.onnx").read_bytes(), data)
        with contextlib.suppress(ModelError):
            model = OnnxModel(content, CROPS)
            found = model.probabilities(np.zeros((2, *CROPS.input_shape), np.uint8))
            assert found.shape == (2, 2)


BIAS = "layers/dense/vars/1"


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> bytes:
    """A file of one layer, as Keras writes it."""
    path = tmp_path_factory.mktemp("weights") / "a.weights.h5"
    layer = keras.layers.Dense(2)
    keras.Sequential([keras.Input((3,)), layer]).save_weights(path)
    return path.read_bytes()


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


class TestWeights:
    def test_what_keras_writes_is_taken(self, weights, tmp_path) -> None:
        (tmp_path / "a.h5").write_bytes(weights)
        check_weights(tmp_path / "a.h5", RECIPE)

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
            (lambda f, _: [f.create_group(f"g{i}") for i in range(501)], "more than 500 entries"),
        ],
    )
    def test_are_numbers_of_their_own_file(
        self, weights, tmp_path, edit, message, monkeypatch
    ) -> None:
        monkeypatch.setattr("hf_ela.models.guards.ENTRIES", 500)  # 50,000 take long to open
        path = tmp_path / "a.h5"
        path.write_bytes(weights)
        with h5py.File(path, "r+") as file:
            edit(file, tmp_path)
        with pytest.raises(ModelError, match=f"{message}.*do not use it"):
            check_weights(path, RECIPE)

    @given(data=st.data())
    def test_any_damage_is_typed(self, weights, tmp_path_factory, data) -> None:
        path = tmp_path_factory.mktemp("damaged") / "a.h5"
        path.write_bytes(damaged(weights, data))
        with contextlib.suppress(ModelError):
            check_weights(path, RECIPE)
