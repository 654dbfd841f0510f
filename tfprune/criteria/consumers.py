"""What the layers behind groups read, in one pass over data: no labels and no loss are needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import keras
import numpy as np
from keras import ops

from tfprune.arguments import integer, keras_model
from tfprune.criteria.criterion import Criterion
from tfprune.criteria.data import as_tensors, as_the_layers_take_it, batches_of, check_data
from tfprune.criteria.structure_scores import own_structures
from tfprune.overlay.activations import observe
from tfprune.overlay.folding import folded
from tfprune.overlay.moments import Moments, Variances
from tfprune.overlay.transforms import transforms_of
from tfprune.overlay.windows import input_shape, rows_read
from tfprune.structures import Slices, Structure, Structures
from tfprune.structures.convolutions import reads_windows

BATCH = 32
"""Examples in a batch, where data are arrays."""

_LEAST = 256  # Positions of a batch that a convolution is looked at at least.

ARE_READ = "of groups whose output is the input of the layers that read it, such as units and heads"
"""What criteria of this room can score, for messages."""


@dataclass
class Consumer:
    """A kernel that reads the groups of a structure.

    Args:
        kernel: The kernel that its layer computes with, `(inputs, outputs)`.
        owners: The group of each input, `(inputs,)`; -1 for those of no group of the structure.
        has_bias: Whether there is a bias behind it, which can take up what inputs are on average.
        sums: `Moments` or `Variances` of what its layer reads.
    """

    kernel: np.ndarray
    owners: np.ndarray
    has_bias: bool
    sums: Any

    @property
    def squared_norms(self) -> np.ndarray:
        """`‖W_j‖²` for each input j, `(inputs,)`."""
        return np.sum(np.square(self.kernel, dtype="float64"), axis=1)

    @property
    def mean_or_zero(self) -> np.ndarray:
        """The part of what it reads that a bias can take up: the mean, or zero, `(inputs,)`."""
        return self.sums.mean if self.has_bias else np.zeros(len(self.owners))


class ConsumerCriterion(Criterion):
    """A criterion that looks at what the layers behind the groups read. It needs no labels."""

    needs_data = "inputs of the model, as a dataset or arrays"
    gives_errors = True

    def try_batch(
        self, model: keras.Model, subject: keras.Model, x: Any, y: Any, weights: Any
    ) -> None:
        """Runs the model."""
        subject(as_tensors(x), training=False)

    def check_structures(self, subject: keras.Model, structures: Structures) -> None:
        """Raises `ValueError` if what a structure emits is not what other layers read."""
        check_read_as_input(structures)


def is_read_as_input(structure: Structure) -> bool:
    """Whether what the groups emit is the input of the layers that read it."""
    read = structure.consumers
    return bool(read) and all(
        reads_windows(share.layer) or (share.reads_input and share.begins_with_inputs)
        for share in read
    )


def check_read_as_input(structures: Iterable[Structure]) -> None:
    """Raises `ValueError` if what groups emit is not the input of the layers that read it."""
    others = [s for s in structures if not is_read_as_input(s)]
    if others:
        raise ValueError(
            f"`structures` must be {ARE_READ}, for criteria that look at those inputs. Received: "
            f"{', '.join(s.name for s in others)}. Leave these out, or take another criterion, "
            "such as 'gradient_importance'."
        )


def scored_structures(model: keras.Model, structures: Structures | None) -> Structures:
    """The structures that a function of this room scores, all of a model's by default.

    Args:
        model: A built model.
        structures: What the user has given.

    Raises:
        ValueError: If they are not the model's own, or cannot be scored by what is read.
    """
    keras_model("model", model)
    if structures is None and not model.built:
        raise ValueError("`model` must be built. Received: one without weights")
    structures = own_structures(model, structures)
    check_read_as_input(structures)
    return structures


def inputs_of(
    model: keras.Model, data: Any, batch_size: int = BATCH, steps: int | None = None
) -> Iterator[Any]:
    """x of each batch, as tensors that the model's layers take.

    Args:
        model: The model whose `fit` the data are for.
        data: As in `activation`.
        batch_size: Examples in a batch, where `data` are arrays.
        steps: How many batches to use; all by default.

    Raises:
        ValueError: If an argument is out of range.
    """
    integer("batch_size", batch_size)
    check_data(data, steps, "steps")
    ready = as_the_layers_take_it(model, data, steps, batch_size)
    return (as_tensors(parts[0]) for parts in islice(batches_of(ready, batch_size), steps))


def consumers(
    model: keras.Model,
    structures: Structures,
    batches: Iterable[Any],
    sums: type[Moments] | type[Variances],
) -> dict[str, list[Consumer]]:
    """The kernels that read the groups, with sums over what they read, without padding.

    A layer that is called several times has the sums of all calls.

    Args:
        model: A built model. It is run in inference mode, without dropout, and is not changed.
        structures: Its structures, of which `check_read_as_input` holds.
        batches: Inputs of the model, batch by batch.
        sums: What to sum.

    Returns:
        Structure name to its consumers.

    Raises:
        ValueError: If there are no batches, or nothing or nothing finite reaches a layer.
    """
    layers = {id(c.layer): c.layer for s in structures for c in s.consumers}
    # Kept by layer: several structures may be read by one, and then need one sum.
    totals: dict[int, Any] = {}
    width = {id(c.layer): int(np.prod(input_shape(c))) for s in structures for c in s.consumers}

    def seen(layer, read):
        key = id(layer)
        rows = rows_read(layer, read, width[key], max(_LEAST, width[key] // 4))
        totals.setdefault(key, sums(width[key])).add(rows)

    if not observe(model, batches, list(layers.values()), seen):
        raise ValueError("`data` must hold at least one batch. Received: none")
    for key, layer in layers.items():
        if key not in totals or not totals[key].count:
            raise ValueError(
                f"`data` must reach all layers behind the groups. Layer {layer.path!r} reads "
                "nothing of it: the model does not call it, or all positions are padding"
            )
        if not np.isfinite(totals[key].mean).all():
            raise ValueError(
                f"`data` leads to numbers that are not finite in front of layer {layer.path!r}, or "
                "holds such itself"
            )
    return {s.name: [_consumer(s, share, totals) for share in s.consumers] for s in structures}


def _consumer(structure: Structure, share: Slices, totals: dict[int, Any]) -> Consumer:
    shape = input_shape(share)
    weight = folded(share.variable, transforms_of(share.layer).get(share.attribute, ()))
    kernel = ops.convert_to_numpy(ops.cast(weight, "float32"))
    kernel = kernel.reshape(int(np.prod(shape)), -1)
    along = [1] * len(shape)
    along[share.axis] = -1
    owners = np.broadcast_to(share.owners(structure.groups).reshape(along), shape).reshape(-1)
    bias = share.bias_variable
    has_bias = bias is not None and int(np.prod(bias.shape)) == kernel.shape[1]
    return Consumer(kernel, owners, has_bias, totals[id(share.layer)])
