"""What all pruning callbacks share: which structures, when, and what they report."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from tfprune.fit.distillers import add_penalties, is_distiller, remove_penalties
from tfprune.fit.optimizer_slots import clear_slots, innermost
from tfprune.fit.pressure import attach, detach
from tfprune.model_parts import forget_compiled
from tfprune.schedules import Clock, Plateau, when
from tfprune.structures import Structures, find_structures

_MOMENTS = ("start", "start_metric", "stop", "stop_metric")


class PruningCallback(keras.callbacks.Callback):
    """Base of the pruning callbacks.

    A subclass says what happens in `prepare` (once, before the first step), `act` (every
    `check_every` steps while pruning is on), and `rest` (likewise while it is off).

    Args:
        structures: Kinds, names or regular expressions; `None` means all structures.
        start: When pruning starts: steps (int), a fraction of training (float), or an `Epoch` or
            `Plateau` of `tfprune.schedules`.
        stop: When it stops, likewise; `None` means at the end of the fit.
        check_every: Steps from one look at the weights to the next.
        verbose: 0 for silence, 1 for a table at the end.

    Attributes:
        subject: The model that is pruned: the one that is trained, or the student of a
            `keras.distillation.Distiller`.
        structures: Its structures, once the fit has begun.
        history: Epoch by epoch, structure name to the number of groups left.
    """

    def __init__(self, structures=None, start=0, stop=None, check_every=20, verbose=1):
        super().__init__()
        if not isinstance(check_every, int) or check_every < 1:
            raise ValueError(
                f"`check_every` must be a positive integer. Received: check_every={check_every!r}"
            )
        self.patterns = structures
        self.start = when(start, "start")
        self.stop = None if stop is None else when(stop, "stop")
        self.check_every = check_every
        self.verbose = verbose
        self.structures: Structures | None = None
        self.history: list[dict[str, int]] = []

    # -- for subclasses -----------------------------------------------------------------------

    def prepare(self) -> None:
        """Called once the structures are known, before the first step."""

    def act(self, step: int, steps: int) -> None:
        """Called while pruning is on; `steps` have passed since the last call."""

    def rest(self) -> None:
        """Called while pruning is off."""

    def finish(self) -> None:
        """Called at the end of the fit, after the last `act` or `rest`."""

    def take_off(self) -> None:
        """Takes what `prepare` laid on the model off again, whatever has happened since."""

    @property
    def strengths(self) -> keras.Variable:
        """Scalars that the compiled step may read, one for each structure, kept over a resume."""
        return self._pressure.strengths

    @property
    def notes(self) -> np.ndarray:
        """Numbers that outlive a resume, one for each structure; NaN until `note` is called."""
        return keras.ops.convert_to_numpy(self._pressure.notes)[: len(self.structures)]

    def note(self, values) -> None:
        """Keeps one number for each structure where `BackupAndRestore` saves it."""
        self._write(np.arange(len(self.structures)), values)

    def since_start(self, step: int) -> int:
        """Steps since pruning began, in this fit or in the part of it before a resume."""
        place = len(self.structures)
        begun = keras.ops.convert_to_numpy(self._pressure.notes)[place]
        if np.isnan(begun):
            self._write(place, step)
            begun = step
        return step - int(begun)

    def _write(self, places, values):
        notes = keras.ops.convert_to_numpy(self._pressure.notes).copy()
        notes[places] = values
        self._pressure.notes.assign(notes)

    def drop(self, structure, dead: np.ndarray, norms: np.ndarray | None = None) -> None:
        """Lets groups fall: their weights are zero from now on until the fit ends.

        Two things hold a fallen group at zero between two looks: with all its weights zero no
        gradient reaches any of them, and the optimizer's memory of them is cleared.

        Args:
            structure: One of `structures`.
            dead: Boolean array `(groups,)`, true for the groups that fall now.
            norms: `structure.norms()`, if they are at hand.

        Raises:
            ValueError: If weights are no longer finite; groups are left as they are.
        """
        norms = structure.norms() if norms is None else norms
        if not np.all(np.isfinite(norms)):
            raise ValueError(
                f"The weights of {structure.name!r} are no longer finite. Lower the learning rate, "
                "or clip gradients; groups are left as they are."
            )
        fallen = self._fallen[structure.name]
        newly = np.any(dead & ~fallen)
        fallen |= dead
        if newly or np.any(norms[fallen]):
            alive = (~fallen).astype("float32")
            structure.scale(alive)
            clear_slots(self.model.optimizer, structure, alive)

    def hold(self) -> None:
        """Keeps at zero what has fallen, also in a fit that was resumed."""
        for structure in self.structures:
            norms = structure.norms()
            self.drop(structure, norms == 0, norms)

    # -- Keras ---------------------------------------------------------------------------------

    def set_model(self, model):
        """Checks the model and finds its structures."""
        super().set_model(model)
        self.subject = model.student if is_distiller(model) else model
        self._check_model(model)
        self.structures = find_structures(self.subject).select(self.patterns)
        self._fallen = {s.name: np.zeros(s.groups, bool) for s in self.structures}
        for structure in self.structures:
            if not np.all(np.isfinite(structure.norms())):
                raise ValueError(
                    f"The weights of {structure.name!r} are not finite; pruning cannot start. "
                    "Load weights from before the training diverged."
                )
        self._pressure = attach(self.subject, len(self.structures))
        try:
            self.prepare()
            if is_distiller(model):
                add_penalties(model, self._pressure)
        except BaseException:
            self._take_off()
            raise
        forget_compiled(model)

    def _check_model(self, model):
        if not self.subject.built:
            raise ValueError(
                f"The model must be built before `fit` for {type(self).__name__}, so that its "
                "structures can be found: give it an `Input`, or call it once on data."
            )
        if not model.compiled:
            raise ValueError(f"The model must be compiled before {type(self).__name__} is used.")

    def on_train_begin(self, logs=None):
        """Forgets the last fit, and the step that Keras compiled for it."""
        self._pressure.in_use = True
        self._fit_start: int | None = None
        self._last_step = None
        self.history = []
        self._clock = Clock(self.params.get("steps"), self.params.get("epochs") or 1)
        # A fraction of an unknown number of steps is an error now, not hours later.
        try:
            for name in ("start", "stop"):
                moment = getattr(self, name)
                if moment is not None and not isinstance(moment, Plateau):
                    moment.at(self._clock, name)
        except ValueError:
            self._take_off()
            raise
        self.model.make_train_function(force=True)

    def on_epoch_begin(self, epoch, logs=None):
        """Finds its place in time, also in a fit that was resumed."""
        iterations = self._iterations()
        if self._fit_start is None:
            self._moments = self._load_moments()
            per_epoch = self._clock.steps_per_epoch or 0
            self._fit_start = iterations - epoch * per_epoch
            self._last_step = iterations - self._fit_start
            self._look(self._last_step)
        self._epoch_start = iterations - self._fit_start

    def on_train_batch_end(self, batch, logs=None):
        """Looks at the weights every `check_every` steps."""
        step = self._epoch_start + batch + 1
        due = step - self._last_step >= self.check_every
        if due or self._phase(step) != self._phase(self._last_step):
            self._look(step)

    def on_epoch_end(self, epoch, logs=None):
        """Looks at the weights, and writes into the logs how many groups are left."""
        step = self._iterations() - self._fit_start
        phase = self._phase(step)
        self._watch(step, logs or {})
        if step != self._last_step or self._phase(step) != phase:
            self._look(step)
        left = self._left_in_weights()
        self.history.append(left)
        if logs is not None:
            for kind in self.structures.kinds:
                logs[f"groups/{kind}"] = sum(
                    left[s.name] for s in self.structures if s.kind == kind
                )
            logs.update({f"groups/{name}": count for name, count in left.items()})

    def on_train_end(self, logs=None):
        """Finishes, and prints what is left."""
        if self._fit_start is not None:
            self._look(self._iterations() - self._fit_start)
        self.finish()
        self._take_off()
        if self.verbose:
            self._print_summary()

    def _take_off(self):
        self.take_off()
        detach(self.subject)
        if is_distiller(self.model):
            remove_penalties(self.model)
        forget_compiled(self.model)  # They read variables that are gone.

    def _iterations(self) -> int:
        # Not `iterations`: with gradient accumulation that is no number of batches.
        return int(keras.ops.convert_to_numpy(innermost(self.model.optimizer)._iterations))

    # -- time ----------------------------------------------------------------------------------

    def _load_moments(self) -> dict[str, float]:
        """What a `Plateau` had noted before this fit was interrupted."""
        notes = keras.ops.convert_to_numpy(self._pressure.notes)[len(self.structures) + 1 :]
        return {k: float(v) for k, v in zip(_MOMENTS, notes, strict=True) if not np.isnan(v)}

    def _reached(self, name: str, step: int) -> bool:
        moment = getattr(self, name)
        if moment is None:
            return False
        if isinstance(moment, Plateau):
            return name in self._moments and step >= self._moments[name]
        return step >= moment.at(self._clock, name)

    def _phase(self, step: int) -> tuple[bool, bool]:
        return self._reached("start", step), self._reached("stop", step)

    def _look(self, step: int) -> None:
        self.model  # noqa: B018  # On JAX this brings the weights up to date, for read and write.
        steps = step - self._last_step
        self._last_step = step
        if self._phase(step) == (True, False):
            self.act(step, steps)
        else:
            self.rest()

    def _watch(self, step: int, logs: dict[str, Any]) -> None:
        """Notes when a monitored metric has stopped gaining."""
        for name in ("start", "stop"):
            moment = getattr(self, name)
            if not isinstance(moment, Plateau) or name in self._moments:
                continue
            if name == "stop" and not self._reached("start", step):
                continue
            if moment.monitor not in logs:
                raise ValueError(
                    f"`{name}` waits for {moment.monitor!r}, which is not in the epoch logs. Put "
                    f"the callback that writes it before this one. The logs hold: {', '.join(logs)}"
                )
            now = float(logs[moment.monitor])
            before = self._moments.get(f"{name}_metric")
            if before is not None and moment.gain(before, now) < moment.min_delta:
                self._keep(name, step)
            self._keep(f"{name}_metric", now)

    def _keep(self, name, value):
        self._moments[name] = value
        self._write(len(self.structures) + 1 + _MOMENTS.index(name), value)

    # -- report --------------------------------------------------------------------------------

    def groups_left(self) -> dict[str, dict[str, int]]:
        """Title of a column to the number of groups left in each structure."""
        return {"left": self._left_in_weights()}

    def _left_in_weights(self):
        return {s.name: int(np.count_nonzero(s.norms())) for s in self.structures}

    def _print_summary(self):
        self._print_table("groups left", self.groups_left())

    def _print_table(self, title, columns):
        from rich.console import Console
        from rich.table import Table

        table = Table(title=f"{type(self).__name__}: {title}", title_justify="left")
        table.add_column("layer", overflow="fold")
        table.add_column("kind")
        for column in [*columns, "of"]:
            table.add_column(column, justify="right")
        for s in self.structures:
            counts = [column[s.name] for column in columns.values()]
            table.add_row(s.name, s.kind, *(f"{n:,}" for n in [*counts, s.groups]))
        Console().print(table)
