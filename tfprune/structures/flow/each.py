"""Operations on each number by itself: positions stay where they are."""

from __future__ import annotations

from keras import layers, tree

from tfprune.keras_private.functional import operation_classes
from tfprune.structures.dense import describe
from tfprune.structures.elementwise import is_elementwise, known_elementwise
from tfprune.structures.flow.rules import register_rule

_SUMS = (layers.Add, layers.Subtract, layers.Average, *operation_classes(["Add", "Subtract"]))


@register_rule(layers.Activation, layers.Lambda, layers.Rescaling, *known_elementwise())
def flow_each(flow, node):
    """Joins the positions of all inputs; an axis of size one is there for all positions."""
    own = isinstance(node.operation, (layers.Activation, layers.Lambda))
    if own and not is_elementwise(node.operation):
        flow.stop(node, f"it goes to {describe(node.operation)}")
        return
    (output,) = node.outputs
    arrays = _arrays(node)
    reason = f"{describe(node.operation)} joins it with what must stay"
    found = []
    for axis in range(-len(output.shape), 0):
        size = output.shape[axis]
        live = []
        for tensor in node.input_tensors:
            if len(tensor.shape) < -axis:
                continue
            labels = flow.labels(tensor)[axis]
            if tensor.shape[axis] == size:
                live.append(labels)
            else:
                flow.keep(labels, reason)
        if any(len(a.shape) >= -axis and a.shape[axis] != 1 for a in arrays):
            live.append(None)
        if len(live) > 1 and isinstance(node.operation, _SUMS):
            flow.add(live)
        joined = live[0] if live else None
        for labels in live[1:]:
            joined = flow.join(joined, labels, reason)
        found.append(joined)
    flow.set(output, found)


def _arrays(node):
    """The arrays that a call is given beside tensors of the graph."""
    symbolic = {id(tensor) for tensor in node.input_tensors}
    given = tree.flatten((node.arguments.args, node.arguments.kwargs))
    return [x for x in given if id(x) not in symbolic and len(getattr(x, "shape", ())) > 0]
