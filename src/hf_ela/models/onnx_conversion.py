"""Keras models as ONNX, from any backend: the network alone, and with ELA before it.

A model runs through its graph with values of an ONNX graph in place of tensors, so that each of its
operations adds itself. A layer that has no operator of its own, such as
`hf_ela.ela.layers.ErrorLevel`, is taken apart into the operations that it calls.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from hf_ela.backend import keras
from hf_ela.errors import ExportError
from hf_ela.models.networks import preprocessing_model
from hf_ela.models.onnx_graph import OPSET, OnnxGraph, Value
from hf_ela.models.onnx_operations import OPERATIONS
from hf_ela.models.settings import INPUT, OUTPUT, VIEWS
from hf_ela.recipes.schema import LABELS, Recipe

__all__ = ["OPSET", "OnnxFiles", "converted", "network_files"]


class OnnxFiles(NamedTuple):
    """The contents of two ONNX files of one network: from pixels, and from views."""

    from_pixels: bytes
    from_views: bytes


def network_files(network: keras.Model, recipe: Recipe) -> OnnxFiles:
    """Return a network as ONNX, from pixels and from views, without a comparison.

    Args:
        network: Network of `build_model`.
        recipe: Its recipe.

    Raises:
        ExportError: It has an operation that has no ONNX here.
    """
    answer = f"the probabilities of {' and '.join(LABELS)}; recipe {recipe.name}."
    (inputs,), before = network.inputs, preprocessing_model(recipe)
    whole, alone = OnnxGraph(), OnnxGraph()
    views = _run(whole, before, [whole.input(INPUT, before.inputs[0])], VIEWS)
    whole_output = _run(whole, network, [views], OUTPUT)
    alone_output = _run(alone, network, [alone.input(VIEWS, inputs)], OUTPUT)
    return OnnxFiles(
        whole.serialized(whole_output, f"RGB pixels, Error Level Analysis included, to {answer}"),
        alone.serialized(alone_output, f"{VIEWS} to {answer}"),
    )


def converted(model: keras.Model) -> bytes:
    """Return any Keras model with one output as ONNX, its inputs under their names.

    Raises:
        ExportError: As for `network_files`.
    """
    graph = OnnxGraph()
    values = [graph.input(one.name, one) for one in model.inputs]
    return graph.serialized(_run(graph, model, values, OUTPUT), model.name)


def _run(graph: OnnxGraph, model: keras.Model, values: Sequence[Value], name: str) -> Value:
    """Add what a model computes from values, and name its result."""
    found = _within(graph, model, values)
    return Value(graph.add("Identity", graph.channels_last(found), name=name), found.spec)


def _within(graph: OnnxGraph, model: Any, values: Sequence[Value]) -> Any:
    def adding(operation: Any) -> Callable[..., Any]:
        def add(*args: Any, **options: Any) -> Any:
            try:
                return _added(graph, operation, args, options)
            except ExportError:
                raise
            except Exception as error:  # of any kind: it was not written for this operation
                raise ExportError(
                    f"{type(operation).__name__} ({operation.name}) has no ONNX here: {error}"
                ) from error

        return add

    # Keras has no public way to run a model through its graph by other operations.
    return model._run_through_graph(list(values), operation_fn=adding)


def _added(graph: OnnxGraph, operation: Any, args: Any, options: dict[str, Any]) -> Any:
    given = [one for one in keras.tree.flatten((args, options)) if isinstance(one, Value)]
    if isinstance(operation, keras.Model):
        return _within(graph, operation, given)
    write = OPERATIONS.get(type(operation).__name__)
    if write is None:
        return _within(graph, _taken_apart(operation, given), given)
    options = {name: value for name, value in options.items() if value is not None}  # no mask
    if options.pop("training", False):
        raise NotImplementedError("it is always in training")
    specs = keras.tree.map_structure(
        lambda one: one.spec if isinstance(one, Value) else one, (args, options)
    )
    spec = operation.compute_output_spec(*specs[0], **specs[1])
    return write(graph, operation, spec, *args, **options)


def _taken_apart(layer: Any, given: Sequence[Value]) -> keras.Function:
    """Return the operations that a layer calls, as a graph."""
    if not isinstance(layer, keras.Layer):
        raise NotImplementedError("it calls no other operations")
    inputs = [keras.Input(batch_shape=one.spec.shape, dtype=one.spec.dtype) for one in given]
    return keras.Function(inputs, layer.call(*inputs))
