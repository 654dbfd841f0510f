"""Small convolutional networks, one for each way in which channels are joined."""

import keras
from keras import layers

from tests.models import randomize


def _conv(filters, size=3, **options):
    return layers.Conv2D(filters, size, **{"padding": "same", **options})


def plain(x):
    """Convolutions without padding, whose constants can be folded, pooling, a flat end."""
    x = _conv(6, padding="valid", activation="relu", name="a")(x)
    x = layers.MaxPooling2D()(x)
    x = _conv(5, 1, activation="sigmoid", name="b")(x)
    return layers.Dense(3, name="head")(layers.Flatten()(x))


def residual(x):
    """Blocks with a normalization behind each convolution, added to a stream."""
    x = layers.ReLU()(layers.BatchNormalization()(_conv(6, use_bias=False, name="stem")(x)))
    for name in ("one", "two"):
        y = layers.BatchNormalization()(_conv(4, use_bias=False, name=f"{name}_in")(x))
        y = layers.BatchNormalization()(_conv(6, use_bias=False, name=f"{name}_out")(y))
        x = layers.ReLU()(layers.Add()([x, y]))
    return layers.Dense(3, name="head")(layers.GlobalAveragePooling2D()(x))


def inverted(x):
    """Depthwise between pointwise kernels, padding before a stride, squeeze and excite."""
    x = layers.Activation("relu6")(layers.BatchNormalization()(_conv(6, 1, name="expand")(x)))
    x = layers.ZeroPadding2D(((0, 1), (0, 1)))(x)
    x = layers.DepthwiseConv2D(3, 2, padding="valid", use_bias=False, name="deep")(x)
    x = layers.Activation("swish")(layers.BatchNormalization()(x))
    s = layers.Reshape((1, 1, 6))(layers.GlobalAveragePooling2D()(x))
    s = _conv(6, 1, activation="sigmoid", name="excite")(
        _conv(2, 1, activation="relu", name="squeeze")(s)
    )
    x = _conv(4, 1, name="project")(layers.Multiply()([x, s]))
    return layers.Dense(3, name="head")(layers.GlobalMaxPooling2D()(x))


def dense(x):
    """Each block sees what all blocks before it made."""
    for name in ("one", "two", "three"):
        y = layers.ReLU()(layers.BatchNormalization()(x))
        x = layers.Concatenate()([x, _conv(4, name=name)(y)])
    return layers.Dense(3, name="head")(layers.GlobalAveragePooling2D()(x))


def odd(x):
    """Grouped, separable and transposed convolutions."""
    x = _conv(6, groups=3, name="grouped")(_conv(6, name="a")(x))
    x = layers.SeparableConv2D(5, 3, depth_multiplier=2, name="separable")(x)
    x = layers.UpSampling2D()(layers.Conv2DTranspose(4, 3, name="transposed")(x))
    return layers.Dense(3, name="head")(layers.GlobalAveragePooling2D()(x))


NETWORKS = {f.__name__: f for f in (plain, residual, inverted, dense, odd)}


def network(name, seed=0, side=8):
    """A network with random weights, statistics included, for images `(side, side, 3)`."""
    inputs = keras.Input((side, side, 3))
    model = randomize(keras.Model(inputs, NETWORKS[name](inputs)), seed)
    for variable in model.variables:
        if variable.name == "moving_variance":
            variable.assign(0.5 + keras.ops.abs(variable))
    return model
