"""What tfprune assumes about optimizers; `AddedVariables` is tested with tests/fit."""

import keras
import numpy as np
import pytest

from tfprune.keras_private import optimizers


def variables():
    return [keras.Variable(np.ones(n, "float32"), name=f"v{n}") for n in (2, 3)]


def test_nested_optimizers_are_found():
    adam, sgd = keras.optimizers.Adam(0.1), keras.optimizers.SGD(0.2)
    assert optimizers.nested(adam) == [adam]
    scaled = keras.optimizers.LossScaleOptimizer(adam)
    assert optimizers.nested(scaled) == [scaled, adam]
    assert optimizers.innermost(scaled) is adam
    several = keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(sgd, {"v2": adam}))
    assert set(map(id, optimizers.nested(several))) == {id(several), id(adam), id(sgd)}
    assert optimizers.default_optimizer(several) is sgd
    first, second = variables()
    several.build([first, second])
    assert optimizers.trained_by(several, first) is adam
    assert optimizers.trained_by(several, second) is sgd
    assert optimizers.highest_learning_rate(several) == pytest.approx(0.2)


@pytest.mark.parametrize(
    "rate, highest",
    [
        (0.5, 0.5),
        (lambda: 0.25, 0.25),
        (keras.optimizers.schedules.PolynomialDecay(0.0, 100, 0.3), 0.3),
    ],
)
def test_the_highest_learning_rate(rate, highest):
    optimizer = keras.optimizers.SGD(rate)
    assert optimizers.highest_learning_rate(optimizer) == pytest.approx(highest)
