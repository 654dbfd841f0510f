"""Pruning by gates that are trained with the model."""

from __future__ import annotations

import numpy as np

from tfprune.callbacks.base import PruningCallback
from tfprune.callbacks.targeted import TargetedPruning
from tfprune.gates import Gate, Subnetworks
from tfprune.keras_private.optimizers import highest_learning_rate


class WithGates(PruningCallback):
    """Base of the callbacks that apply gates to structures, with a target or without.

    A subclass makes the gates (`make_gates`) and says when it is settled what they keep
    (`decided`).

    Attributes:
        gates: The gates, while a fit runs; after it where there are several networks to cut out.
        subnetworks: What tells examples apart, or `None`.
    """

    subnetworks: Subnetworks | None = None

    def make_gates(self) -> list[Gate]:
        """The gates for `structures`."""
        raise NotImplementedError

    @property
    def decided(self) -> bool:
        """Whether it is settled what the gates keep, in this fit or in the part before a resume."""
        raise NotImplementedError

    @property
    def keeps_gates(self) -> bool:
        """Whether one network cannot hold what was found, so that the gates stay on the model."""
        return self.subnetworks is not None

    def prepare(self) -> None:
        """Applies the gates."""
        super().prepare()
        self.gates = self.owner.attach_gates(
            self.make_gates(), stay=lambda: self.keeps_gates and self.decided
        )

    def score_scale(self, learning_rate: float) -> float:
        """What a score must be scaled by to have a learning rate of its own under Adam."""
        highest = highest_learning_rate(self.model.optimizer)
        return learning_rate / highest if highest > 0 else 1.0

    def groups_left(self) -> dict[str, dict[str, int]]:
        """By subnetwork, where there are some."""
        if self.subnetworks is None or not self.decided:
            return super().groups_left()
        return self.open_by_network()

    def open_by_network(self) -> dict[str, dict[str, int]]:
        """Name of each subnetwork, `""` where there is one, to open groups in each structure."""
        names = ("",) if self.subnetworks is None else self.subnetworks.names
        masks = {g.structure.name: g.open_groups().reshape(len(names), -1) for g in self.gates}
        return {
            name: {structure: int(mask[i].sum()) for structure, mask in masks.items()}
            for i, name in enumerate(names)
        }


class GatedPruning(WithGates, TargetedPruning):
    """Base of the callbacks that train gates until a target is met.

    The gates are attached for the time of a fit. When pruning stops, the groups that stay are
    selected, the gates are fixed, and at the end of the fit they are multiplied into the weights.

    A subclass makes the gates (`make_gates`), trains them (`on_step`) and says which groups they
    keep (`select`).
    """

    def select(self) -> dict[str, np.ndarray]:
        """The groups that stay, when it is time to decide: masks of the shape of the gates."""
        raise NotImplementedError

    def fix(self, keep: dict[str, np.ndarray]) -> None:
        """Fixes every gate for the groups that stay."""
        raise NotImplementedError

    # -- the decision --------------------------------------------------------------------------

    @property
    def decided(self) -> bool:
        """Whether the gates are fixed, in this fit or in the part of it before a resume."""
        return any(gate.is_fixed for gate in self.gates)

    def decide(self) -> None:
        """Ends pruning: groups that are not selected are pruned, the others keep training."""
        keep = self.select()
        self.owner.model_changed()
        self.fix(keep)
        for name, stays in keep.items():
            structure = self.structures[name]
            in_any = np.any(stays.reshape(-1, structure.groups), axis=0)
            self.prune(structure, ~in_any)

    def on_step_outside(self) -> None:
        """Before pruning nothing happens; once it has stopped, the choice is made."""
        # First it is seen what is pruned already: a fit that is resumed without its gates, by
        # loading a model and `initial_epoch`, begins after `stop` and has nothing more to choose.
        self.prune_zero_groups()
        if self._reached("stop", self._last_step) and not self.decided:
            self.decide()

    def finish(self) -> None:
        """Decides, if the fit ends before pruning was to stop."""
        if self.owner.clock.has_begun and not self.decided:
            self.warn_if_cut_short("the choice of groups is made now")
            self.decide()
        super().finish()
