"""Owns all that the pruning callbacks of one fit attach to a model, with one undo list."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from types import FrameType
from typing import Any

import keras

from tfprune.fit.begin_and_end import owner_in, put_around, put_backups_last
from tfprune.fit.best_epochs import BestEpochs
from tfprune.fit.clock import FitClock
from tfprune.fit.distillers import add_penalties, is_distiller
from tfprune.fit.gates_after_fit import (
    fold_or_remove_gates,
    leave_gates,
    remove_gates_left_by_a_fit,
)
from tfprune.fit.guards import guard
from tfprune.fit.overlaps import refuse_overlap
from tfprune.fit.pruned_groups import PrunedGroups
from tfprune.fit.rehearsal import rehearse_rebuild
from tfprune.fit.state import State
from tfprune.gates import Gate, Gates, attach
from tfprune.gates.driving import drive
from tfprune.keras_private.fits import (
    backs_up_amid_epochs,
    backup_paths,
    callback_list,
    fit_frame,
    forget_compiled,
    is_running,
    leave_out_of_evaluation,
    remake_train_function,
    variables_scope,
)
from tfprune.keras_private.layers import layer_and_inner_layers
from tfprune.keras_private.methods import replace
from tfprune.keras_private.optimizers import AddedVariables, nested
from tfprune.model_parts import add_part, owner_of, remove_part, set_owner
from tfprune.overlay.saving import is_backing_up
from tfprune.overlay.transforms import folded_into
from tfprune.rebuild.grown_again import note_pruned
from tfprune.structures import find_structures


class FitOwner:
    """Attaches what pruning needs when training begins, and removes it whatever happens.

    All pruning callbacks of one fit share an owner. It acts first and last in the list of
    callbacks: first, so that `BackupAndRestore`, wherever it is, finds the variables it restores;
    last, so that `EarlyStopping` and the like restore weights while everything is still attached.
    `BackupAndRestore` is moved behind all others, so that it saves what they have done.

    Where a fit ends by an exception, Keras calls no callback. The owner therefore guards the
    model's methods: the first one that is called once `fit` has left the stack removes what is
    attached before it does its work.

    Args:
        model: The model that is trained.

    Attributes:
        subject: The model that is pruned: `model`, or the student of a distiller.
        callbacks: The pruning callbacks.
        pruned: `PrunedGroups` over the structures of all callbacks.
        best_epochs: What Keras's callbacks keep of the best epoch.
        clock: The steps of the fit, one count for all callbacks.
        is_backed_up_amid_epochs: Whether a backup is made after some number of batches.
    """

    def __init__(self, model: keras.Model):
        self.model = model
        self.subject = model.student if is_distiller(model) else model
        self.callbacks: list = []
        # `None` before `begin`; what runs in a fit need not ask.
        self.pruned: PrunedGroups | Any = None
        self.clock: FitClock  # From `begin` on.
        self.is_backed_up_amid_epochs = False
        self._listed: keras.callbacks.CallbackList | None = None
        self._states: dict[int, State] = {}
        self._parts: list[keras.Layer] = []  # All that the model tracks for the fit, gates too.
        self._added: list[keras.Variable] = []
        self._undo: ExitStack | None = None
        self._optimizer: AddedVariables  # From `begin` on.
        self._frame: FrameType | None = None
        self._suspended = False
        self._is_finished = False
        self._backups: set[str] = set()
        self.best_epochs = BestEpochs([])

    # -- who takes part --------------------------------------------------------------------------

    @classmethod
    def for_callback(cls, callback, model: keras.Model) -> FitOwner:
        """The owner of the fit that is being set up; it is told of one more callback.

        Nothing is attached yet: the fit may fail before training begins.
        """
        listed = callback_list()
        owner = None if listed is None else owner_in(listed)
        if owner is None:
            owner = cls(model)
            if listed is not None:
                put_around(listed, owner)
        owner._listed = listed
        if callback not in owner.callbacks:
            owner.callbacks.append(callback)
        return owner

    @property
    def in_callback_list(self) -> bool:
        """Whether a list of callbacks calls it; else the pruning callback must."""
        return self._listed is not None

    @property
    def is_open(self) -> bool:
        """Whether something is attached."""
        return self._undo is not None

    @property
    def _attached(self) -> ExitStack:
        assert self._undo is not None  # Things are attached between `begin` and `end` alone.
        return self._undo

    # -- begin and end ---------------------------------------------------------------------------

    def begin(self) -> None:
        """Attaches what the callbacks ask for; if one of them fails, nothing stays attached."""
        if self.is_open:
            return
        self._refuse_twice()
        earlier = owner_of(self.subject)
        if earlier is not None:
            earlier.end()  # Of a fit that was interrupted.
        self._undo = ExitStack()
        try:
            self._frame, self._thread = fit_frame(self.model), threading.get_ident()
            if self._listed is not None:
                self._backups = backup_paths(self._listed.callbacks)
                self.is_backed_up_amid_epochs = any(
                    backs_up_amid_epochs(c) for c in self._listed.callbacks
                )
                self.best_epochs = BestEpochs(self._listed.callbacks)
                put_backups_last(self._listed)
            for model in (self.model, self.subject):
                set_owner(model, self)
                self._undo.callback(set_owner, model, None)
            self._undo.callback(forget_compiled, self.subject)
            self._undo.callback(forget_compiled, self.model)
            with variables_scope(self.model):
                self._attach()
            for model in {id(m): m for m in (self.model, self.subject)}.values():
                guard(model, self, self._undo)
            remake_train_function(self.model)
        except BaseException:
            self.end()
            raise

    def _refuse_twice(self):
        listed = [] if self._listed is None else self._listed.callbacks
        for callback in self.callbacks:
            if sum(each is callback for each in listed) > 1:
                raise ValueError(
                    "`callbacks` must hold a pruning callback once. Received: the same "
                    f"{type(callback).__name__} twice."
                )

    def _attach(self):
        remove_gates_left_by_a_fit(self.subject)
        found = find_structures(self.subject)
        for callback in self.callbacks:
            callback.choose_structures(found)
        refuse_overlap(self.callbacks)
        structures = [s for callback in self.callbacks for s in callback.structures]
        rehearse_rebuild(self.subject, found, structures)
        self.pruned = PrunedGroups(structures)
        own = list(self.model.trainable_variables)
        self._own_weights = list(self.subject.weights)
        self.clock = FitClock()
        self.attach_part(self.clock)
        for number, callback in enumerate(self.callbacks):
            state = State(len(callback.structures), f"pruning_{number}")
            self.attach_part(state)
            self._states[id(callback)] = state
        for model in {id(m): m for m in (self.model, self.subject)}.values():
            self._attached.callback(leave_out_of_evaluation(model, self._states.values()))
        for callback in self.callbacks:
            callback.prepare()
        self._optimizer = AddedVariables(
            self.model.optimizer,
            own,
            self._added,
            self.model.trainable_variables,
            kept=self.pruned.masks,
        )
        self._attached.callback(lambda: self._optimizer.remove())
        for optimizer in nested(self.model.optimizer):
            save = partial(self._save_optimizer, optimizer.save_own_variables)
            self._attached.callback(replace(optimizer, "save_own_variables", save))
        self.pruned.constrain(self._attached)
        if is_distiller(self.model):
            add_penalties(
                self.model,
                lambda: [loss for state in self._states.values() for loss in state.losses_read()],
                self._attached,
            )
        for callback in self.callbacks:
            callback.prepared()

    def end(self) -> None:
        """Removes all that is attached; the model is as it was, with the weights it has now."""
        undo, self._undo, self._frame = self._undo, None, None
        if undo is not None:
            undo.close()
            if self.pruned is not None:
                note_pruned(self.subject, self.pruned.last_seen())

    def finish(self) -> None:
        """Ends pruning after the last step of training."""
        if not self.is_open:
            return
        try:
            for callback in self.callbacks:
                callback.end_pruning()
            self.best_epochs.warn_of_old_files()
            self._is_finished = True
        finally:
            self.end()
        for callback in self.callbacks:
            callback.report()

    def model_changed(self) -> None:
        """What is trained is another model from here on: it has fewer groups, or other gates."""
        self.best_epochs.model_changed(self.clock.steps == self.clock.epoch_start)

    def trained_variables(self) -> list[keras.Variable]:
        """What training changes: weights and the optimizer's variables, but nothing attached."""
        added = {id(v) for v in self._optimizer.variables}
        ours = [v for v in self.model.optimizer.variables if id(v) not in added]
        return [*self._own_weights, *ours]

    # -- what callbacks attach -------------------------------------------------------------------

    def state(self, callback) -> State:
        """The variables of one callback."""
        return self._states[id(callback)]

    def attach_part(self, part: keras.Layer) -> None:
        """Lets the model track a layer of variables until the end of the fit."""
        add_part(self.subject, part.name, part)
        self._keep_track_of(part, remove_part, self.subject, part.name)

    def _keep_track_of(self, part, remove, *args):
        self._parts.append(part)
        self._attached.callback(self._parts.remove, part)
        self._attached.callback(remove, *args)

    def attach_gates(self, gates: Sequence[Gate], stay) -> Gates:
        """Applies gates, and lets the optimizer train their scores.

        Args:
            gates: The gates. Those that the model has in its layers already, as wrappers of
                `tfprune.wrappers`, take their place, and stay applied after the fit.
            stay: Function of no argument: whether they stay on the model when the fit has ended.
                If not, those that are fixed are multiplied into the weights, others are removed.
        """
        held = attach(self.subject, drive(self.subject, gates, self._attached))
        self._keep_track_of(held, self._detach, held, stay)
        self._added += [gate.scores for gate in held.attached if gate.scores.trainable]
        subnetworks = held.subnetworks
        if subnetworks is not None and is_distiller(self.model):
            # The teacher is called on the same data, and need not know of subnetworks either.
            subnetworks.wrap_call(self.model.teacher)
            self._attached.callback(subnetworks.unwrap_call, self.model.teacher)
        return held

    def _detach(self, held, stay):
        if self._is_finished and stay():
            leave_gates(held)
        else:
            fold_or_remove_gates(self.subject, held)

    # -- when a method of the model is called ----------------------------------------------------

    def end_if_fit_is_over(self, another_fit: bool = False) -> bool:
        """Removes what is attached if the fit is over, as it is after an exception.

        Args:
            another_fit: Whether `fit` is being called: then a training loop of the user's own, of
                which nothing else tells that it is over, must be.

        Returns:
            Whether something was removed.
        """
        if not self.is_open or self._suspended:
            return False
        over = another_fit if self._frame is None else not is_running(self._frame, self._thread)
        if over:
            self.end()
        return over

    def resumes_from(self, path) -> bool:
        """Whether a file of weights is one from which `BackupAndRestore` resumes this fit."""
        return str(path) in self._backups

    @contextmanager
    def suspended(self):
        """Makes the model, inside a `with` block, the plain model that it computes now.

        Its layers hold the weights that they compute with, and nothing of the fit is attached.
        """
        if self._suspended or not self.is_open:
            yield
            return
        with ExitStack() as again:
            self._suspended = True
            again.callback(setattr, self, "_suspended", False)
            again.enter_context(self._optimizer.removed())
            for layer in layer_and_inner_layers(self.subject):
                again.enter_context(folded_into(layer))
            for part in reversed(self._parts):
                remove_part(self.subject, part.name)
                again.callback(add_part, self.subject, part.name, part)
            yield

    def _save_optimizer(self, save, store):
        """Saves an optimizer as it is without what it trains for the fit, unless it is a backup."""
        as_it_is = is_backing_up() or self._suspended
        with nullcontext() if as_it_is else self._optimizer.removed():
            save(store)
