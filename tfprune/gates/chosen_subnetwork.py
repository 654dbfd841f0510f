"""The subnetwork of a model that is used now."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras

from tfprune.gates.attaching import gates_of
from tfprune.gates.subnetworks import Subnetworks
from tfprune.keras_private.fits import forget_compiled


def subnetworks_of(model: keras.Model) -> Subnetworks | None:
    """The subnetworks of a model whose gates tell examples apart, or `None`."""
    return next((gate.subnetworks for gate in gates_of(model)), None)


@contextmanager
def at_subnetwork(model: keras.Model, name: str | None) -> Iterator[None]:
    """Sends everything through one subnetwork for a while; `None` leaves it as it is.

    Args:
        model: A model that was trained with a callback that was given `subnetworks`.
        name: Which of them.

    Raises:
        ValueError: If the model has one network only, or none of that name.
    """
    if name is None:
        yield
        return
    subnetworks = subnetworks_of(model)
    if subnetworks is None:
        raise ValueError(
            "`subnetwork` needs a model that was trained with a callback that was given "
            "`subnetworks`, and still carries its gates. Received: "
            f"subnetwork={name!r} and a model without"
        )
    # Which one is chosen is compiled in.
    forget_compiled(model)
    try:
        with subnetworks.choose(name):
            yield
    finally:
        forget_compiled(model)
