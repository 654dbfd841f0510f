"""Scores by what is lost without a group when the weights that stay are fitted anew."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import keras

from tfprune.arguments import number
from tfprune.criteria.brain_surgeon import AT_ONCE, RIDGE, removal_losses
from tfprune.criteria.consumers import (
    BATCH,
    ConsumerCriterion,
    consumers,
    inputs_of,
    scored_structures,
)
from tfprune.criteria.criterion import Scores, register_criterion
from tfprune.criteria.output_effects import noted, output_effects
from tfprune.criteria.structure_scores import StructureScores
from tfprune.overlay.moments import Moments
from tfprune.structures import Structures


def reconstruction(
    model: keras.Model,
    data: Any,
    structures: Structures | None = None,
    ridge: float = RIDGE,
    at_once: float = AT_ONCE,
    batch_size: int = BATCH,
    steps: int | None = None,
) -> StructureScores:
    """The loss of the best repair without a group and all that left before it.

    The groups of a structure leave one after the other, the cheapest first; each time the layers
    that read them are fitted to those that stay (optimal brain surgeon on whole groups). So one of
    two groups that emit the same leaves early, and the other one late. The scores give this order:
    they are no scores of a group by itself, but the mean squared error of what the layers emit,
    summed over their outputs and over layers, when the group leaves.

    Such errors say little about one layer beside another. So `effects` of the scores hold by how
    much the outputs of the model change for each unit of it, see
    `tfprune.criteria.output_effects`, and with `within="error"` each layer loses as much as makes
    the sum of these changes least. The paper takes errors as shares of what layers emit, and
    searches for a weight of each by the loss.

    Half a matrix, inputs × inputs of a layer in double precision, is kept for each layer, and four
    whole ones for the layer that is looked at. As many positions as a layer has inputs are needed,
    and several times as many are better. Positions that are padding do not count. The model is run
    in inference mode, without dropout, and is not changed: `tfprune.prune` fits the weights.

    Args:
        model: A built model.
        data: As in `activation`.
        structures: The structures to score; all by default.
        ridge: What is added to the diagonal of the products of the inputs, as a share of its mean.
        at_once: The share of the groups left that leave in a round, at least one group. 0 removes
            one at a time, which takes several times as long: 3,072 units read by 768 outputs took
            58 s in place of 9, and lost 0.2 % less at a quarter of the units.
        batch_size: Examples in a batch, where `data` are arrays.
        steps: How many batches to use; all by default.

    Returns:
        The scores, structure name to array `(groups,)`; also a `callable(structure)`, and
        `effects`, structure name to a number.

    Raises:
        ValueError: As `activation`; if `ridge` is not positive, or `at_once` not from 0 to 1.

    Source: Frantar et al., "ZipLM: Inference-Aware Structured Pruning of Language Models", 2023,
    section 3.1.

    Example:

    >>> import keras, numpy as np, tfprune
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.Dense(3, "relu"), keras.layers.Dense(1)])
    >>> scores = reconstruction(model, np.random.default_rng(0).normal(size=(16, 4)))
    >>> scores(tfprune.find_structures(model)[0]).shape
    (3,)
    """
    ridge, at_once = _checked(ridge, at_once)
    structures = scored_structures(model, structures)
    batches = inputs_of(model, data, batch_size, steps)
    return _scores(model, structures, batches, ridge, at_once)


@register_criterion
class Reconstruction(ConsumerCriterion):
    """The criterion `"reconstruction"`: see `reconstruction`.

    Args:
        ridge: As in `reconstruction`.
        at_once: As in `reconstruction`.

    Raises:
        ValueError: If an argument is out of range.
    """

    name = "reconstruction"
    within = "error"
    expects_fit = True

    def __init__(self, ridge: float = RIDGE, at_once: float = AT_ONCE):
        self.ridge, self.at_once = _checked(ridge, at_once)

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
        read = inputs_of(model, data, steps=batches)
        return _scores(subject, structures, read, self.ridge, self.at_once)


def _checked(ridge, at_once) -> tuple[float, float]:
    return number("ridge", ridge, above=0), number("at_once", at_once, least=0, most=1)


def _scores(model, structures, batches, ridge, at_once) -> StructureScores:
    first: list[Any] = []
    found = consumers(model, structures, noted(batches, first), Moments)
    losses = StructureScores(
        {s.name: removal_losses(found[s.name], s.groups, ridge, at_once) for s in structures},
        cumulative=True,
    )
    effects = output_effects(
        model, structures, found, losses, first, instead=attrgetter("mean_or_zero")
    )
    return StructureScores(losses, cumulative=True, effects=effects)
