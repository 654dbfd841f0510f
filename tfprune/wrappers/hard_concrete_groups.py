"""Hard concrete gates over the groups of a layer."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfprune.arguments import integer, number
from tfprune.gates import Gate, HardConcrete
from tfprune.structures import Structure
from tfprune.wrappers.penalised_layer import PenalisedLayer


@keras.saving.register_keras_serializable("tfprune")
class HardConcreteGroups(PenalisedLayer):
    """A layer whose heads, units or other groups have hard concrete (L0) gates.

    The gates are drawn while training and fixed at inference, as `tfprune.gates.HardConcrete` says.
    They are trained with the model, in `fit` or in a loop of one's own. Where nothing pushes them
    they stay open: give a `strength`, add `expected_share()` to the loss, or use the callback
    `HardConcreteGates`, which drives them to a target.

    Args:
        layer: As in `GatedLayer`.
        strength: λ of the penalty `λ · expected_share()`, which is among `wrapper.losses` and those
            of the model: loss units for all groups open.
        initial: α to start with, as in `HardConcrete`.
        seed: Seed of the draws.
        score_scale: As in `HardConcrete`.
        **kwargs: As in `GatedLayer`.

    Attributes:
        gate: The `tfprune.gates.HardConcrete`; `gate.fix` ends the choice.
        strength: λ; it may be set at any time.

    Raises:
        ValueError: If an argument is out of range, and as `GatedLayer`.

    Source: Louizos et al., "Learning Sparse Neural Networks through L0 Regularization", 2018; Voita
    et al., "Analyzing Multi-Head Self-Attention", 2019, section 4.

    Example:

    A loop of one's own with TensorFlow:

    >>> import keras, numpy as np, tensorflow as tf, tfprune
    >>> from tfprune.wrappers import HardConcreteGroups
    >>> hidden = HardConcreteGroups(
    ...     keras.layers.Dense(8, "relu"), strength=0.5, seed=0, score_scale=20.0)
    >>> model = keras.Sequential([keras.Input((4,)), hidden, keras.layers.Dense(1)])
    >>> optimizer = keras.optimizers.Adam(0.01)
    >>> @tf.function
    ... def step(x, y):
    ...     with tf.GradientTape() as tape:
    ...         loss = tf.reduce_mean((model(x, training=True) - y) ** 2) + sum(model.losses)
    ...     gradients = tape.gradient(loss, model.trainable_variables)
    ...     optimizer.apply_gradients(zip(gradients, model.trainable_variables))
    >>> x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    >>> for _ in range(100):
    ...     step(x, x[:, :1])
    >>> small = tfprune.rebuild(model)  # without the closed units and without the wrapper
    >>> bool(small.layers[0].units == hidden.open_groups().sum() < 8)
    True

    The same with JAX:

    ```python
    import jax, keras, numpy as np, tfprune
    from tfprune.wrappers import HardConcreteGroups

    hidden = HardConcreteGroups(
        keras.layers.Dense(8, "relu"), strength=0.5, seed=0, score_scale=20.0
    )
    model = keras.Sequential([keras.Input((4,)), hidden, keras.layers.Dense(1)])
    optimizer = keras.optimizers.Adam(0.01)
    optimizer.build(model.trainable_variables)

    def loss_of(trainable, others, x, y):
        predicted, others, losses = model.stateless_call(
            trainable, others, x, training=True, return_losses=True
        )
        return ((predicted - y) ** 2).mean() + sum(losses), others

    @jax.jit
    def step(trainable, others, state, x, y):
        gradients, others = jax.grad(loss_of, has_aux=True)(trainable, others, x, y)
        trainable, state = optimizer.stateless_apply(state, gradients, trainable)
        return trainable, others, state

    x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    trainable = [variable.value for variable in model.trainable_variables]
    others = [variable.value for variable in model.non_trainable_variables]
    state = [variable.value for variable in optimizer.variables]
    for _ in range(100):
        trainable, others, state = step(trainable, others, state, x, x[:, :1])
    for variable, value in zip(model.trainable_variables, trainable):
        variable.assign(value)
    small = tfprune.rebuild(model)
    ```
    """

    def __init__(
        self,
        layer: keras.Layer,
        strength: float = 0.0,
        initial: float = 2.5,
        seed: int | None = None,
        score_scale: float = 1.0,
        **kwargs: Any,
    ):
        super().__init__(layer, strength, **kwargs)
        self.initial = number("initial", initial)
        self.seed = integer("seed", seed, least=0, optional=True)
        self._score_scale = number("score_scale", score_scale, above=0)

    def make_gates(self, structure: Structure, over: str | None) -> list[Gate]:
        """A hard concrete gate."""
        return [
            HardConcrete(
                structure, self.initial, self.seed, self._score_scale, over=over or "consumers"
            )
        ]

    def expected_share(self) -> Any:
        """The expected share of groups that are open, a differentiable scalar tensor."""
        return ops.mean(self.gate.expected())

    def penalty(self) -> Any:
        """The expected share of groups that are open."""
        return self.expected_share()

    def get_config(self) -> dict[str, Any]:
        """The configuration."""
        return {
            **super().get_config(),
            "initial": self.initial,
            "seed": self.seed,
            "score_scale": self.gate.score_scale if self.built else self._score_scale,
        }
