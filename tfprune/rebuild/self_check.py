"""Compares a rebuilt model with the masked one before it is handed out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from tfprune import native_messages
from tfprune.keras_private.layers import layer_and_inner_layers
from tfprune.structures import Structures
from tfprune.structures.graph import Untraceable
from tfprune.structures.made_up import TRIES, made_up_inputs


class SelfCheck:
    """What a pruned model computes on a small batch of made-up inputs.

    Nothing is checked where the inputs cannot be made up, or the model draws numbers or keeps a
    state.

    Args:
        model: The model, before it is rebuilt. It is left as it is.
        structures: Its structures.
        keep: As in `tfprune.rebuild`: what goes is silenced for the time of a call.
    """

    def __init__(
        self, model: keras.Model, structures: Structures, keep: Mapping[str, Any] | None = None
    ):
        self._inputs = self._expected = None
        # Inputs that it cannot read are said to be invalid, though others are tried then.
        with native_messages.filtered(), _silenced(structures, keep or {}):
            for tried in TRIES:
                try:
                    inputs = made_up_inputs(model, *tried)
                    expected = _outputs(model, inputs)
                except Untraceable:
                    break
                except Exception:  # Whatever the layers raise that cannot read it.
                    continue
                self._inputs, self._expected = inputs, expected
                if all(np.isfinite(x).all() for x in expected if x.dtype.kind == "f"):
                    break

    @property
    def is_possible(self) -> bool:
        """Whether there is something to compare with."""
        return self._expected is not None

    def check(self, small: keras.Model) -> None:
        """Compares a rebuilt model.

        Raises:
            RuntimeError: If it computes something else, or cannot be called.
        """
        if self._expected is None:
            return
        try:
            found = _outputs(small, self._inputs)
        except Exception as error:
            raise RuntimeError(
                f"The rebuilt model {small.name!r} cannot be called, so it was dropped: {error} "
                "This is a mistake of tfprune; please report it."
            ) from error
        for number, (want, got) in enumerate(zip(self._expected, found, strict=True)):
            apart = _difference(want, got)
            if apart > _tolerance(small):
                raise RuntimeError(
                    f"Output {number} of the rebuilt model {small.name!r} differs from the masked "
                    f"model's by {apart:.2g} of its largest value, so it was dropped. This is a "
                    "mistake of tfprune; please report it. `check=False` gives the model all the "
                    "same."
                )


def _difference(want, got) -> float:
    if want.shape != got.shape:
        return np.inf
    if not np.issubdtype(want.dtype, np.inexact) or not want.size:
        return 0.0  # Integers may be places of the largest of two that are all but equal.
    if not np.array_equal(np.isfinite(want), np.isfinite(got)):
        return np.inf
    finite = np.isfinite(want)
    scale = np.max(np.abs(want[finite]), initial=1e-6)
    return float(np.max(np.abs(want[finite] - got[finite]), initial=0.0) / scale)


def _tolerance(model) -> float:
    policies = {layer.compute_dtype for layer in layer_and_inner_layers(model)}
    return 0.1 if policies & {"float16", "bfloat16"} else 1e-3


def _outputs(model, inputs) -> list[np.ndarray]:
    def call(given):
        # The model is to stay as it is. One that draws numbers or keeps a state is not compared.
        with keras.StatelessScope() as scope:
            outputs = tree.flatten(model(given, training=False))
        if scope.state_mapping:
            raise Untraceable("it changes a state")
        return [t for t in outputs if t is not None]

    if keras.backend.backend() == "jax":
        # Keras on JAX keeps the masks of eager arrays by their `id`, which another may take; those
        # of tensors that are traced are on the tensors.
        import jax

        flat = tree.flatten(inputs)
        traced = jax.make_jaxpr(lambda *x: call(tree.pack_sequence_as(inputs, list(x))))(*flat)
        results = jax.core.eval_jaxpr(traced.jaxpr, traced.consts, *flat)
    else:
        results = call(inputs)
    return [ops.convert_to_numpy(t) for t in results]


@contextmanager
def _silenced(structures, keep) -> Iterator[None]:
    """Sets the weights of groups to zero that `keep` marks false, for a while."""
    chosen = [s for s in structures if s.name in keep]
    variables = {id(x.variable): x.variable for s in chosen for x in s.slices}
    before = [(v, np.array(ops.convert_to_numpy(v))) for v in variables.values()]
    try:
        for structure in chosen:
            structure.scale(np.asarray(keep[structure.name], "float32"))
        yield
    finally:
        for variable, value in before:
            variable.assign(value)
