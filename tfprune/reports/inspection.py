"""What a model is made of, for pruning: `tfprune inspect`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from tfprune.arguments import built_model
from tfprune.gates.chosen_subnetwork import subnetworks_of
from tfprune.keras_private.layers import layer_and_inner_layers, own_variables
from tfprune.measuring.counting import count_parameters
from tfprune.rebuild.rebuilding import groups_left
from tfprune.structures import Structures, find_structures
from tfprune.structures.collection import skipped_table
from tfprune.tables import table, wrapped


@dataclass(frozen=True)
class Inspection:
    """The result of `inspect`; prints as tables.

    Args:
        parameters: Of the model.
        kinds: Kind to the parameters in groups of that kind; a weight between two kinds counts for
            both. `"embeddings"` are tables of vectors that have no groups, `"other"` is the rest.
        structures: What can be removed, and what was skipped.
        zero: Structure name to how many of its groups `tfprune.rebuild` would cut; `None` for a
            model of several subnetworks, where that depends on the subnetwork.
        zero_weights: Parameters in these groups, or `None`.
    """

    parameters: int
    kinds: dict[str, int]
    structures: Structures
    zero: dict[str, int] | None
    zero_weights: int | None

    def to_dict(self) -> dict[str, Any]:
        """All values, as types that JSON knows."""
        return {
            "parameters": self.parameters,
            "kinds": {
                kind: {"parameters": count, "share": self._share(count)}
                for kind, count in self.kinds.items()
            },
            "zero_weights": self.zero_weights,
            "structures": [
                {
                    "name": s.name,
                    "kind": s.kind,
                    "groups": s.groups,
                    "zero": None if self.zero is None else self.zero[s.name],
                    "weights": s.weights,
                }
                for s in self.structures
            ],
            "skipped": [
                {"name": s.name, "reason": s.reason, "advice": s.advice}
                for s in self.structures.skipped
            ],
        }

    def _share(self, count: int) -> float:
        return count / max(self.parameters, 1)

    def __str__(self) -> str:
        rows = [
            (s.name, s.kind, s.groups, "?" if self.zero is None else self.zero[s.name], s.weights)
            for s in self.structures
        ]
        parts = ["No structure that can be removed was found."]
        if rows:
            columns = ["layer", "kind", "groups", "zero", "weights"]
            parts = [table(columns, rows, "Structures", 2, paths=True)]
        shares = [(kind, count, f"{self._share(count):.1%}") for kind, count in self.kinds.items()]
        title = f"{self.parameters:,} parameters by kind"
        parts.append(table(["kind", "parameters", "share"], shares, title))
        if self.structures.skipped:
            parts.append(skipped_table(self.structures.skipped))
        if self.zero is None:
            parts.append(wrapped("Which groups are zero differs between its subnetworks."))
        elif any(self.zero.values()):
            groups = sum(s.groups for s in self.structures)
            says = (
                f"{sum(self.zero.values()):,} of {groups:,} groups are zero: `rebuild` cuts them "
                f"out, with {self.zero_weights:,} weights."
            )
            parts.append(wrapped(says))
        return "\n".join(parts)


def inspect(model: keras.Model) -> Inspection:
    """Says what can be removed from a model, what is zero already, and where its parameters are.

    Args:
        model: A built model.

    Returns:
        An `Inspection`: `print` it, or use `to_dict()`.

    Raises:
        ValueError: If it is no built Keras model.

    Example:

    >>> import keras
    >>> layers = [keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(2)]
    >>> inspect(keras.Sequential(layers)).kinds
    {'ffn': 56, 'other': 2}
    """
    built_model("model", model)
    found = find_structures(model)
    kinds = {kind: Structures([s for s in found if s.kind == kind]).weights for kind in found.kinds}
    in_groups = {id(cut.variable) for cut in found.by_variable}
    tables = {
        id(variable): int(np.prod(variable.shape))
        for layer in layer_and_inner_layers(model)
        if isinstance(layer, keras.layers.Embedding)
        for variable in own_variables(layer)
        if id(variable) not in in_groups
    }
    if tables:
        kinds["embeddings"] = sum(tables.values())
    parameters = count_parameters(model)
    kinds["other"] = parameters - found.weights - sum(tables.values())
    zero = zero_weights = None
    if subnetworks_of(model) is None:
        left = groups_left(model, found)
        zero = {s.name: s.groups - left[s.name] for s in found}
        zero_weights = found.weights - round(found.weights_left(left))
    return Inspection(parameters, kinds, found, zero, zero_weights)
