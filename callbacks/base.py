"""What all pruning callbacks share: which structures, which groups of them are pruned, and how."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from tfprune.arguments import boolean, integer, keras_model, one_of
from tfprune.callbacks.epoch_logs import EpochLogs
from tfprune.callbacks.phases import Phases
from tfprune.configurable import Configurable, copy_from_arguments
from tfprune.fit.owner import FitOwner
from tfprune.fit.state import State
from tfprune.keras_private.fits import synchronize
from tfprune.schedules import Moment
from tfprune.structures import Structure, Structures
from tfprune.structures.collection import checked_patterns
from tfprune.user_warnings import warn


class PruningCallback(Phases, EpochLogs, Configurable, keras.callbacks.Callback):
    """Base of the pruning callbacks.

    A subclass says what happens in `prepare` (once, before the first step), `on_step` (every
    `check_every` steps while pruning is on), `on_step_outside` (as often, while it is off) and
    `finish` (once, after the last step). What is attached to the model goes through `owner`, which
    removes it when the fit ends, however it ends.

    A penalty on the loss is in `loss` but not in `val_loss`, nor in what `model.evaluate` gives
    while the fit runs.

    The epoch logs have, at the end of each epoch:

    - `groups/ffn`, `groups/heads` and so on: how many groups of each kind are left, integers;
    - `sparsity`: which share of the weights in the groups of all pruning callbacks is removed;
    - `strength/ffn` and so on, where a strength works: the mean over the structures of a kind,
      after the last step of the epoch;
    - `penalty/group_lasso`, by the name of the class: the penalty after the last step;
    - `distance/group_lasso`, likewise, with a target: by how much the model costs more than it may,
      in the unit of the target; 0 or less once that is met. It is a share of weights, parameters
      or operations, or milliseconds. Of two callbacks of one class, the larger.

    A callback that reads the logs, such as `TensorBoard` or `CSVLogger`, stands behind this one.

    Args:
        structures: Kinds, names or regular expressions; `None` means all but those of the kind
            `"width"`.
        start: When pruning starts: steps (int), a fraction of training (float), or an `Epoch` or
            `Plateau` of `tfprune.schedules`.
        stop: When it stops, as `start`; `None` means at the end of the fit.
        check_every: Steps from one look at the weights to the next.
        verbose: 0 for silence, 1 for a table at the end.
        log_structures: Whether the epoch logs have entries for each structure too, such as
            `groups/encoder_0_ffn`, and not only for each kind.

    Attributes:
        owner: The `FitOwner` of the fit.
        subject: The model that is pruned: the one that is trained, or the student of a
            `keras.distillation.Distiller`.
        structures: Its structures, once training has begun.
        history: Epoch by epoch, structure name to the number of groups left.
    """

    _last_step: int | Any  # `None` until the first epoch begins.
    _has_warned: bool

    def __init__(
        self,
        structures: str | Iterable[str] | None = None,
        start: Moment = 0,
        stop: Moment | None = None,
        check_every: int = 20,
        verbose: int = 1,
        log_structures: bool = False,
    ):
        super().__init__()
        self.patterns = checked_patterns(structures)
        self._set_phases(start, stop)
        self.check_every = integer("check_every", check_every)
        self.verbose = one_of("verbose", verbose, (0, 1, False, True))
        self.log_structures = boolean("log_structures", log_structures)
        self.structures = None
        self.history = []

    def __deepcopy__(self, memo: dict[int, Any]) -> PruningCallback:
        """A new callback with the same arguments and the same data, as a tuner makes them.

        What belongs to a fit that is over is not copied.
        """
        return copy_from_arguments(self, memo)

    # -- for subclasses -----------------------------------------------------------------------

    def prepare(self) -> None:
        """Called once the structures are known, before the first step."""

    def prepared(self) -> None:
        """Called after `prepare` of all callbacks, when the optimizer knows all its variables."""

    def on_step(self, step: int, steps: int) -> None:
        """Called while pruning is on; `steps` have passed since the last call."""

    def on_step_outside(self) -> None:
        """Called while pruning is off."""

    def end_steps(self) -> None:
        """Called after the last step of an epoch, before any callback sees the epoch's end."""

    def finish(self) -> None:
        """Called once after the last step of training."""

    @property
    def state(self) -> State:
        """The variables that this callback keeps on the model."""
        return self.owner.state(self)

    def pruned(self, structure: Structure) -> np.ndarray:
        """Which groups of a structure have been pruned, a boolean array `(groups,)`."""
        return self.owner.pruned.of(structure)

    def prune(
        self, structure: Structure, groups: np.ndarray, norms: np.ndarray | None = None
    ) -> None:
        """Sets groups to zero; they stay exactly zero until the fit ends.

        Args:
            structure: One of `structures`.
            groups: Boolean array `(groups,)`, true for the groups that are pruned now.
            norms: `structure.norms()`, if they are known already.

        Raises:
            ValueError: If weights are no longer finite; groups are left as they are.
        """
        norms = structure.norms() if norms is None else norms
        self.refuse_not_finite(structure, norms)
        before = self.pruned(structure)
        # A moving average that is swapped in has a little of each step in it, which is no matter;
        # compared to the weights at the beginning, since a penalty may have shrunk all since then.
        if np.any(norms[before] > 0.1 * self._median_norms[structure.name]):
            self._warn_of_restored_weights()
        if np.any(groups & ~before):
            self.owner.model_changed()
        if np.any(groups & ~before) or np.any(norms[before | groups]):
            self.owner.pruned.prune(structure, groups, self.model.optimizer)

    def refuse_not_finite(self, structure: Structure, norms: np.ndarray) -> None:
        """Stops a fit that has diverged.

        Args:
            structure: One of `structures`.
            norms: A measure of the weights of each of its groups, `(groups,)`.

        Raises:
            ValueError: If one is not finite.
        """
        if not np.all(np.isfinite(norms)):
            raise ValueError(
                f"The weights of {structure.name!r} are no longer finite. Lower the learning rate, "
                "or clip gradients; groups are left as they are."
            )

    def prune_zero_groups(self) -> None:
        """Prunes the groups whose weights are zero, so that they stay so, also after a resume."""
        for structure in self.structures:
            norms = structure.norms()
            self.prune(structure, norms == 0, norms)

    def _warn_of_restored_weights(self):
        if not self._has_warned:
            self._has_warned = True
            warn(
                f"{type(self).__name__}: something set weights from before pruning, such as a "
                "callback that restores the best epoch. The groups that were pruned are taken out "
                "of these weights again, without training after it.",
            )

    # -- the owner calls -----------------------------------------------------------------------

    def choose_structures(self, found: Structures) -> None:
        """Chooses its structures, and refuses what cannot work; nothing is attached yet.

        Args:
            found: All structures of `subject`.
        """
        self.structures = found.select_any(self.patterns, by=type(self).__name__)
        self._median_norms: dict[str, float] = {}
        for structure in self.structures:
            norms = structure.norms()
            self._median_norms[structure.name] = (
                float(np.median(norms[norms > 0])) if norms.any() else 0.0
            )
            if not np.all(np.isfinite(norms)):
                raise ValueError(
                    f"`model` must have finite weights. Received: the weights of "
                    f"{structure.name!r} are not finite; pruning cannot start. Load weights from "
                    "before the training diverged."
                )
        self._set_fit_length()

    def end_pruning(self) -> None:
        """The last look at the weights."""
        if self.owner.clock.has_begun:
            self._check(self.owner.clock.steps)
            self._warn_if_start_was_not_reached()
        self.finish()

    # -- Keras ---------------------------------------------------------------------------------

    def set_model(self, model: keras.Model) -> None:
        """Joins the other pruning callbacks of the fit; nothing is attached yet."""
        keras_model("model", model)
        super().set_model(model)
        self.owner = FitOwner.for_callback(self, model)
        self.subject = self.owner.subject
        self._check_model(model)

    def _check_model(self, model):
        if not self.subject.built:
            raise ValueError(
                f"`model` must be built before `fit` for {type(self).__name__}, so that its "
                "structures can be found: give it an `Input`, or call it once on data."
            )
        if not model.compiled:
            raise ValueError(
                f"`model` must be compiled before {type(self).__name__} is used: call "
                "`model.compile(optimizer, loss)`."
            )

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begins anew."""
        self._last_step = None
        self._has_warned = False
        self._first_step_is_done = False
        self.history = []
        if not self.owner.in_callback_list:
            self.owner.begin()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Finds its place in time, also in a fit that was resumed."""
        synchronize(self)
        self.owner.clock.begin_epoch(epoch, self._clock.steps_per_epoch)
        if self._last_step is None:
            self._moments = self.state.moments()
            self._last_step = self.owner.clock.steps
            self._check(self._last_step)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Looks at the weights every `check_every` steps."""
        clock = self.owner.clock
        clock.end_step(batch)
        if not self._first_step_is_done:
            self._first_step_is_done = True
            self._warn_if_penalty_is_ignored()
        if self.owner.is_backed_up_amid_epochs:
            synchronize(self)
            clock.save()
        step = clock.steps
        due = step - self._last_step >= self.check_every
        if due or self._phase(step) != self._phase(self._last_step):
            self._check(step)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Looks at the weights, and logs what presses on them and what is left."""
        synchronize(self)
        self.owner.clock.save()
        self._log_pressure(logs)  # As the last step had it: the next look may end it.
        step = self.owner.clock.steps
        phase = self._phase(step)
        self._check_plateaus(step, logs or {})
        if step != self._last_step or self._phase(step) != phase:
            self._check(step)
        self._log_left(logs)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Ends pruning where no list of callbacks does."""
        if not self.owner.in_callback_list:
            self.owner.finish()

    def _warn_if_penalty_is_ignored(self):
        if self.state.is_ignored:
            kind = type(self.model).__name__
            warn(
                f"{type(self).__name__}: its penalty has no effect, since the first step did not "
                f"read `model.losses`. In `train_step` of {kind}, compute the loss with "
                "`self.compute_loss(x, y, y_pred)`, or add `sum(self.losses)` to it.",
            )

    def _check(self, step: int) -> None:
        synchronize(self)
        steps = step - self._last_step
        self._last_step = step
        if self._phase(step) == (True, False):
            self.on_step(step, steps)
        else:
            self.on_step_outside()
