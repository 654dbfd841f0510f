"""What benchmarks beside TensorFlow Model Optimization have alike: models of tf_keras."""

import tempfile

import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras

from tfprune.batches import each_batch

UPDATES = 15


def schedule(share, begin, last):
    """A polynomial schedule that sets weights to zero between two steps, some fifteen times.

    It prunes at every so many steps from the first, and leaves out the last if it is between.

    Args:
        share: The share of weights that are zero at its end.
        begin: The step of the first time.
        last: About the step of the last time.
    """
    each = max(1, round((last - begin) / UPDATES))
    end = begin + round((last - begin) / each) * each
    return tfmot.sparsity.keras.PolynomialDecay(0.0, share, begin, end, frequency=each)


def compile_classifier(model, steps, rate, weight_decay):
    """Compiles a model of tf_keras as the benchmarks compile theirs of Keras 3."""
    decay = tf_keras.optimizers.schedules.CosineDecay(
        0.0, int(0.9 * steps), warmup_target=rate, warmup_steps=int(0.1 * steps)
    )
    model.compile(
        tf_keras.optimizers.AdamW(decay, weight_decay=weight_decay),
        tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )


def all_batches(data, epochs):
    """The batches of a `PyDataset` in all epochs, in the order in which Keras 3 takes them."""
    for _ in range(epochs):
        yield from each_batch(data)
        data.on_epoch_end()


def write_litert(model, call, specs, path, **settings):
    """Writes the LiteRT file of a model.

    Args:
        model: A model of tf_keras.
        call: From tensors of `specs` to what the model makes of them.
        specs: A `tf.TensorSpec` for each input.
        path: Where.
        **settings: Attributes of the converter, such as `optimizations`.
    """
    module = tf.Module()
    module.model = model
    serve = tf.function(lambda *given: {"logits": call(*given)}, specs)
    with tempfile.TemporaryDirectory() as folder:
        signatures = {"serving_default": serve.get_concrete_function()}
        tf.saved_model.save(module, folder, signatures)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.target_spec.supported_ops = settings.pop(
            "supported_ops", [tf.lite.OpsSet.TFLITE_BUILTINS]
        )
        for name, value in settings.items():
            setattr(converter, name, value)
        path.write_bytes(converter.convert())
