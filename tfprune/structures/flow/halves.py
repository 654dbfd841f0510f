"""Gated linear units: one half of a tensor times what the other half lets through."""

from __future__ import annotations

from tfprune.keras_private.functional import operation_classes
from tfprune.structures.dense import describe
from tfprune.structures.flow.rules import register_rule


@register_rule(*operation_classes(["Glu"]))
def flow_glu(flow, node):
    """Joins the two halves along its axis."""
    (tensor,) = node.input_tensors
    labels = list(flow.labels(tensor))
    axis = node.operation.axis
    if labels[axis] is not None:
        half = len(labels[axis]) // 2
        what = f"the other half of what {describe(node.operation)} gates must stay"
        labels[axis] = flow.join(labels[axis][:half], labels[axis][half:], what)
    flow.set(node.outputs[0], labels)
