"""The graph of a Functional model, and the nodes that symbolic calls leave behind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any, TypeGuard

import keras
from keras import tree
from keras.src import backend
from keras.src.activations import activations
from keras.src.models.functional import Functional, functional_like_constructor
from keras.src.ops import core, math, nn, numpy
from keras.src.ops.symbolic_arguments import SymbolicArguments

from tfprune.keras_private.tracing import missing_outputs


def is_functional(model: Any) -> TypeGuard[Functional]:
    """Whether a model was made by the Functional API, also as a subclass of it.

    Assumes: `keras.Model(inputs, outputs)` makes a `keras.src.models.functional.Functional`.
    """
    return isinstance(model, Functional)


def is_nothing_but_its_graph(model: Any) -> bool:
    """Whether a model was made from inputs and outputs, and computes what lies between.

    A subclass of `keras.Model` may be made so too, to have a `train_step` of its own.

    Assumes as `is_functional` and `runs_its_graph` do, and that `functional_like_constructor` says
    whether a class takes `inputs` and `outputs` as `Functional` does.
    """
    made_so = is_functional(model) and functional_like_constructor(type(model))
    return made_so and runs_its_graph(model)


def runs_its_graph(model: Functional) -> bool:
    """Whether a Functional model computes what its graph says.

    Assumes: `Functional.call` runs the graph, so that a subclass with another `call` does not.
    """
    return type(model).call is Functional.call


def functional_inside(model: keras.Sequential) -> Functional | None:
    """The Functional model that a Sequential one runs, `None` while it is not built.

    Assumes: `Sequential` keeps it as `_functional`.
    """
    return model._functional


def nodes_of(model: Functional) -> list[Any]:
    """The nodes of a Functional model, deepest first.

    Assumes: `_nodes_by_depth` maps depths, which fall towards the outputs, to lists of nodes.
    """
    by_depth = model._nodes_by_depth
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]


def inputs_struct(model: keras.Model) -> Any:
    """The inputs in the structure that the model was made with, `None` without a graph.

    Assumes: a Functional model keeps it as `_inputs_struct`.
    """
    return getattr(model, "_inputs_struct", None)


def input_like(
    tensor: keras.KerasTensor, shape: tuple | None = None, name: str | None = None
) -> keras.KerasTensor:
    """A new `keras.Input` with all that another one was made with, or another shape or name.

    Assumes: the layer that made it keeps whether the input is `optional`, and a symbolic tensor
    has `sparse` and `ragged`, of which not both may be true.
    """
    return keras.Input(
        batch_shape=tensor.shape if shape is None else shape,
        dtype=tensor.dtype,
        name=name or tensor.name,
        sparse=tensor.sparse or None,
        ragged=getattr(tensor, "ragged", False) or None,
        optional=is_optional(tensor),
    )


def outputs_struct(model: Functional) -> Any:
    """The outputs in the structure that the model was made with.

    Assumes: a Functional model keeps it as `_outputs_struct`.
    """
    return model._outputs_struct


def operation_of(tensor: keras.KerasTensor) -> Any:
    """The layer or operation that made a symbolic tensor, `None` if nothing did.

    Assumes: `_keras_history` names it.
    """
    history = getattr(tensor, "_keras_history", None)
    return None if history is None else history.operation


def node_of(tensor: keras.KerasTensor) -> Any:
    """The node of the call that made a symbolic tensor, `None` if none did.

    Assumes: `_keras_history` holds its place among the operation's `_inbound_nodes`.
    """
    history = getattr(tensor, "_keras_history", None)
    if history is None or history.operation is None:
        return None
    return history.operation._inbound_nodes[history.node_index]


def calls_of(operation: Any) -> list[Any]:
    """The nodes of all symbolic calls of a layer or operation.

    Assumes: it keeps them as `_inbound_nodes`, one for each call.
    """
    return operation._inbound_nodes


@contextmanager
def forgetting_calls(layers: Iterable[keras.Layer]) -> Iterator[None]:
    """Takes back the nodes that calls add to layers meanwhile.

    Assumes: a call appends to `_inbound_nodes` of what is called, and to `_outbound_nodes` of
    what made its inputs, and that nothing else is kept.
    """
    before = [(x, len(x._inbound_nodes), len(x._outbound_nodes)) for x in layers]
    try:
        yield
    finally:
        for x, inbound, outbound in before:
            del x._inbound_nodes[inbound:]
            del x._outbound_nodes[outbound:]


def call_with(node: Any, changes: dict[str, Any]) -> tuple[Any, tuple[tuple, dict[str, Any]]]:
    """A call in which something else is written.

    Assumes: an operation of `keras.ops` keeps what it was made with, which `get_config` returns.

    Args:
        node: A node.
        changes: Entries of the configuration of the operation, and arguments of the call that are
            no tensors.

    Returns:
        The operation, a new one if its configuration changes, and the arguments.
    """
    operation, args, kwargs = node.operation, node.arguments.args, node.arguments.kwargs
    config = operation.get_config()
    own = {name: value for name, value in changes.items() if name in config}
    given = {name: value for name, value in changes.items() if name not in config}
    if own:
        operation = type(operation).from_config({**config, **own})
    names = signature(operation.call).parameters
    args = tuple(given.get(name, x) for name, x in zip(names, args, strict=False))
    return operation, (args, {name: given.get(name, x) for name, x in kwargs.items()})


def rewrite_call(node: Any, changes: dict[str, Any]) -> Callable[[], None]:
    """Writes something else in a call, as `call_with` does, and everywhere it is known.

    Assumes as `forgetting_calls` does, and that a node keeps its arguments as `SymbolicArguments`.

    Args:
        node: A node.
        changes: As in `call_with`.

    Returns:
        Undoes it.
    """
    operation, (args, kwargs) = call_with(node, changes)
    before, arguments = dict(vars(node.operation)), node.arguments
    calls = keep_calls(node.operation)

    def undo():
        vars(node.operation).update(before)
        node.arguments = arguments

    vars(node.operation).update({**vars(operation), **calls, "name": node.operation.name})
    node.arguments = SymbolicArguments(*args, **kwargs)
    return undo


def keep_calls(layer: keras.Layer) -> dict[str, Any]:
    """The entries of a layer's `__dict__` that hold its calls.

    Assumes as `forgetting_calls` does, and that both lists are plain attributes.
    """
    return {name: getattr(layer, name) for name in ("_inbound_nodes", "_outbound_nodes")}


def mask_of(tensor: Any) -> Any:
    """The Keras mask that a tensor carries, or `None`.

    Assumes: `get_keras_mask` knows where each backend keeps it.
    """
    return backend.get_keras_mask(tensor)


def masks_at_calls(
    model: Functional, without_optional: bool = False
) -> dict[int, list[tuple[bool, ...]]]:
    """Which arguments of the layers of a model carry a Keras mask when the model runs.

    Layers take masks off their inputs (`MultiHeadAttention`), so it depends on the order of calls.

    Assumes: `_run_through_graph` calls `operation_fn(operation)` in the order in which the model
    runs; a model lets its inputs carry the masks that it is given by name; and
    `compute_output_spec` runs a function on tensors of the backend.

    Args:
        model: A Functional model. Those in it are looked into.
        without_optional: Whether inputs that may be left out are.

    Returns:
        `id` of a layer to its calls, sorted: for each tensor that is given whether it has a mask.
    """
    seen: dict[int, list[tuple[bool, ...]]] = {}

    def run(functional, inputs):
        def noted(operation):
            def call(*args, **kwargs):
                given = [t for t in tree.flatten((args, kwargs)) if hasattr(t, "shape")]
                masks = tuple(mask_of(t) is not None for t in given)
                seen.setdefault(id(operation), []).append(masks)
                inner = operation
                if isinstance(operation, keras.Sequential):
                    inner = functional_inside(operation)
                if is_functional(inner) and runs_its_graph(inner):
                    masks = tree.flatten(kwargs.get("mask"))
                    for tensor, mask in zip(tree.flatten(args[0]), masks, strict=False):
                        if mask is not None:
                            backend.set_keras_mask(tensor, mask)
                    return run(inner, args[0])
                return operation(*args, **kwargs)

            return call

        return functional._run_through_graph(inputs, operation_fn=noted)

    left_out = [without_optional and is_optional(t) for t in model.inputs]

    def run_model(*inputs):
        seen.clear()  # On JAX it is run once more where sizes are unknown.
        given = iter(inputs)
        outputs = run(model, [None if missing else next(given) for missing in left_out])
        return [t for t in tree.flatten(outputs) if t is not None]

    with forgetting_calls(model._flatten_layers()):
        symbols = [
            keras.KerasTensor(t.shape, dtype=t.dtype)
            for t, missing in zip(model.inputs, left_out, strict=True)
            if not missing
        ]
        # Symbolic calls would not do: an attention layer then leaves its inputs alone.
        backend.compute_output_spec(run_model, *symbols)
    return {key: sorted(calls) for key, calls in seen.items()}


def is_optional(tensor: keras.KerasTensor) -> bool:
    """Whether a symbolic tensor is an input that may be left out.

    Assumes: the layer that made it keeps whether the input is `optional`.
    """
    return bool(getattr(operation_of(tensor), "optional", False))


def masks_when_run(nodes: Iterable[Any], without_optional: bool = False) -> set[int]:
    """The tensors that carry a Keras mask when calls are run, not only where symbolic calls say so.

    `ReversibleEmbedding`, a model in a model and a layer that returns what an embedding in it has
    made set masks while they run, of which their symbolic calls know nothing.

    Assumes: `compute_output_spec` runs a function on tensors of the backend, and that a call
    carries symbolic masks only in its arguments.

    Args:
        nodes: Nodes, in the order in which they run.
        without_optional: Whether inputs that may be left out are.

    Returns:
        The `id` of each output of the nodes that had a mask once it was made.
    """
    nodes = [node for node in nodes if not node.is_input]
    made = {id(t) for node in nodes for t in node.outputs}
    given = {id(t): t for node in nodes for t in node.input_tensors if id(t) not in made}
    missing = {key: None for key, t in given.items() if without_optional and is_optional(t)}
    given = {key: t for key, t in given.items() if key not in missing}
    masked: set[int] = set()

    def run_model(*inputs):
        masked.clear()  # On JAX it is run once more where sizes are unknown.
        values = {**missing, **dict(zip(given, inputs, strict=True))}
        for key, x in values.items():
            if key in given and mask_of(given[key]) is not None:
                backend.set_keras_mask(x, keras.ops.ones(keras.ops.shape(x)[:-1], "bool"))
        for node in nodes:
            _run(node, values)
            masked.update(id(t) for t in node.outputs if mask_of(values[id(t)]) is not None)
        return [values[id(t)] for t in nodes[-1].outputs]

    # What a subclassed model is traced with are numbers of its own type, ids among them; embeddings
    # make masks of integers alone.
    ids = {
        id(t)
        for node in nodes
        if hasattr(node.operation, "embeddings") and not node.arguments.kwargs.get("reverse")
        for t in node.input_tensors
    }
    symbols = [
        keras.KerasTensor(t.shape, "int32" if key in ids else t.dtype, sparse=t.sparse)
        for key, t in given.items()
    ]
    backend.compute_output_spec(run_model, *symbols)
    return masked


def _run(node, values) -> None:
    """Runs a call on the values of symbolic tensors, by `id`, and adds what it returns."""
    given = [x for t in node.input_tensors if (x := values[id(t)]) is not None]
    masks = [mask_of(x) for x in given]
    args, kwargs = tree.map_structure(
        lambda x: values.get(id(x), x), (node.arguments.args, node.arguments.kwargs)
    )
    result = [x for x in tree.flatten(node.operation(*args, **kwargs)) if x is not None]
    for symbolic, x in zip(node.outputs, result, strict=True):
        values[id(symbolic)] = x
    for x, mask in zip(given, masks, strict=True):
        # Attention layers take masks off their inputs, but which layer runs first may change.
        if mask is not None:
            backend.set_keras_mask(x, mask)


def operation_classes(names: Iterable[str]) -> tuple[type, ...]:
    """The classes of Keras's operations, by name; those that this Keras lacks are left out.

    Assumes: symbolic calls of `keras.ops` leave nodes whose operations are instances of classes
    in `keras.src.ops`, and that two activations have theirs in `keras.src.activations`.
    """
    modules = (numpy, nn, math, core, activations)
    found = (getattr(module, name, None) for name in names for module in modules)
    return tuple(x for x in found if isinstance(x, type) and issubclass(x, keras.Operation))


def graph_tensors(model: Functional) -> list[keras.KerasTensor]:
    """The symbolic tensors of a Functional model, each once.

    Assumes as `nodes_of` does.
    """
    return list({id(t): t for node in nodes_of(model) for t in node.outputs}.values())


def refresh_shapes(model: Functional, changed: Iterable[Any], anyway: bool = False) -> None:
    """Tells the graph of a Functional model the shapes that its layers give now.

    Layers were cut in place, and tensors between them have fewer elements. Models inside it must
    have been told before.

    Assumes: a symbolic tensor keeps its shape as `_shape`, and `compute_output_spec` of an
    operation takes the arguments of a call.

    Args:
        model: A built Functional model.
        changed: The layers that were cut. Where the model calls none of them, nothing is done.
        anyway: Whether it is done all the same, as layers inside those that it calls may be them.

    Raises:
        Exception: Whatever an operation raises that cannot read the smaller tensors.
    """
    nodes = [node for node in nodes_of(model) if not node.is_input]
    if not anyway and not {id(x) for x in changed} & {id(node.operation) for node in nodes}:
        return
    for node in nodes:
        arguments = node.arguments
        with missing_outputs():
            spec = node.operation.compute_output_spec(*arguments.args, **arguments.kwargs)
        made = [t for t in tree.flatten(spec) if t is not None]
        for tensor, now in zip(node.outputs, made, strict=True):
            tensor._shape = now.shape


def set_input_shape(tensor: keras.KerasTensor, shape: tuple) -> None:
    """Gives an input of a Functional model another shape.

    Assumes as `refresh_shapes` does, and that the `InputLayer` keeps it as `_batch_shape`.

    Args:
        tensor: The input.
        shape: Its new shape.
    """
    tensor._shape = shape
    operation_of(tensor)._batch_shape = shape


def set_shapes(shapes: list[tuple[keras.KerasTensor, tuple]]) -> None:
    """Gives symbolic tensors other shapes.

    Assumes as `refresh_shapes` does.

    Args:
        shapes: Tensors and their shapes.
    """
    for tensor, shape in shapes:
        tensor._shape = shape
        if isinstance(operation_of(tensor), keras.layers.InputLayer):
            operation_of(tensor)._batch_shape = shape
