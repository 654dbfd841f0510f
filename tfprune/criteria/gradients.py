"""One pass over data that sums absolute gradients of the loss, without training anything."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops

from tfprune.criteria.data import as_the_layers_take_it, check_data, first_batch, is_arrays
from tfprune.keras_private.compiling import compile_arguments


def absolute_gradients(
    model: keras.Model,
    data: Any,
    variables: Sequence[keras.Variable],
    batch_size: int = 32,
    steps: int | None = None,
) -> list[np.ndarray]:
    """`|∂L / ∂v|` element by element, the mean over batches.

    The model is run in inference mode, without dropout, and is not changed.

    Args:
        model: A compiled model. Its loss is differentiated.
        data: What `fit` takes: a dataset, or `(x, y)` or `(x, y, sample_weight)` arrays.
        variables: Variables that the model tracks.
        batch_size: Examples in a batch, where `data` are arrays.
        steps: How many batches to use; all by default.

    Returns:
        An array for each variable, of its shape.

    Raises:
        ValueError: If `data` cannot be used.
    """
    probe = GradientProbe(model, variables)
    batches = probe.run(data, batch_size, steps)
    return [ops.convert_to_numpy(total) / batches for total in probe.optimizer.totals]


class GradientProbe(keras.Model):
    """A model in inference mode, of which some variables alone have gradients.

    Args:
        model: A compiled model.
        variables: Those variables; `self.recorded`, which a subclass may fill.
    """

    def __init__(self, model: keras.Model, variables: Sequence[keras.Variable] = ()):
        super().__init__(name="probe")
        self.model = model
        # Past Keras, which would track them a second time.
        self.__dict__["recorded"] = list(variables)
        self.built = True

    @property
    def trainable_variables(self):
        """What is recorded alone, so that no other gradient is computed."""
        return self.recorded

    trainable_weights = trainable_variables

    @property
    def non_trainable_variables(self):
        """All others."""
        recorded = {id(v) for v in self.recorded}
        return [v for v in self.variables if id(v) not in recorded]

    @property
    def metrics(self):
        """Those of the model too, where its own `compute_loss` updates them."""
        return [*super().metrics, *(self.model.metrics if has_own_loss(self.model) else ())]

    def call(self, inputs):
        """The model's outputs in inference mode."""
        return self.model(inputs, training=False)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The model's loss."""
        own = has_own_loss(self.model)
        compute = self.model.compute_loss if own else super().compute_loss
        return compute(x, y, y_pred, sample_weight, training=training)

    def run(self, data: Any, batch_size: int, steps: int | None) -> int:
        """Sums over data; the sums are `self.optimizer.totals`, one for each recorded variable.

        Args:
            data: As in `absolute_gradients`.
            batch_size: As in `absolute_gradients`.
            steps: As in `absolute_gradients`.

        Returns:
            The number of batches.

        Raises:
            ValueError: If `data` cannot be used.
        """
        check_data(data, steps, "steps")
        data = as_the_layers_take_it(self.model, data, steps, batch_size)
        given = _as_fit_takes_it(data, batch_size)
        _check_arrays(self.model, data, given)
        with metrics_kept(self.model):
            self._compile_as_the_model()
            self.fit(**given, epochs=1, steps_per_epoch=steps, shuffle=False, verbose=0)
        batches = int(ops.convert_to_numpy(self.optimizer.iterations))
        if not batches:
            raise ValueError("`data` must hold at least one batch. Received: none")
        return batches

    def _compile_as_the_model(self):
        """Compiles with the arguments of the model's `compile`, except for the optimizer."""
        half = self.model.compute_dtype == "float16"
        # Small gradients would vanish in half precision. What records them scales by itself, so
        # that Keras need not wrap it, as it does under a policy of half precision.
        own = {
            "optimizer": _Recorder(loss_scale_factor=2.0**10 if half else None),
            "auto_scale_loss": False,
            "run_eagerly": self.model.run_eagerly,
        }
        if not has_own_loss(self.model):
            given = compile_arguments(self.model)
            own |= {name: given.get(name) for name in ("loss", "loss_weights")}
            if hasattr(self.model, "output_names"):
                self.output_names = self.model.output_names
        self.compile(**own)


class _Recorder(keras.optimizers.Optimizer):
    """Sums absolute gradients and updates no weight."""

    def __init__(self, loss_scale_factor=None):
        super().__init__(0.0, name="recorder", loss_scale_factor=loss_scale_factor)

    def build(self, variables):
        super().build(variables)
        self.totals = self.add_optimizer_variables(variables, "total")

    def update_step(self, gradient, variable, learning_rate):
        total = self.totals[self._get_variable_index(variable)]
        self.assign_add(total, ops.cast(ops.abs(gradient), total.dtype))


def has_own_loss(model: keras.Model) -> bool:
    """Whether a model computes its loss in a way of its own."""
    return type(model).compute_loss is not keras.Model.compute_loss


@contextmanager
def metrics_kept(model):
    """Restores the metrics: a loss of the model's own updates them, and a fit may be running."""
    kept = [(v, ops.convert_to_numpy(v).copy()) for m in model.metrics for v in m.variables]
    try:
        yield
    finally:
        for variable, value in kept:
            variable.assign(value)


def _as_fit_takes_it(data, batch_size):
    if isinstance(data, list) and data and isinstance(data[0], tuple):  # Batches.
        return {"x": (batch for batch in data)}
    if isinstance(data, (tuple, list)):
        if not 2 <= len(data) <= 3:
            raise ValueError(
                f"`data` must be a dataset, (x, y) or (x, y, sample_weight). Received: {len(data)} "
                "parts"
            )
        return {**dict(zip(("x", "y", "sample_weight"), data)), "batch_size": batch_size}  # noqa: B905
    return {"x": data}


def _check_arrays(model, data, given):
    """Refuses arrays that Keras would refuse less clearly, or that hold nothing."""
    if not is_arrays(data) or not ("y" in given or hasattr(data, "shape")):
        return
    try:
        _, y, _ = first_batch(data, 1)
        if y is None and not has_own_loss(model):
            raise ValueError("it has no targets y")
    except ValueError as error:
        raise ValueError(
            f"`data` must be a dataset, (x, y) or (x, y, sample_weight), not this: {error}"
        ) from error
