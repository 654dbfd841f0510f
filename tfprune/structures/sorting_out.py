"""Sorts out what a search has found: what is shared, whose reasons need not be said, names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import keras

from tfprune.structures.collection import Structures
from tfprune.structures.cut_variables import overlap
from tfprune.structures.skipped import Skipped
from tfprune.structures.slices import Slices
from tfprune.structures.structure import Structure


def sorted_out(
    found: Sequence[Structure],
    skipped: Iterable[tuple[keras.Layer | None, Skipped, bool]],
    places: Mapping[int, set[str]],
    owners: Mapping[int, set[int]],
) -> Structures:
    """Drops what is shared between places that cannot be cut alike.

    Args:
        found: The structures, in the model's order.
        skipped: What was skipped, with its layer, and whether that need not be said of the second
            layer of a pair.
        places: `id` of a layer to the graphs that call it.
        owners: `id` of a variable to the layers that hold it.
    """
    kept: list[Structure] = []
    dropped: list[Skipped] = []
    taken: dict[int, list[tuple[Structure, Slices]]] = {}  # variable -> who has groups in it
    for structure in found:
        others = (
            other
            for share in structure.slices
            for other, theirs in taken.get(id(share.variable), ())
            if overlap(theirs, share)
        )
        other = next(others, None)
        reason = _shared(structure, places, owners)
        if other is not None:
            reason = reason or f"its weights belong to the groups of {other.name}"
        if reason:
            dropped.append(Skipped(structure.name, reason))
        else:
            for share in structure.slices:
                taken.setdefault(id(share.variable), []).append((structure, share))
            kept.append(structure)
    partners = {id(share.layer) for s in kept for share in s.consumers}
    # What one kind does not find another one may. Nor need it be said that the second layer of a
    # pair ends in the residual stream, or that what is cut with the layer that it is in is none by
    # itself.
    inside = {id(share.layer) for s in kept if s.is_cut_by_shape for share in s.slices}
    inside |= {id(share.layer) for s in kept for share in s.producers}
    said = [
        skip
        for layer, skip, usual in skipped
        if id(layer) not in inside and not (usual and id(layer) in partners)
    ]
    return Structures(_unique(kept), _one_reason_each([*said, *dropped]))


def _shared(structure, places, owners) -> str | None:
    for layer in structure.layers():
        if len(places.get(id(layer), ())) > 1:
            return f"{layer.name} is called in more than one model"
    for share in structure.slices:
        if share.bias_layer is not None and len(places.get(id(share.bias_layer), ())) > 1:
            return f"{share.bias_layer.name} is called in more than one model"
        if len(owners.get(id(share.variable), ())) > 1:
            return f"{share.layer.name} shares its {share.attribute} with another layer"
    return None


def _one_reason_each(skipped):
    """Skipped layers, each once. That no kind is registered says less than any other reason."""
    reasons: dict[str, list[Skipped]] = {}
    for skip in skipped:
        reasons.setdefault(skip.name, []).append(skip)
    kept = []
    for skip in skipped:
        others = [x for x in reasons[skip.name] if not x.reason.startswith("no kind of structure")]
        if skip is (others or reasons[skip.name])[0]:
            kept.append(skip)
    return kept


def _unique(structures):
    """Makes names unique; layers of one model may share a name when the model is subclassed."""
    counts: dict[str, int] = {}
    for s in structures:
        counts[s.name] = counts.get(s.name, 0) + 1
        if counts[s.name] > 1:
            s.name = f"{s.name}:{counts[s.name]}"
    return structures
