"""Scores by the size of what a group emits and of the weights that read it."""

from __future__ import annotations

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


def wanda(
    model: keras.Model,
    data: Any,
    structures: Structures | None = None,
    batch_size: int = BATCH,
    steps: int | None = None,
) -> StructureScores:
    """`I_g = Σ_j E[x_j²] ‖W_j‖²`, over the inputs j that the layers behind a group read from it.

    This is the square of the paper's score of a weight, `|W_jk|·‖x_j‖₂`, summed over the weights
    that read the group and divided by the number of positions: the mean squared error of what these
    layers emit when the group is removed and no bias takes up its mean, if inputs were
    uncorrelated. Where several layers read a group, their errors are added. Positions that are
    padding do not count. The model is run in inference mode, without dropout, and is not changed.

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

    Source: Sun et al., "A Simple and Effective Pruning Approach for Large Language Models", 2023
    (Wanda), equation 1; for groups as in An et al., "Fluctuation-based Adaptive Structured Pruning
    for Large Language Models", 2023.

    Example:

    >>> import keras, numpy as np, tfprune
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.Dense(3, "relu"), keras.layers.Dense(1)])
    >>> scores = wanda(model, np.random.default_rng(0).normal(size=(16, 4)))
    >>> scores(tfprune.find_structures(model)[0]).shape
    (3,)
    """
    structures = scored_structures(model, structures)
    return _scores(model, structures, inputs_of(model, data, batch_size, steps))


@register_criterion
class Wanda(ConsumerCriterion):
    """The criterion `"wanda"`: see `wanda`."""

    name = "wanda"

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
    return scores_by_input(model, structures, batches, _by_input, _zeros)


def _by_input(consumer: Consumer) -> np.ndarray:
    return (consumer.sums.mean**2 + consumer.sums.variance) * consumer.squared_norms


def _zeros(consumer: Consumer) -> np.ndarray:
    return np.zeros(len(consumer.owners))
