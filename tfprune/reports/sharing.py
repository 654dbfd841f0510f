"""Distances between the subnetworks of a model: which groups they share."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from tfprune.arguments import built_model
from tfprune.gates import gates_of, subnetworks_of
from tfprune.gates.dynamic import at_size
from tfprune.tables import table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass
class Sharing:
    """The result of `tfprune.sharing`; prints as a table.

    Args:
        names: The subnetworks.
        distances: Kind of structure, such as `"heads"`, to an array `(names, names)`: the Hamming
            distance divided by the number of groups, which is the share of the groups of this kind
            that only one of two subnetworks has. In `"all"` each group counts by its number of
            weights.
        left: Kind of structure, likewise, to an array `(names,)`: the share of the groups that each
            subnetwork has.
    """

    names: tuple[str, ...]
    distances: dict[str, np.ndarray]
    left: dict[str, np.ndarray]

    def to_dict(self) -> dict[str, Any]:
        """All values, as types that JSON knows."""
        return {
            "names": list(self.names),
            "distances": {kind: d.tolist() for kind, d in self.distances.items()},
            "left": {kind: share.tolist() for kind, share in self.left.items()},
        }

    def plot(self, path: str | os.PathLike | None = None) -> Figure:
        """Draws a heat map of the distances for each kind.

        Args:
            path: Where to write a PNG; `None` writes none.

        Returns:
            The matplotlib `Figure`.
        """
        from tfprune.reports.plots import heat_maps

        return heat_maps(self.distances, self.names, path, title="Hamming distance")

    def __str__(self) -> str:
        parts = []
        for kind, distances in self.distances.items():
            rows = [
                [name, *(f"{d:.1%}" for d in row), f"{left:.1%}"]
                for name, row, left in zip(self.names, distances, self.left[kind], strict=True)
            ]
            parts.append(table(["", *self.names, "left"], rows, f"Hamming distances: {kind}"))
        return "\n".join(parts)


def sharing(model: keras.Model, size: float | None = None) -> Sharing:
    """Measures how far the subnetworks of a model are from one another.

    Args:
        model: A model that was trained by a callback with `subnetworks`, and still has its gates.
        size: The size at which to compare them, for a model trained with `DynamicSparsity`.

    Returns:
        A `Sharing`: `print` it, or use `to_dict()` or `plot()`.

    Raises:
        ValueError: If the model has no subnetworks, or `size` is given for a model of one size.

    Source: Li et al., "Probing Structured Pruning on Multilingual Pre-trained Models", 2022,
    appendix E.

    Example: see `tfprune.callbacks.HardConcreteGates` with `subnetworks`; then
    `print(tfprune.sharing(model))`.
    """
    built_model("model", model)
    subnetworks = subnetworks_of(model)
    if subnetworks is None:
        raise ValueError(
            "`model` must have been trained by a callback that was given `subnetworks`, and still "
            "carry its gates. Received: a model without subnetworks"
        )
    gates = gates_of(model)
    with at_size(model, size):
        masks = [gate.open_groups() for gate in gates]
    weights = [np.full(g.structure.groups, g.structure.group_size, "float64") for g in gates]
    by_kind: dict[str, list[np.ndarray]] = {}
    for gate, mask in zip(gates, masks, strict=True):
        by_kind.setdefault(gate.structure.kind, []).append(mask)
    distances, left = {}, {}
    for kind, of_kind in {**by_kind, "all": masks}.items():
        mask = np.concatenate(of_kind, axis=1)
        weight = np.concatenate(weights) if kind == "all" else np.ones(mask.shape[1])
        weight = weight / weight.sum()
        distances[kind] = (mask[:, None] != mask[None]) @ weight
        left[kind] = mask @ weight
    return Sharing(subnetworks.names, distances, left)
