"""Damaged and hostile models, written by the tests themselves, and what is said of each."""

import json
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, helper, numpy_helper

from conftest import TINY, changed
from hf_ela.recipes.loading import load_recipe

# --- Folders -------------------------------------------------------------------------------------


def settings_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "hf_ela.json").read_text("utf-8"))
    return found


def write(name: str, data: bytes) -> Callable[[Path], None]:
    """Put a file in the place of another one, which may be linked to its original."""

    def written(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).write_bytes(data)

    return written


def change(**values: Any) -> Callable[[Path], None]:
    def written(folder: Path) -> None:
        content = changed(settings_of(folder), **values)
        write("hf_ela.json", json.dumps(content).encode())(folder)

    return written


def replace(name: str, data: bytes) -> Callable[[Path], None]:
    """Write a file, and state its new checksum."""

    def replaced(folder: Path) -> None:
        write(name, data)(folder)
        stated = settings_of(folder)["sha256"] | {name: sha256(data).hexdigest()}
        change(sha256=stated)(folder)

    return replaced


WIDER, DEEPER = {"recipe__network__widths": [16]}, {"recipe__network__blocks": 2}
TOO_LARGE = {
    "recipe__network__widths": [1024] * 2,
    "recipe__network__patch": 1,
    "recipe__input__size": 1024,
}


WRONG_SETTINGS: list[tuple[Callable[[Path], object], str]] = [
    (shutil.rmtree, "which is not a folder. Check the path"),
    (lambda folder: (folder / "hf_ela.json").unlink(), "must hold hf_ela.json"),
    (write("hf_ela.json", b'{"schema": 1,'), "must be JSON"),
    (write("hf_ela.json", b"\xff\xfe{}"), "must be JSON"),
    (write("hf_ela.json", b"[" * 100_000), "must be JSON"),
    (write("hf_ela.json", b"[]"), "is not valid"),
    (write("hf_ela.json", b"{}"), "`sha256`: Field required"),
    (change(schema=2, novelty=5), r"Received: schema=2.*newer"),
    (change(schema=True), "`schema` of .* must be a number"),
    (change(novelty=5), "`novelty`"),
    (change(labels=["real", "fake"]), "`labels"),
    (change(temperature=0), "`temperature`"),
    (change(threshold=float("nan")), "must be JSON"),
    (change(threshold=2), "`threshold`"),
    (change(uncertain=[0.1]), "`uncertain"),
    (change(uncertain=[0.1, 1.5]), "`uncertain"),
    (change(frequencies={"known": [{"up_to": 1.0, "fake": 1.5, "n": 1}]}), "`frequencies"),
    (
        change(frequencies={"known": [{"up_to": e, "fake": 0.5, "n": 1} for e in (1.0, 0.5)]}),
        "by score",
    ),
    (change(frequencies={"all": []}), "`frequencies"),
    *(
        (change(uncertain=band), "with the threshold in between")
        for band in ([0.5, 0.6], [0.1, 0.3], [0.6, 0.3])
    ),
    (change(sha256={"model.onnx": "0" * 64}), "`sha256` must name model.weights.h5"),
    (change(sha256={"model.weights.h5": "0"}), "`sha256"),
    (change(recipe__input__size="32"), "`recipe.input"),
    (change(recipe__ela__qualities=[0]), "`quality` must be an integer from 1 to 100"),
    (write("hf_ela.json", b" " * 2**24 + b"{}"), "at most 4,194,304 bytes"),
    (write("hf_ela.json", b'{"schema": 1' + b"0" * 9999 + b"}"), "must be JSON"),
    (change(data={"threshold": float("inf")}), "must be JSON"),
    (change(**{f"novelty{i}": i for i in range(999)}), "Copy or save it again"),
    (
        change(recipe__network={"kind": "reference"}, recipe__input__size=1024),
        r"weights .* at most 268,435,456 .* about 2,114,",
    ),
    (change(**TOO_LARGE), "layers .* at most 268,435,456 .* about 4,294,967,296"),
]
"""Damages of a saved model that concern its settings, and what is said of them."""


WRONG_WEIGHTS: list[tuple[Callable[[Path], object], str]] = [
    (lambda folder: (folder / "model.weights.h5").unlink(), r"does not hold .*weights\.h5"),
    (write("model.weights.h5", b"other"), r"weights\.h5 with [0-9a-f]{64}\. It is corrupt"),
    (replace("model.weights.h5", b"no HDF5"), "as Keras writes it.*do not use it"),
    (change(**WIDER), "must fit the network of the recipe"),
    (change(**DEEPER), "must fit the network of the recipe"),
]
"""The same of its weights, for Keras."""


# --- ONNX ----------------------------------------------------------------------------------------

RECIPE = load_recipe("scratch", [*TINY, "ela=none", "network.widths=[4]"])
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


OTHER_FILE, TEXTS = "numbers in another file", "it has texts"
BODY = GraphProto(name="body")


REACHING_OUT: list[tuple[Callable[[ModelProto], object], str]] = [
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
]
"""Edits of `means` that would have something run or read, and what is said of them."""


# --- HDF5 ----------------------------------------------------------------------------------------

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


MORE_THAN_NUMBERS: list[tuple[Callable[[h5py.File, Path], object], str]] = [
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
]
"""Edits of weights as Keras writes them, and what is said of them."""


def expand(model: ModelProto, number: int) -> None:
    """Work in the memory of so many numbers."""
    model.graph.initializer.append(numpy_helper.from_array(np.array([number]), "many"))
    put_before_the_end(
        model,
        ("Expand", ["mean", "many"], "big"),
        ("ReduceMean", ["big"], "one value"),
        ("Add", ["mean", "one value"], "same"),
    )
