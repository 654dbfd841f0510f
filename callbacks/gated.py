"""Pruning by gates that are trained with the model."""

from __future__ import annotations

import numpy as np
from keras import ops

from tfprune.callbacks.targeted import TargetedPruning
from tfprune.fit.distillers import is_distiller
from tfprune.fit.optimizer_slots import innermost, renewed
from tfprune.gates import Gate, Subnetworks, attach, detach, gates_of
from tfprune.model_parts import variables_scope


class GatedPruning(TargetedPruning):
    """Base of the callbacks that lay gates over structures.

    The gates come with the fit and go with it: when pruning stops, what stays is decided, the
    gates are fixed, and at the end of the fit they are multiplied into the weights.

    A subclass makes the gates (`make_gates`), presses on them (`act`) and says which groups they
    want to keep (`verdict`).

    Attributes:
        gates: The gates, while a fit runs; after it where there are several networks to cut out.
        subnetworks: What tells examples apart, or `None`.
    """

    subnetworks: Subnetworks | None = None

    def make_gates(self) -> list[Gate]:
        """The gates to lay over `structures`."""
        raise NotImplementedError

    def verdict(self) -> dict[str, np.ndarray]:
        """The groups that stay, when it is time to decide: masks of the shape of the gates."""
        raise NotImplementedError

    def fix(self, keep: dict[str, np.ndarray]) -> None:
        """Fixes every gate for the groups that stay."""
        raise NotImplementedError

    @property
    def keeps_gates(self) -> bool:
        """Whether one network cannot hold what was found, so that the gates stay on the model."""
        return self.subnetworks is not None

    def prepare(self):
        """Lays the gates on, and tells the optimizer."""
        self.gates = None
        super().prepare()
        left_behind = gates_of(self.subject)
        if left_behind is not None and left_behind.in_use:
            detach(self.subject)  # An earlier fit was interrupted.
        with variables_scope(self.model):
            self.gates = attach(self.subject, self.make_gates())
            self.gates.in_use = True
            self._renew_optimizer([gate.scores for gate in self.gates])
        if self.subnetworks is not None and is_distiller(self.model):
            # The teacher is called on the same data, and need not know of groups either.
            self.subnetworks.listen(self.model.teacher)

    def take_off(self):
        """Multiplies the gates into the weights; or lifts them, if nothing was decided."""
        if self.gates is None or gates_of(self.subject) is not self.gates:
            return
        if self.subnetworks is not None and is_distiller(self.model):
            self.subnetworks.ignore(self.model.teacher)
        decided = self.decided
        if self.keeps_gates and decided:
            for gate in self.gates:
                gate.scores.trainable = False  # They stay until another fit lays its own.
        else:
            detach(self.subject, fold=decided)
        with variables_scope(self.model):
            self._renew_optimizer()

    def _renew_optimizer(self, exempt=()):
        optimizer = self.model.optimizer
        self.model.optimizer = renewed(optimizer, self.model.trainable_variables, exempt)

    def score_scale(self, learning_rate: float) -> float:
        """What a score must be scaled by to have a learning rate of its own under Adam."""
        rate = innermost(self.model.optimizer)._learning_rate
        if callable(rate) and not hasattr(rate, "assign"):
            # A schedule may start at zero: what counts is its height.
            rates = [rate(step) if _takes_step(rate) else rate() for step in _STEPS]
        else:
            rates = [rate]
        highest = max(float(ops.convert_to_numpy(r)) for r in rates)
        return learning_rate / highest if highest > 0 else 1.0

    # -- the decision --------------------------------------------------------------------------

    @property
    def decided(self) -> bool:
        """Whether the gates are fixed, in this fit or in the part of it before a resume."""
        return any(bool(np.any(ops.convert_to_numpy(g.fixed) >= 0)) for g in self.gates)

    def decide(self) -> None:
        """Ends the choice: what is to go falls, what stays trains on."""
        keep = self.verdict()
        self.fix(keep)
        for name, stays in keep.items():
            structure = self.structures[name]
            in_any = stays.reshape(-1, structure.groups).any(axis=0)
            self.drop(structure, ~in_any)

    def groups_left(self):
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

    def rest(self):
        """Before pruning nothing happens; once it has stopped, the choice is made."""
        if self._reached("stop", self._last_step) and not self.decided:
            self.decide()
        self.hold()

    def finish(self):
        """Decides, if the fit ends before pruning was to stop."""
        if self._fit_start is not None and not self.decided:
            self.decide()
        super().finish()


_STEPS = (0, 1, 10, 100, 1000, 10000)


def _takes_step(rate):
    from keras.optimizers.schedules import LearningRateSchedule

    return isinstance(rate, LearningRateSchedule)
