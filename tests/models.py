"""Small models that the tests share."""

import keras
import numpy as np
from keras import layers

from tfprune.structures import find_structures


def transformer(width=8, heads=2, units=12, activation="relu", use_bias=True, final=3):
    """One pre-norm encoder layer and a classifier."""
    inputs = keras.Input((None, width), name="x")
    y = layers.LayerNormalization(name="norm_1")(inputs)
    y = layers.MultiHeadAttention(heads, 4, use_bias=use_bias, name="attention")(y, y)
    x = layers.Add(name="add_1")([inputs, y])
    y = layers.LayerNormalization(name="norm_2")(x)
    y = layers.Dense(units, activation, use_bias=use_bias, name="ffn_in")(y)
    y = layers.Dense(width, use_bias=use_bias, name="ffn_out")(y)
    x = layers.Add(name="add_2")([x, y])
    return keras.Model(inputs, layers.Dense(final, name="out")(x), name="encoder")


def randomize(model, seed=0, scale=0.4):
    """Gives every weight a value of its own, biases too."""
    draw = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        variable.assign(draw.normal(scale=scale, size=variable.shape).astype("float32"))
    return model


def compile_and_build(model, optimizer, loss, **options):
    """Compiles a model and makes the variables of its optimizer.

    Where the first step makes them, TensorFlow traces it twice: most of the time of a short fit.
    """
    model.compile(optimizer, loss, **options)
    model.optimizer.build(model.trainable_variables)
    return model


def noise(*shape, seed=1):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def kill(model, dead, producers_only=False):
    """Zeroes groups: structure name to boolean array, or a function of the structure."""
    for structure in find_structures(model):
        gone = dead(structure) if callable(dead) else dead.get(structure.name)
        if gone is None:
            continue
        alive = (~np.asarray(gone)).astype("float32")
        if not producers_only:
            structure.scale(alive)
            continue
        matrices = [s for s in structure.producers if s.is_matrix]
        for share in structure.silencers or matrices:
            share.variable.assign(share.variable * structure.spread(alive, share))


def share(small, model):
    """What is left of the weights of a model's structures."""
    weights = [sum(s.weights for s in find_structures(m)) for m in (small, model)]
    return weights[0] / weights[1]


def outputs(model, x):
    return [
        np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(t, "float32")))
        for t in keras.tree.flatten(model(x, training=False))
    ]


def assert_same(first, second, tolerance=1e-5):
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert a.shape == b.shape
        scale = max(1.0, float(np.max(np.abs(a))))
        assert float(np.max(np.abs(a - b))) <= tolerance * scale


class Killed(keras.callbacks.Callback):
    """Interrupts a fit when an epoch begins."""

    def __init__(self, at):
        super().__init__()
        self.at = at

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.at:
            raise KeyboardInterrupt
