"""Counts the parameters and the floating-point operations of a model."""

from __future__ import annotations

import keras
import numpy as np

from tfprune.keras_private.graphs import inputs_struct


def count_parameters(model: keras.Model) -> int:
    """The number of weights of a model, trainable or not, without states of random generators.

    Args:
        model: A built model.

    Example:

    >>> import keras, tfprune
    >>> tfprune.count_parameters(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]))
    10
    """
    return sum(int(np.prod(w.shape)) for w in model.weights if "seed_generator" not in w.path)


def count_flops(model: keras.Model, batch_size: int = 1, sequence_length: int = 128) -> int:
    """Counts the floating-point operations of matrix products and convolutions in one call.

    A multiply-add counts as two. The operations are those of the traced computation, whatever
    layers they belong to; other operations, such as additions and activations, are not counted.

    Args:
        model: A built Keras model.
        batch_size: Examples in the call.
        sequence_length: Size of axes of unknown size.

    Returns:
        The number of operations.

    Raises:
        ValueError: If the inputs of the model are not known, or Keras runs on a backend other than
            TensorFlow and JAX.

    Example:

    >>> import keras, tfprune
    >>> tfprune.count_flops(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]))
    16
    """
    from tfprune.export import example_inputs, with_inputs

    model = with_inputs(model)
    arrays = example_inputs(model, batch_size, sequence_length)
    given = keras.tree.pack_sequence_as(inputs_struct(model), arrays)
    if keras.backend.backend() == "tensorflow":
        return _flops_of_graph(model, given)
    if keras.backend.backend() == "jax":
        import jax

        return _flops_of_jaxpr(jax.make_jaxpr(lambda x: model(x, training=False))(given).jaxpr)
    raise ValueError("`count_flops` needs the TensorFlow or the JAX backend.")


def _flops_of_graph(model, given):
    import tensorflow as tf

    specs = keras.tree.map_structure(lambda a: tf.TensorSpec(a.shape, a.dtype), given)
    function = tf.function(lambda x: model(x, training=False)).get_concrete_function(specs)
    graphs = [
        function.graph,
        *(f.graph for f in function.graph._functions.values() if hasattr(f, "graph")),
    ]
    return sum(_operation_flops(op) for graph in graphs for op in graph.get_operations())


def _operation_flops(op) -> int:
    if op.type in ("MatMul", "BatchMatMulV2", "BatchMatMul", "BatchMatMulV3"):
        left = op.inputs[0].shape
        transposed = op.get_attr("transpose_a") if op.type == "MatMul" else op.get_attr("adj_x")
        inner = left[-2] if transposed else left[-1]
        return 2 * int(np.prod(op.outputs[0].shape)) * inner
    if op.type == "Einsum":
        equation = op.get_attr("equation").decode()
        sizes: dict[str, int] = {}
        for term, tensor in zip(equation.split("->")[0].split(","), op.inputs, strict=True):
            shape = list(tensor.shape)
            letters = term.replace("...", "")
            head = len(shape) - len(letters)
            dots = term.find("...")
            for i in range(head):
                sizes[f".{i}"] = shape[dots + i]
            plain = shape if dots < 0 else shape[:dots] + shape[dots + head :]
            sizes.update(zip(letters, plain, strict=True))
        return 2 * int(np.prod(list(sizes.values()))) if len(op.inputs) > 1 else 0
    if op.type in ("Conv2D", "DepthwiseConv2dNative", "Conv3D"):
        kernel = list(op.inputs[1].shape)
        window = kernel[:-1] if op.type != "DepthwiseConv2dNative" else kernel[:2]
        return 2 * int(np.prod(op.outputs[0].shape)) * int(np.prod(window))
    return 0


def _flops_of_jaxpr(jaxpr) -> int:
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (left, _), _ = equation.params["dimension_numbers"]
            inner = [equation.invars[0].aval.shape[axis] for axis in left]
            total += 2 * int(np.prod(equation.outvars[0].aval.shape)) * int(np.prod(inner))
        elif equation.primitive.name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            out_axis = equation.params["dimension_numbers"].rhs_spec[0]
            window = int(np.prod(kernel)) // kernel[out_axis]
            total += 2 * int(np.prod(equation.outvars[0].aval.shape)) * window
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", None)
            if inner is not None:
                total += _flops_of_jaxpr(getattr(inner, "jaxpr", inner))
    return total
