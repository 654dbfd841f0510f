"""What is left of each structure of a model in a smaller one."""

from __future__ import annotations

from dataclasses import dataclass, field

import keras

from tfprune.keras_private.layers import inner_layers
from tfprune.structures import Structure, find_structures
from tfprune.structures.places import Places, places, renaming


@dataclass
class Matched:
    """The structures of a model in a smaller one.

    Args:
        survivors: Name of a structure of the first to the structure and its groups left.
        unmatched: Name of a structure to why it was not found in the other model.
    """

    survivors: dict[str, tuple[Structure, int]] = field(default_factory=dict)
    unmatched: dict[str, str] = field(default_factory=dict)


def match(before: keras.Model, after: keras.Model) -> Matched:
    """Finds the structures of a model in a smaller one by where they are.

    Args:
        before: The model with all structures.
        after: The smaller one.

    Returns:
        `Matched`. A structure has 0 groups left where its layer is known to be gone.
    """
    layers_before, layers_after = places(before), places(after)
    name_before = renaming(layers_before, layers_after)
    old, new = find_structures(before), find_structures(after)
    partners = {}
    result = Matched()
    for structure in new:
        name = name_before(structure.name)
        fits = name in old and old[name].kind == structure.kind
        if fits and name not in partners and structure.groups <= old[name].groups:
            partners[name] = structure.groups
        else:
            result.unmatched[structure.name] = "only in the model after"
    # Where a layer is not known to be another one, neither is any layer known to be gone.
    all_known = all(
        name_before(path) is not None
        for path, layer in layers_after.items()
        if layer["width"] is not None and path not in layers_before
    )
    still = {name_before(path): layer for path, layer in layers_after.items()}
    for structure in old:
        path = structure.name.partition(":")[0]
        if structure.name in partners:
            result.survivors[structure.name] = (structure, partners[structure.name])
        elif all_known and not _is_left(path, layers_before, still):
            result.survivors[structure.name] = (structure, 0)
        elif all_known and _width_counts(structure, path):
            # What reads it has become a constant, so it is no structure any more.
            share = still[path]["width"] / layers_before[path]["width"]
            result.survivors[structure.name] = (structure, round(share * structure.groups))
        else:
            result.unmatched[structure.name] = "only in the model before"
    return result


def _is_left(path, before: Places, after: Places) -> bool:
    """Whether a layer is still there, and not a constant in its place."""
    return path in after and path in before and after[path]["class"] == before[path]["class"]


def _width_counts(structure: Structure, path: str) -> bool:
    """Whether the width of the layer of that path tells the number of groups."""
    share = structure.slices[0]
    is_own = share.layer.name == path.rpartition("/")[2]
    return is_own and share.axis == len(share.variable.shape) - 1


def check_related(before: keras.Model, after: keras.Model) -> None:
    """Refuses two models that do not compute the same thing.

    Inputs may be fewer, since `rebuild` drops the number of a subnetwork, and a vocabulary may have
    been trimmed.

    Raises:
        ValueError: If the inputs or outputs differ.
    """
    try:
        inputs = [[tuple(t.shape[1:]) for t in m.inputs or ()] for m in (before, after)]
        outputs = [[tuple(t.shape[1:]) for t in m.outputs or ()] for m in (before, after)]
    except AttributeError:  # A subclassed model says neither.
        return
    rest = iter(inputs[0])
    if not all(any(_agree(old, new) for old in rest) for new in inputs[1]):
        _refuse("inputs", inputs)
    rows = [_rows(before), _rows(after)]
    if len(outputs[0]) != len(outputs[1]) or not all(
        _agree(old, new)
        or (old[-1:] and old[-1] in rows[0] and new[-1] in rows[1] and _agree(old[:-1], new[:-1]))
        for old, new in zip(*outputs, strict=True)
    ):
        _refuse("outputs", outputs)


def _agree(old, new) -> bool:
    return len(old) == len(new) and all(
        a is None or b is None or a == b for a, b in zip(old, new, strict=True)
    )


def _rows(model) -> set[int]:
    """The sizes of its vocabularies."""
    return {x.input_dim for x in inner_layers(model) if hasattr(x, "embeddings")}


def _refuse(what: str, shapes) -> None:
    raise ValueError(
        f"`after` must be made from `before`, with the same {what}. Received: {what} of shapes "
        f"{shapes[0]} in `before` and {shapes[1]} in `after`"
    )
