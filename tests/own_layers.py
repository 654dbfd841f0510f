"""Layers as users write them, that tfprune has no description of."""

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable("tests")
class HardSwish(layers.Layer):
    def call(self, x):
        return x * ops.relu6(x + 3) / 6


@keras.saving.register_keras_serializable("tests")
class Applied(layers.Layer):
    """Is given a function after it is made."""

    function = None

    def call(self, x):
        return self.function(x)


@keras.saving.register_keras_serializable("tests")
class Scale(layers.Layer):
    def build(self, shape):
        self.gamma = self.add_weight(shape=(shape[-1],), initializer="ones")

    def call(self, x):
        return x * self.gamma


@keras.saving.register_keras_serializable("tests")
class SizedScale(layers.Layer):
    """Is told how many channels there are."""

    def __init__(self, dim, **kwargs):
        super().__init__(**kwargs)
        self.dim = dim
        self.gamma = self.add_weight(shape=(1, dim), initializer="ones")

    def call(self, x):
        return x * self.gamma

    def get_config(self):
        return {**super().get_config(), "dim": self.dim}


@keras.saving.register_keras_serializable("tests")
class ResponseNormalization(layers.Layer):
    """By the size of each channel in the whole picture, without division by their mean."""

    def build(self, shape):
        self.gamma = self.add_weight(shape=(shape[-1],), initializer="ones")
        self.beta = self.add_weight(shape=(shape[-1],), initializer="zeros")

    def call(self, x):
        axes = tuple(range(1, len(x.shape) - 1))
        size = ops.sqrt(ops.sum(ops.square(x), axis=axes, keepdims=True))
        return x * (1 + self.gamma * size) + self.beta


@keras.saving.register_keras_serializable("tests")
class Standardization(layers.Layer):
    """By numbers that are not trained."""

    def build(self, shape):
        self.mean = self.add_weight(shape=(shape[-1],), initializer="zeros", trainable=False)
        self.variance = self.add_weight(shape=(shape[-1],), initializer="ones", trainable=False)

    def call(self, x):
        return (x - self.mean) / ops.sqrt(self.variance + 1e-3)


@keras.saving.register_keras_serializable("tests")
class WeightedSum(layers.Layer):
    def build(self, shapes):
        self.weight = self.add_weight(shape=(shapes[0][-1],), initializer="ones")

    def call(self, inputs):
        return inputs[0] + self.weight * inputs[1]


@keras.saving.register_keras_serializable("tests")
class Centred(layers.Layer):
    def call(self, x):
        return x - ops.mean(x, axis=-1, keepdims=True)


@keras.saving.register_keras_serializable("tests")
class Shortened(layers.Layer):
    """Mixes channels where they are large; none does among small numbers."""

    def call(self, x):
        length = ops.sqrt(ops.sum(ops.square(x), axis=-1, keepdims=True))
        return x * ops.minimum(1.0, 50.0 / (length + 1e-6))


@keras.saving.register_keras_serializable("tests")
class Fades(layers.Layer):
    """Has another factor for each place along the channels, which no weight says."""

    def call(self, x):
        return x * ops.arange(1, x.shape[-1] + 1, dtype="float32")


@keras.saving.register_keras_serializable("tests")
class Divided(layers.Layer):
    def build(self, shape):
        self.size = self.add_weight(shape=(shape[-1],), initializer="ones")

    def call(self, x):
        return x / self.size


@keras.saving.register_keras_serializable("tests")
class Convolution(layers.Layer):
    """With a kernel of its own, and a bias."""

    def __init__(self, filters, activation=None, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.activation = keras.activations.get(activation)

    def build(self, shape):
        self.kernel = self.add_weight(shape=(3, 3, shape[-1], self.filters))
        self.bias = self.add_weight(shape=(self.filters,), initializer="zeros")

    def call(self, x):
        y = ops.conv(x, self.kernel, padding="same") + self.bias
        return self.activation(y)

    def get_config(self):
        activation = keras.activations.serialize(self.activation)
        return {**super().get_config(), "filters": self.filters, "activation": activation}


@keras.saving.register_keras_serializable("tests")
class StandardizedConvolution(layers.Conv2D):
    """Its kernel has mean 0 and variance 1 over all that it reads."""

    def call(self, x):
        axes = (0, 1, 2)
        kernel = self.kernel - ops.mean(self.kernel, axes, keepdims=True)
        kernel = kernel / (ops.std(self.kernel, axes, keepdims=True) + 1e-3)
        return ops.conv(x, kernel, padding="same") + self.bias


@keras.saving.register_keras_serializable("tests")
class GatedConvolution(layers.Layer):
    """Two kernels make each channel; how many there are stands in another entry."""

    def __init__(self, widths, **kwargs):
        super().__init__(**kwargs)
        self.widths = widths

    def build(self, shape):
        self.gate = self.add_weight(shape=(1, 1, shape[-1], self.widths))
        self.value = self.add_weight(shape=(3, 3, shape[-1], self.widths))

    def call(self, x):
        gate = ops.sigmoid(ops.conv(x, self.gate, padding="same"))
        return gate * ops.conv(x, self.value, padding="same")

    def get_config(self):
        return {**super().get_config(), "widths": self.widths}


@keras.saving.register_keras_serializable("tests")
class Residual(layers.Layer):
    """Adds what it is given to what it makes."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], shape[-1]))

    def call(self, x):
        return x + ops.relu(x @ self.kernel)
