"""What layers read when a model is run on data, without changing the model."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import keras
from keras import ops, tree

from tfprune.keras_private.functional import mask_of
from tfprune.keras_private.layers import layer_and_inner_layers
from tfprune.overlay.transforms import hooked


class Read(NamedTuple):
    """What one call of a layer reads.

    Args:
        inputs: The tensor.
        mask: Boolean tensor of its first axes, false for padding; `None` where nothing is known to
            be padded.
    """

    inputs: Any
    mask: Any


def observe(
    model: keras.Model,
    batches: Iterable[Any],
    layers: Sequence[keras.Layer],
    seen: Callable[[keras.Layer, Read], None],
) -> int:
    """Runs a model on data in inference mode and shows what some of its layers read.

    Padding is known from masks of tensors, from inputs of the model whose names end in
    `padding_mask`, and from embeddings with `mask_zero`.

    Args:
        model: A built model.
        batches: Inputs of the model, batch by batch.
        layers: Layers with one input, such as `Dense` or `EinsumDense`.
        seen: Called as `seen(layer, read)` in each call of one of the layers.

    Returns:
        The number of batches.
    """
    number = 0
    padding = _Padding(model)
    with (
        padding.watched(),
        inputs_shown(layers, lambda layer, x: seen(layer, padding.read(layer, x))),
    ):
        for x in batches:
            padding.begin(x)
            model(x, training=False)
            number += 1
    return number


def side_by_side(
    model: keras.Model,
    batches: Sequence[Any],
    layers: Sequence[keras.Layer],
    meet: Callable[[keras.Layer, list[Read]], None],
) -> None:
    """Runs a model on several batches that wait for one another at some of its layers.

    What happens at a layer may depend on all the data, and what comes after it sees the result: a
    layer can be fitted on what reaches it, and the layers behind it on what it then makes of it, in
    one pass. All batches are in memory at once, with what their layers emit.

    Args:
        model: A built model. Which layers it calls, and in which order, must not depend on data.
        batches: Inputs of the model, one for each batch.
        layers: Layers with one input, each of which the model calls once.
        meet: Called as `meet(layer, reads)` when all batches have reached a layer, before it is
            called on any of them; one `Read` for each batch. It may assign the layer's weights.
    """
    padding = [_Padding(model) for _ in batches]
    walkers: list[_Walker] = []

    def wait(layer, x):
        walker = _Walker.present()
        walker.wait(layer, walker.padding.read(layer, x))

    def note(layer, x):
        _Walker.present().padding.note(x)

    with inputs_shown(layers, wait), inputs_shown(padding[0].embeddings, note):
        walkers += [_Walker(model, x, own) for x, own in zip(batches, padding, strict=True)]
        try:
            while any([walker.go_on() for walker in walkers]):
                waiting = [walker for walker in walkers if walker.layer is not None]
                for layer in {id(w.layer): w.layer for w in waiting}.values():
                    meet(
                        layer, [w.read for w in waiting if w.layer is layer and w.read is not None]
                    )
        finally:
            for walker in walkers:
                walker.stop()


def inputs_shown(
    layers: Iterable[keras.Layer], function: Callable[[keras.Layer, Any], None]
) -> AbstractContextManager[None]:
    """Inside a `with` block, shows what layers are called on, which stays as it is.

    Args:
        layers: Layers with one input.
        function: Called as `function(layer, inputs)`.
    """
    return hooked((layer, _unchanged(layer, function)) for layer in layers)


def _unchanged(layer, function):
    def hook(inputs, training):
        function(layer, inputs)
        return inputs

    return hook


class _Padding:
    """Which positions are padding, in one pass of one batch."""

    def __init__(self, model):
        self.embeddings = [x for x in layer_and_inner_layers(model) if getattr(x, "mask_zero", 0)]
        self.named: dict[str, Any] = {}
        self.noted: list = []
        self.names = [t.name for t in getattr(model, "inputs", None) or ()]

    @contextmanager
    def watched(self):
        """Notes the masks of embeddings, inside a `with` block."""
        with inputs_shown(self.embeddings, lambda layer, ids: self.note(ids)):
            yield

    def begin(self, x):
        """A batch begins."""
        self.noted = []
        if isinstance(x, dict):
            named = x
        else:
            leaves = tree.flatten(x)
            named = dict(zip(self.names, leaves)) if len(leaves) == len(self.names) else {}  # noqa: B905
        self.named = {
            name: ops.cast(value, "bool")
            for name, value in named.items()
            if name.endswith("padding_mask") and value is not None
        }

    def note(self, ids):
        """An embedding with `mask_zero` reads some ids."""
        self.noted.append(ops.not_equal(ids, 0))

    def read(self, layer, x) -> Read:
        """What a layer reads, with the mask that fits."""
        mask = mask_of(x)
        if mask is None:
            # Of an encoder and a decoder, the one whose name the layer has.
            sides = [
                n for n in self.named if n.removesuffix("padding_mask").strip("_") in layer.path
            ]
            first = [self.named[n] for n in sides] + list(self.named.values())
            candidates = [*first, *reversed(self.noted)]
            fitting = (m for m in candidates if tuple(m.shape) == tuple(x.shape[: len(m.shape)]))
            mask = next((m for m in fitting if len(m.shape) < len(x.shape)), None)
        return Read(x, mask)


class _Stopped(BaseException):
    """Ends the thread of a batch that is no longer wanted."""


class _Walker:
    """One batch on its way through the model, in a thread that runs when it is told to."""

    _here = threading.local()

    def __init__(self, model, x, padding):
        self.layer: keras.Layer | None = None
        self.read: Read | None = None
        self.padding = padding
        self._error: BaseException | None = None
        self._is_over = self._is_stopped = False
        self._go, self._has_come = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._walk, args=(model, x), daemon=True)
        self._thread.start()

    @classmethod
    def present(cls) -> _Walker:
        """That of the present thread."""
        return cls._here.walker

    def _walk(self, model, x):
        self._go.acquire()
        try:
            if not self._is_stopped:
                _Walker._here.walker = self
                self.padding.begin(x)
                model(x, training=False)
        except _Stopped:
            pass
        except BaseException as error:  # Raised again where the walker is told to go on.
            self._error = error
        finally:
            self._is_over = True
            self.layer = self.read = None
            self._has_come.release()

    def go_on(self) -> bool:
        """Goes to the next of the layers; whether it has come to one, and not to the end."""
        if not self._is_over:
            self._go.release()
            self._has_come.acquire()
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        return not self._is_over

    def wait(self, layer, read):
        """Waits before a layer is called."""
        self.layer, self.read = layer, read
        self._has_come.release()
        self._go.acquire()
        self.layer = self.read = None
        if self._is_stopped:
            raise _Stopped

    def stop(self):
        """Ends the thread."""
        if not self._is_over:
            self._is_stopped = True
            self._go.release()
        self._thread.join()
