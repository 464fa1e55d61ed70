"""What a saved network may be, as ONNX and as HDF5: else it is refused before it is run or read."""

import contextlib
import resource
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, numpy_helper

from bad_files import damaged
from bad_models import (
    MORE_THAN_NUMBERS,
    OTHER_FILE,
    REACHING_OUT,
    RECIPE,
    SHAPE,
    TEXTS,
    edited,
    expand,
    means,
    put_before_the_end,
)
from hf_ela.backend import keras
from hf_ela.errors import ModelError
from hf_ela.models.guards import check_weights
from hf_ela.models.onnx_runtime import PIXELS, OnnxModel
from networks import CROPS


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


class TestOnnx:
    def test_one_graph_of_our_operators_is_taken(self) -> None:
        number = PIXELS // SHAPE[0] ** 2 + 3  # more than one step
        views = np.full((number, *SHAPE), 7, np.uint8)
        found = OnnxModel(edited(), RECIPE).probabilities(views)
        assert (found.tolist(), found.dtype) == ([[7, 7]] * number, np.float32)

    @pytest.mark.parametrize(("edit", "message"), REACHING_OUT)
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
        before = resident()
        model = OnnxModel(edited(lambda model: expand(model, 2**27)), RECIPE)
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


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> bytes:
    """A file of one layer, as Keras writes it."""
    path = tmp_path_factory.mktemp("weights") / "a.weights.h5"
    layer = keras.layers.Dense(2)
    keras.Sequential([keras.Input((3,)), layer]).save_weights(path)
    return path.read_bytes()


class TestWeights:
    def test_what_keras_writes_is_taken(self, weights, tmp_path) -> None:
        (tmp_path / "a.h5").write_bytes(weights)
        check_weights(tmp_path / "a.h5", RECIPE)

    @pytest.mark.parametrize(("edit", "message"), MORE_THAN_NUMBERS)
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
