"""What is left of the structures of a model in a smaller one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import keras

from tfprune.structures.collection import Structures
from tfprune.structures.finding import find_structures
from tfprune.structures.places import Places, places, renaming


@dataclass
class Matched:
    """The structures of a model in a smaller one.

    Args:
        left: Name of a structure of the first to its groups that are left in the smaller one.
        only_before: Names of those of which it cannot be told what is left.
        only_after: Names of structures of the smaller one that are none of the first.
    """

    left: dict[str, int] = field(default_factory=dict)
    only_before: list[str] = field(default_factory=list)
    only_after: list[str] = field(default_factory=list)


def match(
    groups: Mapping[str, int],
    layers: Places,
    after: keras.Model,
    structures: Structures | None = None,
) -> Matched:
    """Finds the structures of a model in a smaller one by where they are.

    Args:
        groups: Name of a structure of the model to its groups.
        layers: `places` of the model.
        after: The smaller one.
        structures: Its structures, if they are known already.

    Returns:
        `Matched`. A structure has 0 groups left where its layer is known to be gone.
    """
    layers_after = places(after)
    name_before = renaming(layers, layers_after)
    result = Matched()
    partners: dict[str, int] = {}
    for structure in find_structures(after) if structures is None else structures:
        name = name_before(structure.name)
        if (
            name is not None
            and name in groups
            and name not in partners
            and structure.groups <= groups[name]
        ):
            partners[name] = structure.groups
        else:
            result.only_after.append(structure.name)
    # Where a layer is not known to be another one, neither is any layer known to be gone.
    all_known = all(
        name_before(path) is not None
        for path, layer in layers_after.items()
        if layer["width"] is not None and path not in layers
    )
    still = {name_before(path): layer for path, layer in layers_after.items()}
    for name, number in groups.items():
        path = name.partition(":")[0]
        if name in partners:
            result.left[name] = partners[name]
        elif all_known and not _is_left(path, layers, still):
            result.left[name] = 0
        elif all_known and (count := _by_width(number, layers[path], still[path])) is not None:
            # What reads it has become a constant, or one head is left, whose size is found instead:
            # it is no structure any more.
            result.left[name] = count
        else:
            result.only_before.append(name)
    return result


def _by_width(number: int, before: Mapping[str, Any], after: Mapping[str, Any]) -> int | None:
    """How many groups a layer makes that has made so many, if its width tells."""
    if not before["width"] or before["width"] % number:
        return None
    left, rest = divmod(after["width"], before["width"] // number)
    return None if rest else left


def _is_left(path: str, before: Places, after: Mapping[str | None, Mapping[str, Any]]) -> bool:
    """Whether a layer is still there, and not a constant in its place."""
    return path in after and path in before and after[path]["class"] == before[path]["class"]
