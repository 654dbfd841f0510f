"""How much the loss would change without a group, by its gradient."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops

from tfprune.gates.overlay import apply_factor, hook_input, remove
from tfprune.structures import Structure, Structures, find_structures


class Scores(dict):
    """Structure name to an array `(groups,)`; a criterion, since it can be called."""

    def __call__(self, structure: Structure) -> np.ndarray:
        """The scores of one structure."""
        if structure.name not in self:
            raise ValueError(
                f"There are no scores of {structure.name!r}. There are: {', '.join(self)}"
            )
        return self[structure.name]


def gradient_importance(
    model: keras.Model,
    data: Any,
    structures: Structures | None = None,
    per: str = "example",
    batch_size: int = 32,
    steps: int | None = None,
) -> Scores:
    """`I_g = E_x |∂L(x) / ∂g|` at `g = 1`, where `g` multiplies what a group gives its readers.

    To first order it is how much the loss changes when the group goes. The model is run as in
    inference, without dropout, and is not changed.

    Args:
        model: A compiled model, whose loss counts.
        data: What `fit` takes: a dataset, or `(x, y)` or `(x, y, sample_weight)` arrays.
        structures: Those to score; all by default.
        per: `"example"`: the mean over examples of the absolute value. `"batch"`: the mean over
            batches, in which examples of opposite sign cancel; the paper's short form,
            `|⟨W[g], ∂L/∂W[g]⟩|`. Ranks of embeddings, which no layer reads as its input, are
            always taken per batch.
        batch_size: For arrays.
        steps: Batches to look at; all by default.

    Returns:
        The scores.

    Raises:
        ValueError: If the model is not compiled or not built, or `per` is unknown.

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
    if per not in ("example", "batch"):
        raise ValueError(f"`per` must be 'example' or 'batch'. Received: per={per!r}")
    if not model.compiled or (structures is None and not model.built):
        raise ValueError("`model` must be built and compiled: its loss tells what matters.")
    structures = find_structures(model) if structures is None else structures
    probe = _Probe(model, structures, per)
    with probe.laid(), _metrics_kept(model):
        probe.compile_as_the_model()
        given = _as_fit_takes_it(data, batch_size)
        probe.fit(**given, epochs=1, steps_per_epoch=steps, shuffle=False, verbose=0)
    batches = ops.convert_to_numpy(probe.optimizer.iterations)
    examples = ops.convert_to_numpy(probe.examples)
    scores = {}
    for structure, total in zip(structures, probe.optimizer.totals, strict=True):
        count = examples if per == "example" and structure.read_as_input else batches
        scores[structure.name] = ops.convert_to_numpy(total) / max(count, 1)
    return Scores(scores)


@contextmanager
def _metrics_kept(model):
    """A loss of the model's own counts in its metrics; a fit that is under way wants them back."""
    kept = [(v, ops.convert_to_numpy(v).copy()) for m in model.metrics for v in m.variables]
    try:
        yield
    finally:
        for variable, value in kept:
            variable.assign(value)


def _as_fit_takes_it(data, batch_size):
    if isinstance(data, (tuple, list)):
        if not 2 <= len(data) <= 3:
            raise ValueError(
                f"`data` must be a dataset, (x, y) or (x, y, sample_weight). Received: {len(data)} "
                "parts"
            )
        return {**dict(zip(("x", "y", "sample_weight"), data)), "batch_size": batch_size}  # noqa: B905
    return {"x": data}


class _Probe(keras.Model):
    """The model with a variable beside each structure whose gradient is the importance."""

    def __init__(self, model, structures, per):
        super().__init__(name="probe")
        self.model = model
        self.per = per
        self.taken = [(s, share) for s in structures for share in s.consumers]
        self.gates = [
            self.add_weight(name=f"gate_{i}", shape=(s.groups,), initializer="zeros")
            for i, s in enumerate(structures)
        ]
        self.examples = self.add_weight(name="examples", shape=(), trainable=False)
        self.examples.assign(0)
        self.place = {s.name: i for i, s in enumerate(structures)}
        self.built = True

    @property
    def trainable_variables(self):
        """The gates alone: nothing else is to have a gradient."""
        return self.gates

    trainable_weights = trainable_variables

    @property
    def non_trainable_variables(self):
        """All others."""
        gates = {id(g) for g in self.gates}
        return [v for v in self.variables if id(v) not in gates]

    @property
    def metrics(self):
        """The model's too, where its own `compute_loss` writes to them."""
        return [*super().metrics, *(self.model.metrics if self.has_own_loss else ())]

    @property
    def has_own_loss(self):
        """Whether the model computes its loss in a way of its own, as a distiller does."""
        return type(self.model).compute_loss is not keras.Model.compute_loss

    def compile_as_the_model(self):
        """Compiles with what the model was compiled with, but for the optimizer."""
        own = {"optimizer": _Recorder(), "run_eagerly": self.model.run_eagerly}
        if not self.has_own_loss:
            given = self.model._compile_config.config
            own |= {name: given.get(name) for name in ("loss", "loss_weights")}
            if hasattr(self.model, "output_names"):
                self.output_names = self.model.output_names
        self.compile(**own)

    def call(self, inputs):
        """The model as in inference."""
        outputs = self.model(inputs, training=False)
        batch = ops.shape(keras.tree.flatten(outputs)[0])[0]
        self.examples.assign_add(ops.cast(batch, "float32"))
        return outputs

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The model's loss."""
        compute = self.model.compute_loss if self.has_own_loss else super().compute_loss
        return compute(x, y, y_pred, sample_weight, training=training)

    @contextmanager
    def laid(self):
        laid = []
        try:
            for structure, share in self.taken:
                if structure.read_as_input:
                    watch = self._tap(structure, share)
                    hook_input(share.layer, watch)
                else:
                    watch = self._factor(structure, share)
                    apply_factor(share.layer, share.attribute, watch)
                laid.append((share.layer, watch))
            yield
        finally:
            for layer, watch in laid:
                remove(layer, watch)

    def _factor(self, structure, share):
        gate = self.gates[self.place[structure.name]]
        return lambda training: 1.0 + structure.spread(ops.convert_to_tensor(gate), share)

    def _tap(self, structure, share):
        place = self.place[structure.name]
        watch = _per_example if self.per == "example" else _per_batch

        def function(inputs, training):
            gate = ops.cast(ops.convert_to_tensor(self.gates[place]), inputs.dtype)
            return watch(inputs, gate, structure, share)

        return function


def _per_batch(inputs, gate, structure, share):
    return inputs * (1.0 + structure.spread_over_input(gate, share, inputs))


def _per_example(inputs, gate, structure, share):
    """Passes the input on; the gate's gradient becomes `Σ_x |∂L(x)/∂g|` over the batch."""

    @ops.custom_gradient
    def watched(x, g):
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

    return watched(inputs, gate)


class _Recorder(keras.optimizers.Optimizer):
    """Adds up gradients instead of following them."""

    def __init__(self):
        super().__init__(learning_rate=0.0, name="recorder")

    def build(self, variables):
        super().build(variables)
        self.totals = self.add_optimizer_variables(variables, "total")

    def update_step(self, gradient, variable, learning_rate):
        total = self.totals[self._get_variable_index(variable)]
        self.assign_add(total, ops.cast(ops.abs(gradient), total.dtype))
