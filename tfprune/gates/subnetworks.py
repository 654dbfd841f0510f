"""Several subnetworks, such as one for each language, in one set of weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

import keras
from keras import ops, tree

from tfprune.keras_private.functional import inputs_struct, operation_of


class Subnetworks:
    """Says which subnetwork each example of a batch goes through; all gates of a model read it.

    A gate made with it has a value for each name and each group of weights, and scales what its
    kernels read, example by example. The number of each example's subnetwork comes with the data,
    as a further entry of `x`: `{"token_ids": …, "language": [0, 2, 1]}`. A model that has an input
    of that name is given it; from others it is kept, so that they need not know of it. On JAX Keras
    calls a model before callbacks see it, and mixes up several inputs where there is an entry too
    many: give such a model, and its teacher, an input of that name, `keras.Input((), name=…)`,
    which nothing needs to read. `tfprune.rebuild(model, subnetwork=…)` leaves it out again.

    Args:
        names: The names of the subnetworks, by number.
        entry: The entry of `x` that holds each example's number, integers `(batch,)`.

    Raises:
        ValueError: If there are fewer than two names, or one twice, or `entry` is no name.

    Source: Li et al., "Probing Structured Pruning on Multilingual Pre-trained Models", 2022,
    section 4: the non-shared setting.

    Example:

    >>> import keras, numpy as np, tfprune
    >>> from tfprune.gates import HardConcrete, attach
    >>> model = keras.Sequential([
    ...     keras.Input((2,)), keras.layers.Dense(2, "relu"), keras.layers.Dense(1)])
    >>> languages = Subnetworks(["en", "de"])
    >>> structures = tfprune.find_structures(model)
    >>> gates = attach(model, [HardConcrete(s, subnetworks=languages) for s in structures])
    >>> gates[0].fix(np.array([[1, 0], [0, 1]]))
    >>> x = {"x": np.ones((3, 2), "float32"), "language": np.array([0, 1, 1])}
    >>> model.predict(x, verbose=0).shape
    (3, 1)
    >>> [tfprune.rebuild(model, subnetwork=name).count_params() for name in ("en", "de")]
    [5, 5]
    """

    def __init__(self, names: Sequence[str], entry: str = "language"):
        is_some = isinstance(names, Iterable) and not isinstance(names, (str, bytes, Mapping))
        given = tuple(names) if is_some else ()
        are_names = all(isinstance(name, str) and name for name in given)
        if len(given) < 2 or not are_names or len(set(given)) < len(given):
            raise ValueError(
                "`subnetworks` must be two names or more, strings, each once. Received: "
                f"subnetworks={given or names!r}"
            )
        if not isinstance(entry, str) or not entry:
            raise ValueError(
                f"The `entry` of x that holds subnetworks must be a name. Received: entry={entry!r}"
            )
        self.names = given
        self.entry = entry
        self.chosen: int | None = None
        self._numbers: Any = None

    def __len__(self):
        return len(self.names)

    @contextmanager
    def choose(self, name: str) -> Iterator[None]:
        """Sends everything through one subnetwork for a while.

        Raises:
            ValueError: If there is no such name.
        """
        if name not in self.names:
            raise ValueError(
                f"`subnetwork` must be one of {', '.join(map(repr, self.names))}. Received: "
                f"subnetwork={name!r}"
            )
        before, self.chosen = self.chosen, self.names.index(name)
        try:
            yield
        finally:
            self.chosen = before

    @property
    def is_per_example(self) -> bool:
        """Whether a model computes now, each example with its own subnetwork."""
        return self.chosen is None and self._numbers is not None

    def pick(self, each: Any) -> Any:
        """From one row for each subnetwork, the row that is chosen, or a row for each example.

        Args:
            each: Tensor `(names, groups)`.

        Returns:
            Tensor `(groups,)`, or `(batch, groups)` while a model computes.

        Raises:
            ValueError: If it is not known which subnetwork is meant.
        """
        if self.chosen is not None:
            return each[self.chosen]
        if self._numbers is None:
            names = ", ".join(map(repr, self.names))
            raise ValueError(
                f"The model has one subnetwork for each of {names}. Say which: with "
                "`subnetwork=` in `tfprune.rebuild` and the like, or with an entry "
                f"{self.entry!r} in what the model is called on, a number for each example."
            )
        return ops.take(each, self._numbers, axis=0)

    # -- where the numbers come from ---------------------------------------------------------------

    def wrap_call(self, model: keras.Model) -> None:
        """Takes the numbers from whatever the model is called on, until `unwrap_call`."""
        plain = model.call

        @wraps(plain)
        def call(inputs, *args, **kwargs):
            before = self._numbers
            self._numbers, inputs = self._split_inputs(model, inputs)
            if isinstance(kwargs.get("mask"), dict) and not isinstance(inputs, dict):
                kwargs["mask"] = None
            try:
                return plain(inputs, *args, **kwargs)
            finally:
                self._numbers = before

        # On the object alone, as the factors over a kernel are.
        vars(model)["call"] = call

    def unwrap_call(self, model: keras.Model) -> None:
        """Undoes `wrap_call`."""
        vars(model).pop("call", None)

    def _split_inputs(self, model, inputs):
        """The numbers, and what the model itself is to be called on."""
        known = input_names(model)
        if isinstance(inputs, Mapping):
            numbers = inputs.get(self.entry)
            if known and self.entry not in known:
                inputs = {k: v for k, v in inputs.items() if k != self.entry}
                if len(inputs) == 1 and not isinstance(inputs_struct(model), dict):
                    (inputs,) = inputs.values()
        else:
            flat = tree.flatten(inputs)
            named = self.entry in known and len(flat) == len(known)
            numbers = flat[known.index(self.entry)] if named else None
        if numbers is not None:
            numbers = ops.cast(ops.reshape(numbers, (-1,)), "int32")
        return numbers, inputs


def input_names(model: keras.Model) -> list[str]:
    """The names of a Functional or Sequential model's inputs, in the order of `inputs`."""
    struct = inputs_struct(model)
    if isinstance(struct, dict):
        return sorted(struct)  # As `inputs` is flattened.
    return [operation_of(x).name for x in getattr(model, "inputs", None) or ()]
