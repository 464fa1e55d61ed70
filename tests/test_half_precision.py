"""Half precision: files of half the size with the same numbers, and only where that is so."""

import h5py
import numpy as np
import onnx
import pytest

from exact_cases import pictures
from hf_ela import ElaClassifier
from hf_ela.models.half_precision import round_kernels
from hf_ela.models.onnx_runtime import OnnxModel
from hf_ela.recipes.loading import load_recipe
from networks import network_of

SMALL = load_recipe("reference", ["ela=none", "input.before=24", "input.size=24"])


def test_a_rounded_network_is_stored_in_halves_without_a_change(tmp_path) -> None:
    network = network_of(SMALL)
    round_kernels(network)
    ElaClassifier(network, SMALL).save_pretrained(tmp_path / "a")
    for name in ("network.onnx", "model.onnx"):
        graph = onnx.load(tmp_path / "a" / name).graph
        types = {tensor.data_type for tensor in graph.initializer if np.prod(tensor.dims) > 9000}
        assert types == {onnx.TensorProto.FLOAT16}
    with h5py.File(tmp_path / "a/model.weights.h5") as file:
        kernel, bias = file["layers/dense/vars/0"], file["layers/dense/vars/1"]
        assert (kernel.dtype, bias.dtype) == (np.float16, np.float32)
        assert file["layers/dense_1/vars"].attrs["name"] == "logits"  # as Keras wrote it
    saved = ElaClassifier.from_pretrained(tmp_path / "a", runtime="keras").model
    for found, expected in zip(saved.get_weights(), network.get_weights(), strict=True):
        assert found.dtype == np.float32
        assert np.array_equal(found, expected)
    images = pictures(14, 24, 24)
    ran = OnnxModel((tmp_path / "a/network.onnx").read_bytes(), SMALL).probabilities(images)
    assert ran == pytest.approx(network.predict_on_batch(images), abs=1e-6)


def test_other_numbers_are_stored_as_they_are(saved_crops) -> None:
    with h5py.File(saved_crops / "model.weights.h5") as file:
        arrays = []
        file.visititems(lambda _, item: arrays.append(getattr(item, "dtype", np.float32)))
    assert np.float16 not in arrays
    for name in ("network.onnx", "model.onnx"):
        graph = onnx.load(saved_crops / name).graph
        assert onnx.TensorProto.FLOAT16 not in {tensor.data_type for tensor in graph.initializer}
