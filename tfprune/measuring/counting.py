"""Counts the parameters and the floating-point operations of a model."""

from __future__ import annotations

import keras
import numpy as np

from tfprune.arguments import built_model, integer
from tfprune.keras_private.functional import inputs_struct
from tfprune.measuring.input_checks import check_numeric
from tfprune.model_parts import parts_of


def count_parameters(model: keras.Model) -> int:
    """The number of weights of a model, trainable or not, without states of random generators.

    What a callback keeps on the model while it is trained does not count.

    Args:
        model: A built model.

    Raises:
        ValueError: If it is no built Keras model.

    Example:

    >>> import keras, tfprune
    >>> tfprune.count_parameters(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]))
    10
    """
    built_model("model", model)
    return sum(int(np.prod(w.shape)) for w in own_weights(model))


def own_weights(model: keras.Model) -> list[keras.Variable]:
    """The weights of a model that `count_parameters` counts."""
    added = {id(w) for _, part in parts_of(model) for w in part.weights}
    return [w for w in model.weights if id(w) not in added and "seed_generator" not in w.path]


def count_flops(model: keras.Model, batch_size: int = 1, sequence_length: int = 128) -> int:
    """Counts the floating-point operations of matrix products and convolutions in one call.

    A multiply-add counts as two. The operations are those of the traced computation, whatever
    layers they belong to; other operations, such as additions and activations, are not counted.
    What a loop does counts as often as it runs, at most where it may stop earlier; of branches the
    largest counts. Zeros that pad the input of a transposed convolution are no work.

    Args:
        model: A built Keras model.
        batch_size: Examples in the call.
        sequence_length: Size of axes of unknown size.

    Returns:
        The number of operations.

    Raises:
        ValueError: If the inputs of the model are not known or are strings, if it has a loop of
            which it cannot be told how often it runs, if a number is out of range, or Keras runs on
            a backend other than TensorFlow and JAX.

    Example:

    >>> import keras, tfprune
    >>> tfprune.count_flops(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]))
    16
    """
    from tfprune.export import example_inputs

    batch_size = integer("batch_size", batch_size)
    sequence_length = integer("sequence_length", sequence_length)
    model = traceable(model)
    arrays = example_inputs(model, batch_size, sequence_length)
    given = keras.tree.pack_sequence_as(inputs_struct(model), arrays)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        from tfprune.measuring.tensorflow_flops import flops_of_graph

        specs = keras.tree.map_structure(lambda a: tf.TensorSpec(a.shape, a.dtype), given)
        function = tf.function(lambda x: model(x, training=False))
        return flops_of_graph(function.get_concrete_function(specs).graph)
    if keras.backend.backend() == "jax":
        import jax

        from tfprune.measuring.jax_flops import flops_of_jaxpr

        return flops_of_jaxpr(jax.make_jaxpr(lambda x: model(x, training=False))(given))
    raise ValueError("`count_flops` needs the TensorFlow or the JAX backend.")


def traceable(model: keras.Model) -> keras.Model:
    """The Functional model whose operations `count_flops` counts.

    Args:
        model: A built model. A subclassed one is called symbolically, with an open batch size.

    Raises:
        ValueError: If its inputs are not known or are strings.
    """
    from tfprune.export import with_inputs

    return check_numeric(with_inputs(built_model("model", model)))
