"""Products of two tensors, such as those of attention: `matmul` and `einsum`.

Heads lie along an axis that both tensors have and that stays in the product. What is summed over
must stay: a part of a sum says nothing of the whole.
"""

from __future__ import annotations

from itertools import count

from tfprune.keras_private.functional import operation_classes
from tfprune.structures.dense import describe
from tfprune.structures.flow.rules import register_rule

_EINSUM = operation_classes(["Einsum"])
PRODUCTS = (*operation_classes(["Matmul"]), *_EINSUM)
"""The operations."""


@register_rule(*PRODUCTS)
def flow_product(flow, node):
    """Joins the positions along axes of the same letter; those of letters that are summed stay."""
    what = describe(node.operation)
    letters = _letters(node)
    if letters is None:
        flow.stop(node, f"it goes to {what}")
        return
    *given, made = letters
    (output,) = node.outputs
    sizes = dict(zip(made, output.shape, strict=True))
    found: dict[str, list] = {letter: [] for letter in made}
    for tensor, names in zip(node.input_tensors, given, strict=True):
        for size, letter, labels in zip(tensor.shape, names, flow.labels(tensor), strict=True):
            if letter not in sizes:
                flow.keep(labels, f"{what} sums over it")
            elif size == sizes[letter]:
                found[letter].append(labels)
            else:  # One for all positions of the others.
                flow.keep(labels, f"{what} joins it with what must stay")
    joined = []
    for letter in made:
        first, *others = found[letter] or [None]
        for labels in others:
            first = flow.join(first, labels, f"{what} joins it with what must stay")
        joined.append(first)
    flow.set(output, joined)


def _letters(node) -> list[list[str]] | None:
    """The letters of the axes of what a product is given, and of what it makes."""
    ranks = [len(tensor.shape) for tensor in node.input_tensors]
    if type(node.operation) in _EINSUM:
        return _of_einsum(node.operation.subscripts, ranks)
    if len(ranks) != 2 or min(ranks) < 2:
        return None
    names = map(str, count())
    batch = [next(names) for _ in range(max(ranks) - 2)]
    row, between, column = (next(names) for _ in range(3))
    ahead = [batch[len(batch) - (rank - 2) :] for rank in ranks]
    return [[*ahead[0], row, between], [*ahead[1], between, column], [*batch, row, column]]


def _of_einsum(subscripts, ranks):
    given, _, made = subscripts.replace(" ", "").partition("->")
    letters = [list(names) for names in given.split(",")]
    plain = all(names.isalpha() and len(set(names)) == len(names) for names in given.split(","))
    fits = [len(names) for names in letters] == ranks
    return [*letters, list(made)] if made.isalpha() and plain and fits else None
