"""Scores by how much what a group emits varies, and how large the weights are that read it."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import keras
import numpy as np

from tfprune.criteria.consumers import (
    BATCH,
    Consumer,
    ConsumerCriterion,
    inputs_of,
    scored_structures,
)
from tfprune.criteria.criterion import Scores, register_criterion
from tfprune.criteria.input_scores import scores_by_input
from tfprune.criteria.structure_scores import StructureScores
from tfprune.structures import Structures


def activation(
    model: keras.Model,
    data: Any,
    structures: Structures | None = None,
    batch_size: int = BATCH,
    steps: int | None = None,
) -> StructureScores:
    """`I_g = Σ_j Var(x_j) ‖W_j‖²`, over the inputs j that the layers behind a group read from it.

    This is the mean squared error of what these layers emit when the group is removed, its mean put
    into their biases, if inputs did not vary together. Where several layers read a group, their
    errors are added. Positions that are padding do not count. The model is run in inference mode,
    without dropout, and is not changed.

    The scores are not standardised layer by layer, as the paper does where it ranks all layers
    together: with `within="model"`, and between layers of one kind with `within="kind"`, errors are
    compared as they are. With `within="layer"` no scores of different layers are compared.

    Args:
        model: A built model.
        data: Inputs: a dataset or arrays. Of a tuple `(x, y)`, and of the batches of a dataset,
            only x is used.
        structures: The structures to score; all by default.
        batch_size: Examples in a batch, where `data` are arrays.
        steps: How many batches to use; all by default.

    Returns:
        The scores, structure name to array `(groups,)`; also a `callable(structure)`, and
        `effects`, structure name to a number, for `within="error"`: by how much the outputs of the
        model change for each unit of error, see `tfprune.criteria.output_effects`. The model is run
        for them when they are first asked for, with the weights that it has then.

    Raises:
        ValueError: If the model is not built, `structures` are not its own or are of groups whose
            output is not the input of another layer (ranks of embeddings, experts), `data` cannot
            be used or leads to numbers that are not finite, or another argument is out of range.

    Source: An et al., "Fluctuation-based Adaptive Structured Pruning for Large Language Models",
    2023 (FLAP), section 3.2.

    Example:

    >>> import keras, numpy as np, tfprune
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.Dense(3, "relu"), keras.layers.Dense(1)])
    >>> scores = activation(model, np.random.default_rng(0).normal(size=(16, 4)))
    >>> scores(tfprune.find_structures(model)[0]).shape
    (3,)
    """
    structures = scored_structures(model, structures)
    return _scores(model, structures, inputs_of(model, data, batch_size, steps))


@register_criterion
class Activation(ConsumerCriterion):
    """The criterion `"activation"`: see `activation`."""

    name = "activation"

    def scores(
        self,
        model: keras.Model,
        subject: keras.Model,
        structures: Structures,
        data: Any = None,
        batches: int | None = None,
    ) -> Scores:
        """The scores of structures of `subject`; of `data` only x is used."""
        structures = scored_structures(subject, structures)
        return _scores(subject, structures, inputs_of(model, data, steps=batches))


def _scores(model, structures, batches) -> StructureScores:
    return scores_by_input(model, structures, batches, _by_input, attrgetter("mean_or_zero"))


def _by_input(consumer: Consumer) -> np.ndarray:
    return consumer.sums.variance * consumer.squared_norms
