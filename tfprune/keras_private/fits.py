"""A fit that is running: its list of callbacks, its frame, what Keras compiled for it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from types import FrameType

import keras

from tfprune.keras_private.methods import replace


def callback_list() -> keras.callbacks.CallbackList | None:
    """The list of callbacks that is calling one of its callbacks now, or `None`.

    Assumes: `CallbackList` calls its callbacks from methods of its own, whose frames are on the
    stack, and holds them in `callbacks`.
    """
    for frame in frames(sys._getframe(1)):
        caller = frame.f_locals.get("self")
        if isinstance(caller, keras.callbacks.CallbackList):
            return caller
    return None


def fit_frame(model: keras.Model) -> FrameType | None:
    """The frame of the `fit` of a model that is running now, or `None`.

    Assumes: `fit` is a method, called `fit`, whose first argument is called `self`.
    """
    for frame in frames(sys._getframe(1)):
        if frame.f_code.co_name == "fit" and frame.f_locals.get("self") is model:
            return frame
    return None


def trained_on(model: keras.Model) -> list:
    """The `x` of each `fit` of a model that is running now, the innermost first.

    A task of KerasHub has two, one with the text that it was given and one with its encoding.

    Assumes: `fit` is a method, called `fit`, whose first arguments are called `self` and `x`.
    """
    return [
        frame.f_locals.get("x")
        for frame in frames(sys._getframe(1))
        if frame.f_code.co_name == "fit" and frame.f_locals.get("self") is model
    ]


def is_running(frame: FrameType, thread: int) -> bool:
    """Whether a frame is still executing: that of a `fit` that failed is not.

    In its own thread it is if it is on the stack. Seen from another thread, it is not if its own
    has ended. While that lives only `clear` tells: it refuses a frame that is executing, and takes
    the local variables from any other, which a traceback would show.
    (`sys._current_frames` was seen to wait for ever while TensorFlow makes threads.)

    Assumes: `clear` refuses a frame that is executing.

    Args:
        frame: The frame.
        thread: `threading.get_ident()` of the thread in which it was seen.
    """
    if threading.get_ident() == thread:
        return any(each is frame for each in frames(sys._getframe(1)))
    if all(each.ident != thread for each in threading.enumerate()):
        return False
    try:
        frame.clear()
    except RuntimeError:
        return True
    return False


def frames(frame: FrameType | None) -> Iterator[FrameType]:
    """A frame and those that it was called from, the innermost first."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def backup_paths(callbacks) -> set[str]:
    """Where the `BackupAndRestore` callbacks among some write the weights that they restore.

    Assumes: the path that such a callback gives to `model.save_weights` is its `_weights_path`.
    """
    return {str(callback._weights_path) for callback in callbacks if is_backup(callback)}


def backs_up_amid_epochs(callback: keras.callbacks.Callback) -> bool:
    """Whether a callback saves a fit after some number of batches.

    Assumes: `BackupAndRestore` keeps its `save_freq`, which is `"epoch"` or a number.
    """
    return is_backup(callback) and callback.save_freq != "epoch"


def is_backup(callback: keras.callbacks.Callback) -> bool:
    """Whether a callback saves a fit so that it can be resumed."""
    return isinstance(callback, keras.callbacks.BackupAndRestore)


def keeps_best(callback: keras.callbacks.Callback) -> bool:
    """Whether a callback keeps the weights of the best epoch, in memory or in a file."""
    if isinstance(callback, keras.callbacks.EarlyStopping):
        return callback.restore_best_weights
    return isinstance(callback, keras.callbacks.ModelCheckpoint) and callback.save_best_only


def best_so_far(callback: keras.callbacks.Callback):
    """The metric of the best epoch that a callback has seen, or `None`.

    Assumes: `EarlyStopping` and `ModelCheckpoint` keep it as `best`.
    """
    return callback.best


def forget_best(callback: keras.callbacks.Callback, best=None) -> None:
    """Lets a callback that keeps the best epoch look for it anew.

    Assumes as `best_so_far` does; that for `None` the next epoch is the best; and that
    `EarlyStopping` keeps `best_weights`, `None` if there are none to restore, and counts the epochs
    since the best one in `wait`.

    Args:
        callback: An `EarlyStopping` or `ModelCheckpoint`.
        best: The metric that an epoch must be better than.
    """
    callback.best = best
    if isinstance(callback, keras.callbacks.EarlyStopping):
        callback.best_weights = None
        callback.wait = 0


def remake_train_function(model: keras.Model) -> None:
    """Lets a running fit go on with a step compiled anew.

    Assumes: `fit` looks `train_function` up for each step, and `make_train_function(force=True)`
    sets it.
    """
    forget_compiled(model)
    model.make_train_function(force=True)


def forget_compiled(model: keras.Model) -> None:
    """Lets Keras compile `fit`, `evaluate` and `predict` anew: what the layers compute has changed.

    Assumes: Keras makes the three functions where they are `None`. Without this, a model that was
    evaluated before would go on computing what it computed then.
    """
    for name in ("train_function", "test_function", "predict_function"):
        if getattr(model, name, None) is not None:
            setattr(model, name, None)


def synchronize(callback: keras.callbacks.Callback) -> None:
    """Brings the weights of the model up to date, for reading and for writing.

    Assumes: on JAX, where a fit keeps the weights apart, looking at `callback.model` does it.
    """
    callback.model  # noqa: B018


def variables_scope(model: keras.Model):
    """Where variables must be made that belong to a model: on all its devices.

    Assumes: on TensorFlow a model keeps the strategy under which it was made in
    `distribute_strategy`.
    """
    strategy = getattr(model, "distribute_strategy", None)
    return nullcontext() if strategy is None else strategy.scope()


class OwnLosses(keras.Layer):
    """A layer that is never called and adds to the loss of the model that holds it.

    Assumes: `model.losses` gathers what `_get_own_losses()` of each layer inside gives, whether or
    not the layer has weights that are trained.

    Attributes:
        was_read: Whether the losses have been asked for, as they are when a step is compiled.
        in_evaluation: Whether a step of `evaluate` is being compiled, which does not read them.
    """

    was_read = in_evaluation = False

    def own_losses(self) -> list:
        """What is added to the loss, scalar tensors, computed now."""
        raise NotImplementedError

    def losses_read(self) -> list:
        """`own_losses`, and notes that they were asked for; none in evaluation."""
        if self.in_evaluation:
            return []
        self.__dict__["was_read"] = True
        return self.own_losses()

    def _get_own_losses(self):
        return self.losses_read()

    def call(self, inputs):
        """Passes its input on; it is never called."""
        return inputs


def leave_out_of_evaluation(model: keras.Model, losses: Iterable[OwnLosses]) -> Callable:
    """Keeps own losses out of the loss that `evaluate` gives.

    Assumes: `evaluate` and `test_on_batch` compute by `model.test_step`, also where they compile,
    and the loss of a step is gathered inside it.

    Args:
        model: The model that is evaluated.
        losses: What is to be left out.

    Returns:
        Function of no argument that undoes it.
    """
    plain = model.test_step

    def test_step(*args, **kwargs):
        with ExitStack() as stack:
            for each in losses:
                stack.enter_context(_evaluating(each))
            return plain(*args, **kwargs)

    return replace(model, "test_step", test_step)


@contextmanager
def _evaluating(losses):
    before = losses.in_evaluation
    vars(losses)["in_evaluation"] = True
    try:
        yield
    finally:
        vars(losses)["in_evaluation"] = before
