"""What a layer computes with in place of a weight or of its input, while it is called."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from inspect import signature
from typing import Any, NamedTuple
from weakref import WeakSet

import keras
from keras import ops

from tfprune.keras_private.calls import compiling_models, trains
from tfprune.keras_private.fits import forget_compiled
from tfprune.keras_private.layers import plain_variable, variable_name
from tfprune.keras_private.methods import replace
from tfprune.overlay.folding import Transform, folded
from tfprune.overlay.saving import is_backing_up

Hook = Callable[[Any, bool], Any]
"""Takes what a layer is called on, and whether the call is one in training; returns what the layer
reads instead."""

_ATTRIBUTE = "_tfprune_overlay"


class Applied(NamedTuple):
    """A transform of one weight.

    Args:
        transform: The transform.
        in_files: Whether a file that is saved meanwhile holds the transformed weight. If not, it
            holds the weight that is trained.
    """

    transform: Transform
    in_files: bool = True


class Overlay:
    """The transforms of the weights of one layer. Its class, weights and configuration stay.

    Only the layer's `call` on this one object is replaced, so whatever looks at the weights from
    outside, counting and `rebuild` among it, sees the weights that are trained. A file holds the
    weights that the layer computes with, see `tfprune.overlay.saving`.

    Args:
        layer: A built layer that reads its weights as attributes in `call`.
        caller: The layer whose `call` computes with the weights, `layer` by default. What is called
            in a loop computes in each turn with what a weight is at the beginning.

    Attributes:
        transforms: Attribute that holds a weight to the transforms of that weight, in order.
        hooks: What the first argument of the layer is passed through.
    """

    def __init__(self, layer: keras.Layer, caller: keras.Layer | None = None):
        self.layer = layer
        caller = layer if caller is None else caller
        self.transforms: dict[str, list[Applied]] = {}
        self.hooks: list[Hook] = []
        self._call, self._save = caller.call, layer.save_own_variables
        self._first = next(iter(signature(caller.call).parameters), "")
        self._seen_by: dict[Transform | Hook, WeakSet[keras.Model]] = {}
        self._set_back = (
            replace(caller, "call", self),
            replace(layer, "save_own_variables", self._save_own_variables),
            # Keras's layer of two directions has cuDNN compute both without calling either.
            *([replace(caller, "use_cudnn", False)] if hasattr(caller, "use_cudnn") else []),
        )

    def __call__(self, *args, **kwargs):
        """The layer's `call`, with what the transforms give in place of each weight."""
        self._note_models()
        training = trains() if kwargs.get("training") is None else bool(kwargs["training"])
        for hook in self.hooks:
            if args:
                args = (hook(args[0], training), *args[1:])
            else:
                kwargs[self._first] = hook(kwargs[self._first], training)
        attributes = vars(self.layer)
        # `__dict__`, since Keras would track the tensor that stands in for the variable.
        places = {name: variable_name(self.layer, name) for name in self.transforms}
        plain = {place: attributes[place] for place in places.values()}
        try:
            for name, place in places.items():
                transforms = [applied.transform for applied in self.transforms[name]]
                attributes[place] = folded(plain[place], transforms, training)
            return self._call(*args, **kwargs)
        finally:
            attributes.update(plain)

    def _note_models(self):
        models = list(compiling_models())
        transforms = [t.transform for applied in self.transforms.values() for t in applied]
        for seen in (*transforms, *self.hooks) if models else ():
            self._seen_by.setdefault(seen, WeakSet()).update(models)

    @contextmanager
    def folded(self) -> Iterator[None]:
        """Writes the transforms that files hold into the weights meanwhile."""
        before = self.transforms
        written = {name: [t for t in applied if t.in_files] for name, applied in before.items()}
        with ExitStack() as undo:
            undo.callback(setattr, self, "transforms", before)
            for name, applied in written.items():
                variable = plain_variable(self.layer, name)
                if applied:
                    undo.callback(variable.assign, ops.convert_to_numpy(variable).copy())
                    variable.assign(folded(variable, [t.transform for t in applied]))
            left = {name: [t for t in ts if not t.in_files] for name, ts in before.items()}
            self.transforms = {name: applied for name, applied in left.items() if applied}
            yield

    def _save_own_variables(self, store):
        with nullcontext() if is_backing_up() else self.folded():
            self._save(store)

    def remove(self, applied: Transform | Hook | None) -> None:
        """Removes a transform or a hook, or all, and what models have compiled with it."""
        kept = {
            name: [t for t in transforms if applied is not None and t.transform != applied]
            for name, transforms in self.transforms.items()
        }
        self.transforms = {name: transforms for name, transforms in kept.items() if transforms}
        self.hooks = [h for h in self.hooks if applied is not None and h != applied]
        for seen in [s for s in self._seen_by if applied is None or s == applied]:
            for model in self._seen_by.pop(seen):
                forget_compiled(model)
        if not self.transforms and not self.hooks:
            for set_back in self._set_back:
                set_back()
            del vars(self.layer)[_ATTRIBUTE]


def transform_weight(
    layer: keras.Layer,
    attribute: str,
    transform: Transform,
    in_files: bool = True,
    caller: keras.Layer | None = None,
) -> None:
    """Lets a layer compute with something else than a weight from now on; earlier transforms stay.

    Args:
        layer: A built layer that reads the weight as an attribute in its `call`.
        attribute: The attribute that holds the weight, such as `"kernel"`.
        transform: Called as `transform(weight, training)` each time the layer is. Whether it is in
            training is known from the call, also where the layer has no such argument.
        in_files: As in `Applied`.
        caller: As in `Overlay`.

    Raises:
        ValueError: If the layer has no such weight.

    Example:

    >>> import keras, numpy as np
    >>> from tfprune.overlay.folding import times
    >>> layer = keras.layers.Dense(2, kernel_initializer="ones")
    >>> x = np.ones((1, 3), "float32")
    >>> layer.build(x.shape)
    >>> transform_weight(layer, "kernel", times(lambda training: np.array([1.0, 0.5])))
    >>> print(keras.ops.convert_to_numpy(layer(x)))
    [[3.  1.5]]
    >>> remove(layer)
    >>> print(keras.ops.convert_to_numpy(layer(x)))
    [[3. 3.]]
    """
    if not isinstance(vars(layer).get(variable_name(layer, attribute)), keras.Variable):
        raise ValueError(
            f"`attribute` must name a weight that {layer.name!r} ({type(layer).__name__}) holds "
            f"as an attribute. Received: attribute={attribute!r}"
        )
    overlay = overlay_of(layer) or _made_overlay(layer, caller)
    overlay.transforms.setdefault(attribute, []).append(Applied(transform, in_files))


def hook_input(layer: keras.Layer, hook: Hook) -> None:
    """Passes what a layer is called on through a function from now on; `remove` undoes it.

    Args:
        layer: A built layer with one input, such as `Dense` or `EinsumDense`.
        hook: Called as `hook(inputs, training)` each time the layer is; what it returns is what
            the layer reads.
    """
    (overlay_of(layer) or _made_overlay(layer)).hooks.append(hook)


@contextmanager
def hooked(
    hooks: Iterable[tuple[keras.Layer, Hook]],
    transforms: Iterable[tuple[keras.Layer, str, Transform, keras.Layer | None]] = (),
) -> Iterator[None]:
    """Inside a `with` block, `hook_input` for several layers, and `transform_weight`.

    Args:
        hooks: Layers, each with what its input is passed through.
        transforms: Layers, each with the attribute of a weight, what the weight is seen through,
            and as in `transform_weight` the layer that calls it.
    """
    done: list[tuple[keras.Layer, Transform | Hook]] = []
    try:
        for layer, hook in hooks:
            hook_input(layer, hook)
            done.append((layer, hook))
        for layer, attribute, transform, caller in transforms:
            transform_weight(layer, attribute, transform, caller=caller)
            done.append((layer, transform))
        yield
    finally:
        for layer, applied in done:
            remove(layer, applied)


def _made_overlay(layer, caller=None):
    overlay = vars(layer)[_ATTRIBUTE] = Overlay(layer, caller)
    return overlay


def overlay_of(layer: keras.Layer) -> Overlay | None:
    """What a layer is seen through, or `None`."""
    return vars(layer).get(_ATTRIBUTE)


def transforms_of(layer: keras.Layer) -> dict[str, list[Transform]]:
    """The transforms of each weight that has any, in order, by the attribute that holds it."""
    overlay = overlay_of(layer)
    each = {} if overlay is None else overlay.transforms
    return {name: [transform for transform, _ in applied] for name, applied in each.items()}


@contextmanager
def folded_into(layer: keras.Layer) -> Iterator[None]:
    """Writes what files hold of a layer into its weights, inside a `with` block.

    Args:
        layer: A layer; one that has no transforms is left alone.
    """
    overlay = overlay_of(layer)
    with nullcontext() if overlay is None else overlay.folded():
        yield


def remove(layer: keras.Layer, applied: Transform | Hook | None = None) -> None:
    """Removes a transform or a hook.

    What models have compiled with it is forgotten, whichever they are: an encoder may share its
    layers with the model that is trained.

    Args:
        layer: A layer; one that has none is left alone.
        applied: What `transform_weight` or `hook_input` was given; `None` removes all.
    """
    overlay = overlay_of(layer)
    if overlay is not None:
        overlay.remove(applied)
