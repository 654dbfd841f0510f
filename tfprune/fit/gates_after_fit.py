"""What becomes of the gates of a fit when it ends, or when another one begins."""

from __future__ import annotations

import keras

from tfprune.gates import Gates, detach
from tfprune.gates.attaching import containers


def leave_gates(gates: Gates) -> None:
    """Leaves the gates of a fit on its model, until another fit; they are trained no more."""
    gates.left_by_fit = True
    for gate in gates.attached:
        gate.scores.trainable = False


def fold_or_remove_gates(model: keras.Model, gates: Gates) -> None:
    """Multiplies gates that are fixed into the weights, and removes them.

    Args:
        model: The model that they are attached to.
        gates: Gates of a fit, which may have been interrupted.
    """
    # An interrupted fit has nothing to fold where gates are still undecided, and no one network
    # to fold where there are several.
    fold = gates.subnetworks is None and all(gate.is_fixed for gate in gates)
    detach(model, fold=fold, gates=gates)


def remove_gates_left_by_a_fit(model: keras.Model) -> None:
    """Removes the gates that an earlier fit has left on a model for `rebuild`."""
    for gates in containers(model):
        if gates.left_by_fit:
            detach(model, gates=gates)
