"""MobileNetV2 of vision.py in tf_keras, pruned by TensorFlow Model Optimization (tfmot).

tfmot knows models of Keras 2 alone. The one that is pruned has the weights of the dense network of
Keras 3 and sees the same batches in the same order, with the same loss, optimizer and rate.
"""

import time

import keras
import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras
from progress import Log
from tfmot_tools import all_batches, compile_classifier, schedule, write_litert

FIRST, LAST = 0.05, 0.5  # Of the steps, between which weights go, as by `vision.importance`.


def in_tf_keras(network):
    """The same network, and by how much the largest of its outputs on noise differs.

    Args:
        network: A MobileNetV2 of half width of Keras 3.
    """
    model = tf_keras.applications.MobileNetV2(
        network.input_shape[1:], alpha=0.5, weights=None, classes=10, classifier_activation=None
    )
    for layer in model.layers:
        theirs = network.get_layer(layer.name) if layer.weights else None
        if theirs is not None:
            layer.set_weights(theirs.get_weights())
        if isinstance(layer, tf_keras.layers.BatchNormalization):
            layer.momentum = theirs.momentum
    x = np.random.default_rng(0).uniform(-1, 1, (8, *network.input_shape[1:])).astype("float32")
    outputs = keras.ops.convert_to_numpy(network(x, training=False))
    return model, float(np.abs(model(x, training=False).numpy() - outputs).max())


def pruned(network, data, epochs, share, rate, name):
    """A model of tf_keras in which a share of each kernel is zero, and the figures of its training.

    Args:
        network: The dense network of Keras 3.
        data: A `PyDataset`.
        epochs: For how many epochs it is trained.
        share: The share of each kernel that becomes zero, by a polynomial schedule.
        rate: The highest learning rate.
        name: Of the run.
    """
    model, apart = in_tf_keras(network)
    if apart > 1e-3:
        raise ValueError(f"The two models must be the same; their outputs are {apart} apart.")
    steps = epochs * len(data)
    pruning = schedule(share, int(FIRST * steps), LAST * steps)
    model = tfmot.sparsity.keras.prune_low_magnitude(model, pruning)
    compile_classifier(model, steps, rate, weight_decay=1e-3)
    log = tf_keras.callbacks.LambdaCallback(on_epoch_end=Log(name).on_epoch_end)
    started = time.perf_counter()
    model.fit(
        all_batches(data, epochs),
        steps_per_epoch=len(data),
        epochs=epochs,
        verbose=0,
        callbacks=[tfmot.sparsity.keras.UpdatePruningStep(), log],
    )
    minutes = (time.perf_counter() - started) / 60
    model = tfmot.sparsity.keras.strip_pruning(model)
    kernels = [w.numpy() for w in model.trainable_weights if w.shape.rank > 1]
    not_zero = sum(map(np.count_nonzero, kernels)) / sum(k.size for k in kernels)
    return model, {"minutes": minutes, "not_zero": float(not_zero), "apart": apart}


def write_file(model, path, kind, some):
    """Writes the LiteRT file of a model for one picture.

    Args:
        model: A model of tf_keras.
        path: Where.
        kind: `"float"`; `"sparse"`, float with kernels that are stored without their zeros; or
            `"int8"`, with int8 activations.
        some: Pictures that the ranges of activations are taken from.
    """
    specs = [tf.TensorSpec((1, *model.input_shape[1:]), tf.float32, "x")]
    settings = {
        "float": {},
        "sparse": {"optimizations": [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]},
        "int8": {
            "optimizations": [tf.lite.Optimize.DEFAULT],
            "representative_dataset": lambda: ({"x": x[None]} for x in some),
            "supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS_INT8],
        },
    }
    write_litert(model, lambda x: model(x, training=False), specs, path, **settings[kind])
