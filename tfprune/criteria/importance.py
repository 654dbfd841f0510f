"""Scores by the gradient: how much the loss would change if a group were removed."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops, tree

from tfprune.arguments import integer, keras_model
from tfprune.criteria.criterion import Criterion, Scores, register_criterion
from tfprune.criteria.data import as_tensors, is_arrays
from tfprune.criteria.examples import FirstExamples
from tfprune.criteria.gradients import GradientProbe, has_own_loss, metrics_kept
from tfprune.criteria.structure_scores import StructureScores, own_structures
from tfprune.overlay.folding import times
from tfprune.overlay.transforms import hooked
from tfprune.structures import Structures

_AT_ONCE = 8
"""Examples in one backward pass, where it does not matter: its memory grows with them."""


def gradient_importance(
    model: keras.Model,
    data: Any,
    structures: Structures | None = None,
    per: str = "example",
    batch_size: int = 32,
    steps: int | None = None,
) -> StructureScores:
    """`I_g = E_x |∂L(x) / ∂g|` at `g = 1`, where `g` multiplies the output of a group.

    To first order this is the change of the loss when the group is removed. Where several layers
    read a group, the absolute values for each of them are added. The model is run in inference
    mode, without dropout, and is not changed.

    Args:
        model: A compiled model. Its loss is differentiated.
        data: What `fit` takes: a dataset, or `(x, y)` or `(x, y, sample_weight)` arrays.
        structures: The structures to score; all by default.
        per: `"example"`: the mean over examples of the absolute value. `"batch"`: the mean over
            batches, in which examples of opposite sign cancel; the paper's short form,
            `|⟨W[g], ∂L/∂W[g]⟩|`. Groups that are not the input of another layer, such as ranks of
            embeddings or experts of one layer, are always scored per batch.
        batch_size: Examples in a batch, where `data` are arrays. Where all is scored per example,
            a multiple of 8 is computed 8 examples at a time, since the backward pass needs memory
            for what all layers emit; a loss that relates the examples of a batch sees those 8.
            Batches of a dataset are taken as they are.
        steps: How many batches to use; all by default.

    Returns:
        The scores, structure name to array `(groups,)`; also a `callable(structure)`.

    Raises:
        ValueError: If the model is not compiled or not built, `structures` are not its own, `data`
            cannot be used, or another argument is out of range.

    Source: Michel et al., "Are Sixteen Heads Really Better than One?", 2019, equation 2; Li et
    al., 2022, section 3.

    Example:

    >>> import keras, numpy as np, tfprune
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.Dense(3, "relu"), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> x = np.random.default_rng(0).normal(size=(16, 4))
    >>> scores = gradient_importance(model, (x, x[:, :1]))
    >>> scores(tfprune.find_structures(model)[0]).shape
    (3,)
    """
    _checked_per(per)
    integer("batch_size", batch_size)
    integer("steps", steps, optional=True)
    keras_model("model", model)
    if not model.compiled or (structures is None and not model.built):
        raise ValueError(
            "`model` must be built and compiled: importance is the gradient of its loss."
        )
    structures = own_structures(model, structures)
    if per == "example" and all(s.read_as_input for s in structures):
        data, batch_size, steps = _few_at_a_time(data, batch_size, steps)
    probe = _GroupProbe(model, structures, per)
    with probe.attached():
        batches = probe.run(data, batch_size, steps)
    examples = ops.convert_to_numpy(probe.examples)
    scores = {}
    for structure, total in zip(structures, probe.optimizer.totals, strict=True):
        count = examples if per == "example" and structure.read_as_input else batches
        scores[structure.name] = ops.convert_to_numpy(total) / max(count, 1)
    return StructureScores(scores)


@register_criterion
class GradientImportance(Criterion):
    """The criterion `"gradient_importance"`: see `gradient_importance`.

    Args:
        per: `"example"` or `"batch"`, as in `gradient_importance`.

    Raises:
        ValueError: If `per` is unknown.
    """

    name = "gradient_importance"
    needs_data = "what the loss is computed on, as a dataset or (x, y)"
    needs_labels = True
    gives_errors = True
    within = "kind"

    def __init__(self, per: str = "example"):
        self.per = _checked_per(per)

    def try_batch(
        self, model: keras.Model, subject: keras.Model, x: Any, y: Any, weights: Any
    ) -> None:
        """Computes the loss."""
        if y is None and not has_own_loss(model):
            raise ValueError("it has no targets y")
        x, y = as_tensors(x), as_tensors(y)
        with metrics_kept(model):
            model.compute_loss(x, y, model(x, training=False), weights, training=False)

    def scores(
        self,
        model: keras.Model,
        subject: keras.Model,
        structures: Structures,
        data: Any = None,
        batches: int | None = None,
    ) -> Scores:
        """The importance for the loss of `model`, which may be a distiller around `subject`."""
        return gradient_importance(model, data, structures, self.per, steps=batches)


def _checked_per(per):
    if per not in ("example", "batch"):
        raise ValueError(f"`per` must be 'example' or 'batch'. Received: per={per!r}")
    return per


def _few_at_a_time(data, batch_size, steps):
    """The same examples in smaller batches: the mean over examples does not depend on them."""
    if isinstance(data, FirstExamples) and steps is None:
        return data.split(_AT_ONCE), batch_size, steps
    if not is_arrays(data) or batch_size % _AT_ONCE:
        return data, batch_size, steps
    if steps is not None:
        there = (len(part) for part in tree.flatten(data) if hasattr(part, "shape"))
        steps = math.ceil(min(steps * batch_size, *there) / _AT_ONCE)
    return data, _AT_ONCE, steps


class _GroupProbe(GradientProbe):
    """The model with one variable for each structure, whose gradient is the importance."""

    def __init__(self, model, structures, per):
        super().__init__(model)
        self.per = per
        self.scored = [(s, share) for s in structures for share in s.consumers]
        self.gates = [
            self.add_weight(name=f"gate_{i}", shape=(s.groups,), initializer="zeros")
            for i, s in enumerate(structures)
        ]
        self.recorded += self.gates
        self.examples = self.add_weight(name="examples", shape=(), trainable=False)
        self.examples.assign(0)
        self.place = {s.name: i for i, s in enumerate(structures)}

    def call(self, inputs: Any) -> Any:
        """The model's outputs; counts the examples."""
        outputs = super().call(inputs)
        batch = ops.shape(keras.tree.flatten(outputs)[0])[0]
        self.examples.assign_add(ops.cast(batch, "float32"))
        return outputs

    def attached(self):
        """Multiplies the groups by their gates, inside a `with` block."""
        read = [(s, share) for s, share in self.scored if s.read_as_input]
        others = [(s, share) for s, share in self.scored if not s.read_as_input]
        return hooked(
            [(share.layer, self._input_hook(s, share)) for s, share in read],
            [
                (share.layer, share.attribute, times(self._factor(s, share)), share.caller)
                for s, share in others
            ],
        )

    def _factor(self, structure, share):
        gate = self.gates[self.place[structure.name]]
        return lambda training: 1.0 + structure.spread(ops.convert_to_tensor(gate), share)

    def _input_hook(self, structure, share):
        place = self.place[structure.name]
        scaled = _per_example if self.per == "example" else _per_batch

        def function(inputs, training):
            gate = ops.cast(ops.convert_to_tensor(self.gates[place]), inputs.dtype)
            return scaled(inputs, gate, structure, share)

        return function


def _per_batch(inputs, gate, structure, share):
    return inputs * (1.0 + structure.spread_over_input(gate, share, inputs))


def _per_example(inputs, gate, structure, share):
    """Returns the input; the gradient of the gate becomes `Σ_x |∂L(x)/∂g|` over the batch."""

    @ops.custom_gradient
    def scaled(x, g):
        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            product = ops.cast(x, "float32") * ops.cast(upstream, "float32")
            axis = share.input_axis(x)
            others = [a for a in range(1, len(x.shape)) if a != axis]
            each = ops.sum(product, axis=others) if others else product
            each = ops.reshape(each, (-1, structure.groups, each.shape[-1] // structure.groups))
            # The loss is a mean over the batch; the importance is that of single examples.
            batch = ops.cast(ops.shape(each)[0], "float32")
            return upstream, ops.cast(batch * ops.sum(ops.abs(ops.sum(each, -1)), 0), g.dtype)

        return x, gradient

    return scaled(inputs, gate)
