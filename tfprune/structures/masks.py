"""Which symbolic tensors carry a Keras mask when a graph runs."""

from __future__ import annotations

import keras

from tfprune.keras_private.functional import is_optional, mask_of, masks_when_run
from tfprune.keras_private.layers import layer_and_inner_layers


def is_masked(tensor) -> bool:
    """Whether a symbolic tensor carries a Keras mask; `Graph.is_masked` knows of more."""
    return mask_of(tensor) is not None


def masks_behind_symbols(nodes) -> set[int]:
    """The tensors that carry a mask when a graph runs, if any does of which symbols say nothing.

    Args:
        nodes: The nodes of the graph, in the order in which they run.

    Returns:
        `id`s of tensors. Where the graph cannot be run, all of them, so that nothing relies on a
        mask that is not there.
    """
    suspects = [
        node
        for node in nodes
        # A model that is given a mask by name puts it on its input when it runs.
        if _may_hide_masks(node.operation) or node.arguments.kwargs.get("mask") is not None
    ]
    # A layer that is given nothing to add may return its input, and its mask with it.
    varies = any(is_optional(t) for node in nodes for t in node.input_tensors)
    if not suspects and not varies:
        return set()
    try:
        if varies:
            return masks_when_run(nodes) | masks_when_run(nodes, without_optional=True)
        # Those alone first: most of them say what they do.
        shown = {id(t) for node in suspects for t in node.outputs if is_masked(t)}
        return masks_when_run(nodes) if masks_when_run(suspects) - shown else set()
    except Exception:  # Whatever user code raises.
        return {id(t) for node in nodes for t in node.outputs}


def _may_hide_masks(operation) -> bool:
    """Whether a layer may set masks of which its symbolic call says nothing."""
    if not isinstance(operation, keras.Layer):
        return False
    if type(operation) in (keras.layers.Embedding, keras.layers.Masking):
        return False  # Their symbolic calls show it.
    return any(_makes_masks(layer) for layer in layer_and_inner_layers(operation))


def _makes_masks(layer) -> bool:
    if isinstance(layer, keras.layers.Embedding) and type(layer).__module__.startswith("keras."):
        return layer.mask_zero
    if isinstance(layer, keras.layers.Masking):
        return True
    # Keras's other layers combine masks or pass them on.
    own = type(layer).compute_mask is not keras.Layer.compute_mask
    return own and not type(layer).__module__.startswith("keras.")
