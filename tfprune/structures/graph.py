"""The graph of calls inside a model or layer, whichever way it was written.

A Functional or Sequential model has its graph. Any other layer is called once on symbolic tensors:
Keras records a node for each layer and operation it meets, which shows a subclassed model or a
KerasHub layer as if it had been written with the Functional API. Nothing is computed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
from keras import tree

from tfprune.errors import in_one_line
from tfprune.keras_private.functional import (
    forgetting_calls,
    functional_inside,
    is_functional,
    mask_of,
    node_of,
    nodes_of,
    runs_its_graph,
)
from tfprune.keras_private.layers import build_shapes, layer_and_inner_layers
from tfprune.keras_private.tracing import all_letters, give_mask, missing_outputs
from tfprune.structures.masks import is_masked, masks_behind_symbols
from tfprune.structures.transparent import seen_through


@dataclass
class Graph:
    """Nodes in the order in which they run, and the tensors that leave.

    Args:
        nodes: Keras nodes: `operation`, `arguments`, `input_tensors`, `outputs`. A call of a
            wrapper of `tfprune.wrappers` appears as a call of the layer inside.
        outputs: Symbolic tensors that the caller receives.
        arguments: The positional and the keyword arguments of the call that was traced; `None` for
            the graph that a Functional model has of itself.
        result: What that call returned.
        layer: The layer whose `call` was traced; `None` as above.
    """

    nodes: list[Any]
    outputs: list[Any]
    arguments: tuple[Any, dict[str, Any]] | None = None
    result: Any = None
    layer: keras.Layer | None = None

    def __post_init__(self):
        self.nodes = [seen_through(node) for node in self.nodes]
        self._output_ids = {id(t) for t in self.outputs}
        self._made_by = {id(t): node for node in self.nodes for t in node.outputs}
        self._used_by: dict[int, list[Any]] = {}
        for node in self.nodes:
            for tensor in {id(t): t for t in node.input_tensors}.values():
                self._used_by.setdefault(id(tensor), []).append(node)

    @cached_property
    def _masked(self) -> set[int]:
        return masks_behind_symbols(self.nodes)

    def is_masked(self, tensor: Any) -> bool:
        """Whether a tensor carries a Keras mask, in symbolic calls or when the graph runs."""
        return is_masked(tensor) or id(tensor) in self._masked

    def leaves(self, tensor: Any) -> bool:
        """Whether a tensor is one of the outputs."""
        return id(tensor) in self._output_ids

    @property
    def can_be_run(self) -> bool:
        """Whether it is known what the layer with this graph is given."""
        return self.layer is not None and self.arguments is not None

    def is_functional(self, node: Any) -> bool:
        """Whether a call stands in the graph that a Functional model has of itself."""
        return self.arguments is None

    def producer(self, tensor: Any) -> Any:
        """The node that made a tensor; `None` for an input."""
        return self._made_by.get(id(tensor))

    def consumers(self, tensor: Any) -> list[Any]:
        """The nodes that read a tensor."""
        return self._used_by.get(id(tensor), [])

    def calls(self, operation: Any) -> list[Any]:
        """The nodes that call a layer or operation."""
        return [node for node in self.nodes if node.operation is operation]


class Untraceable(Exception):
    """The layer could not be called on symbolic tensors; the message says why."""


def graph_of(
    layer: keras.Layer, call: Any = None, masked: bool = False, outer: Graph | None = None
) -> Graph:
    """The graph inside a layer or model.

    Args:
        layer: A built layer or model that has layers inside.
        call: The node of the outer graph that calls it, whose arguments show what it is given.
        masked: Without a call: whether its inputs may carry Keras masks. With one, those of the
            call do if they do there.
        outer: The graph of the call, which knows more of masks than its tensors do.

    Returns:
        A `Graph`.

    Raises:
        Untraceable: If the layer cannot be called on symbolic tensors.
    """
    functional = _functional(layer)
    carries = is_masked if outer is None else outer.is_masked
    masked = masked if call is None else any(carries(t) for t in call.input_tensors)
    # The graph that a Functional model has of itself was made on inputs without masks.
    if functional is not None and not masked:
        return Graph(_in_running_order(nodes_of(functional)), list(functional.outputs))
    args, kwargs = _symbolic_arguments(layer, call, masked, carries)
    return with_or_without_sizes(lambda *given: trace(layer, *given), args, kwargs)


def _functional(layer):
    if isinstance(layer, keras.Sequential):
        functional = functional_inside(layer)
        if functional is None:
            raise Untraceable("the Sequential model is not built")
        return functional
    # A subclass that gives inputs and outputs to `super().__init__` and then overrides `call`
    # does not run its graph.
    return layer if is_functional(layer) and runs_its_graph(layer) else None


def trace(layer: keras.Layer, args=(), kwargs=None) -> Graph:
    """Calls `layer.call` on symbolic tensors and collects the nodes it leaves behind."""
    with _without_traces(layer):
        try:
            result = layer.call(*args, **(kwargs or {}))
        except Exception as error:  # Whatever user code raises is the reason we report.
            raise Untraceable(
                f"its `call` does not run on symbolic tensors ({in_one_line(error, 90)})"
            ) from error
        outputs = [t for t in tree.flatten(result) if isinstance(t, keras.KerasTensor)]
        if not outputs:
            raise Untraceable("its `call` returns no tensor")
        return Graph(_ancestors(outputs), outputs, (args, kwargs or {}), result, layer)


def _ancestors(outputs) -> list[Any]:
    nodes: dict[int, Any] = {}
    pending = list(outputs)
    while pending:
        node = node_of(pending.pop())
        if node is not None and id(node) not in nodes:
            nodes[id(node)] = node
            pending.extend(node.input_tensors)
    return _in_running_order(list(nodes.values()))


def _in_running_order(nodes) -> list[Any]:
    made_by = {id(t): node for node in nodes for t in node.outputs}
    order: dict[int, Any] = {}
    for start in nodes:
        stack = [(start, False)]
        while stack:
            node, ready = stack.pop()
            if id(node) in order:
                continue
            if ready:
                order[id(node)] = node
                continue
            stack.append((node, True))
            stack.extend(
                (made_by[id(t)], False) for t in reversed(node.input_tensors) if id(t) in made_by
            )
    return list(order.values())


@contextmanager
def _without_traces(layer):
    """Lets a layer be called on symbolic tensors, of which nothing is left in it afterwards."""
    layers = layer_and_inner_layers(layer)
    narrow = [x for x in layers if not _takes_all_arguments(x)]
    for x in narrow:
        x.__dict__["compute_output_spec"] = _without_unknown_arguments(x.compute_output_spec)
    try:
        with forgetting_calls(layers), missing_outputs(), all_letters():
            yield
    finally:
        for x in narrow:
            del x.__dict__["compute_output_spec"]


def _takes_all_arguments(layer) -> bool:
    """Whether a symbolic call works with every argument of `call`.

    KerasHub's `CachedMultiHeadAttention` adds a cache to `call` and inherits a
    `compute_output_spec` that knows of none.
    """
    spec = inspect.signature(layer.compute_output_spec).parameters
    if any(p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in spec.values()):
        return True
    return set(inspect.signature(layer.call).parameters) <= set(spec)


def _without_unknown_arguments(compute_output_spec):
    known = set(inspect.signature(compute_output_spec).parameters)

    def call(*args, **kwargs):
        return compute_output_spec(*args, **{k: v for k, v in kwargs.items() if k in known})

    return call


def _symbolic_arguments(layer, call, masked, carries):
    if call is None:
        return arguments_from_build(layer, masked=masked)
    given = call.arguments.args, call.arguments.kwargs
    args, kwargs = _copied(given, lambda shape: shape, carries)
    known = inspect.signature(layer.call).parameters
    if not any(p.kind == p.VAR_KEYWORD for p in known.values()):
        # Keras takes some, such as `training`, that it does not hand to a `call` without them.
        kwargs = {name: value for name, value in kwargs.items() if name in known}
    return args, _with_masks(layer, args, kwargs)


def _with_masks(layer, args, kwargs):
    """Arguments with the masks of tensors, for a `call` that wants to be told of them.

    So does Keras when it calls a layer: as `mask` if one argument holds tensors, else as `x_mask`.
    """
    signature = inspect.signature(layer.call)
    try:
        given = signature.bind(*args, **kwargs).arguments
    except TypeError:  # What is wrong is said when the layer is called.
        return kwargs
    holders = {
        name: value
        for name, value in given.items()
        if any(isinstance(x, keras.KerasTensor) for x in tree.flatten(value))
        and not name.endswith("mask")
    }
    masks = {}
    for name, value in holders.items():
        wanted = "mask" if len(holders) == 1 else f"{name}_mask"
        if wanted in signature.parameters and given.get(wanted) is None:
            found = tree.map_structure(
                lambda x: mask_of(x) if isinstance(x, keras.KerasTensor) else None, value
            )
            if any(x is not None for x in tree.flatten(found)):
                masks[wanted] = found
    return {**kwargs, **masks}


def _mask_for(tensor):
    return keras.KerasTensor(tensor.shape[:-1], dtype="bool")


def _copied(arguments, shape_of, carries=None):
    """Arguments with new symbolic tensors, of which equal ones stay one, and their masks."""
    copies: dict[int, Any] = {}

    def copy(x):
        if not isinstance(x, keras.KerasTensor):
            return x
        if id(x) not in copies:
            copies[id(x)] = keras.KerasTensor(shape_of(x.shape), dtype=x.dtype, name=x.name)
            if is_masked(x):
                give_mask(copies[id(x)], copy(mask_of(x)))
            elif carries is not None and carries(x):
                give_mask(copies[id(x)], _mask_for(copies[id(x)]))
        return copies[id(x)]

    return tree.map_structure(copy, arguments)


def with_or_without_sizes(call: Callable[[Any, dict], Any], args: Any, kwargs: dict) -> Any:
    """Calls something with symbolic arguments, and if that fails with sizes where they have none.

    Layers that build tensors from the sizes of others need sizes, not `None`.

    Args:
        call: Takes positional and keyword arguments.
        args: Positional arguments.
        kwargs: Keyword arguments.

    Returns:
        What `call` returns.

    Raises:
        Exception: What it raised first.
    """
    try:
        return call(args, kwargs)
    except Exception as reason:
        try:
            return call(*_with_sizes((args, kwargs)))
        except Exception:
            raise reason from None


def _with_sizes(arguments, size=2):
    """Arguments with a size wherever it is unknown; known sizes stay."""
    return _copied(arguments, lambda shape: [size if d is None else d for d in shape])


def arguments_from_build(layer, dtype: str | None = None, masked: bool = False):
    """Symbolic arguments from the shapes with which the layer was built.

    Args:
        layer: A built layer.
        dtype: That of the arguments; that in which the layer computes by default.
        masked: Whether they carry Keras masks.

    Returns:
        Positional and keyword arguments of `call`.

    Raises:
        Untraceable: If they cannot be told.
    """
    args, kwargs = _from_shapes(layer, dtype or layer.compute_dtype)
    if masked:
        for tensor in tree.flatten((args, kwargs)):
            give_mask(tensor, _mask_for(tensor))
    return args, _with_masks(layer, args, kwargs)


def _from_shapes(layer, dtype):
    shapes = build_shapes(layer)
    if not shapes:
        raise Untraceable("it was never called, so what it takes is unknown")
    if len(shapes) == 1:
        return (_tensors(next(iter(shapes.values())), dtype),), {}
    names = inspect.signature(layer.call).parameters
    kwargs = {}
    for key, shape in shapes.items():
        name = key.removesuffix("_shape")
        if name not in names:
            raise Untraceable(f"`call` has no argument {name!r} for the shape {key!r}")
        kwargs[name] = _tensors(shape, dtype)
    return (), kwargs


def _tensors(shapes, dtype):
    try:
        return tree.map_shape_structure(lambda shape: keras.KerasTensor(shape, dtype=dtype), shapes)
    except (TypeError, ValueError) as error:
        raise Untraceable(f"it was built for no known shape ({in_one_line(error)})") from error
