"""Several devices give the same numbers as one; devices are made once in a process."""

import functools
import json
import os
import subprocess
import sys

import keras
import pytest

TRAIN = """
import contextlib, json, sys
import keras, numpy as np
from tests.models import noise, randomize, transformer
import tfprune
from tfprune.callbacks import (
    DynamicSparsity, GroupLasso, HardConcreteGates, HeadLottery, MovementPruning
)
from tfprune.structures import find_structures

def callback(method):
    half = dict(structures=["ffn"], target=tfprune.Sparsity(0.5), check_every=2, verbose=0)
    return {
        "lasso": lambda: GroupLasso(strength=0.05, check_every=2, verbose=0),
        "movement": lambda: MovementPruning(**half),
        "hard concrete": lambda: HardConcreteGates(**half),
        "lottery": lambda: HeadLottery(
            tfprune.Sparsity(0.5), 1, criterion="magnitude", verbose=0
        ),
        "every size": lambda: DynamicSparsity([1.0, 0.5], verbose=0),
    }[method]()

def run(method, scope):
    keras.utils.set_random_seed(0)
    with scope:
        model = randomize(transformer())
        model.compile(keras.optimizers.Adam(1e-2), "mse")
    model.fit(noise(32, 3, 8), noise(32, 3, 3, seed=2), batch_size=8, epochs=25, shuffle=False,
              verbose=0, callbacks=[callback(method)])
    return {
        "left": {s.name: int(np.count_nonzero(s.norms())) for s in find_structures(model)},
        "total": float(sum(np.abs(w).sum() for w in model.get_weights())),
    }

def runs(scope):
    return {method: run(method, scope()) for method in sys.argv[1:]}
"""

MIRRORED = """
import tensorflow as tf
device = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(device, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert strategy.num_replicas_in_sync == 2
print(json.dumps([runs(contextlib.nullcontext), runs(strategy.scope)]))
"""

PARALLEL = """
import jax
assert len(jax.devices()) == 2
alone = runs(contextlib.nullcontext)
keras.distribution.set_distribution(keras.distribution.DataParallel(devices=jax.devices()))
print(json.dumps([alone, runs(contextlib.nullcontext)]))
"""


# A process takes seconds to load TensorFlow and more to trace a step for two devices.
METHODS = ("lasso", "movement", "hard concrete", "lottery", "every size")
each = pytest.mark.parametrize("method", METHODS)
pytestmark = pytest.mark.slow


@functools.cache
def results(code, methods):
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    out = subprocess.run(
        [sys.executable, "-c", TRAIN + code, *methods],
        capture_output=True,
        text=True,
        env={**os.environ, "XLA_FLAGS": flags},
    )
    assert out.returncode == 0, out.stderr[-2000:]
    return json.loads(out.stdout.strip().splitlines()[-1])


def both(code, method):
    alone, together = results(code, METHODS)
    return alone[method], together[method]


def check(method, alone, together):
    if method == "lottery":
        assert alone["left"]["attention"] == 1
    elif method != "every size":  # Which trains all and removes nothing.
        assert 0 < alone["left"]["ffn_in"] < 12
    if method == "hard concrete":  # Each device draws its own gates.
        assert together["left"]["ffn_in"] == 6
        return
    assert alone["left"] == together["left"]
    assert together["total"] == pytest.approx(alone["total"], rel=1e-3)


@pytest.mark.tensorflow_only
@each
def test_mirrored_strategy(method):
    check(method, *both(MIRRORED, method))


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="DataParallel is tested on JAX")
@each
def test_data_parallel(method):
    check(method, *both(PARALLEL, method))
