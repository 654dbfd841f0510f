"""Every pruning callback over one small model, for the tests of what all of them share."""

import keras
import numpy as np
import pytest

import tfprune
from tests.models import compile_and_build, noise, randomize, transformer
from tfprune.callbacks import (
    DynamicSparsity,
    GroupLasso,
    HardConcreteGates,
    HeadLottery,
    ImportancePruning,
    MovementPruning,
)

X, Y = noise(16, 3, 8), noise(16, 3, 3, seed=2)
HALF = tfprune.Sparsity(0.5)

METHODS = {
    "group lasso": lambda **o: GroupLasso(
        **{
            "strength": 0.05,
            "stop": None,
            "removal": "during",
            "relative_threshold": 0.9,
            "verbose": 0,
            "check_every": 2,
            **o,
        }
    ),
    "hard concrete": lambda **o: HardConcreteGates(
        **{"target": HALF, "stop": 0.5, "verbose": 0, "check_every": 2, **o}
    ),
    "movement": lambda **o: MovementPruning(
        **{"target": HALF, "stop": 0.5, "verbose": 0, "check_every": 2, **o}
    ),
    "importance": lambda **o: ImportancePruning(
        **{"target": HALF, "criterion": "magnitude", "start": 0.25, "verbose": 0, **o}
    ),
    "lottery": lambda **o: HeadLottery(
        **{
            "target": HALF,
            "heads_per_round": 1,
            "criterion": "magnitude",
            "start": 2,
            "round_length": 2,
            "stop_training": False,
            "verbose": 0,
            "check_every": 1,
            **o,
        }
    ),
    "dynamic": lambda **o: DynamicSparsity(**{"sizes": (1.0, 0.5), "verbose": 0, **o}),
}
each = pytest.mark.parametrize("method", METHODS)


def each_mostly_slow(*fast):
    """All callbacks; those that are not named run in `make test-slow` alone."""
    return pytest.mark.parametrize(
        "method",
        [m if m in fast else pytest.param(m, marks=pytest.mark.slow) for m in METHODS],
    )


def compiled(optimizer=None, activation="sigmoid", units=6, **options):
    """A model whose units emit something at zero weights, which makes pruned groups grow again."""
    model = randomize(transformer(units=units, activation=activation))
    return compile_and_build(model, optimizer or keras.optimizers.Adam(1e-2), "mse", **options)


def fit(model, *callbacks, epochs=3, **options):
    options = {"batch_size": 4, "epochs": epochs, "verbose": 0, "shuffle": False, **options}
    return model.fit(X, Y, callbacks=list(callbacks), **options)


def values(model):
    return [keras.ops.convert_to_numpy(w).copy() for w in model.weights]


def left(model):
    return {s.name: int(np.count_nonzero(s.norms())) for s in tfprune.find_structures(model)}
