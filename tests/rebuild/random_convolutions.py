"""Random small convolutional networks, drawn by Hypothesis."""

from __future__ import annotations

import keras
import numpy as np
from hypothesis import strategies as st
from keras import layers, ops

from tests import own_layers
from tests.models import randomize
from tests.rebuild.random_models import Case

ACTIVATIONS = st.sampled_from([None, "relu", "swish", "sigmoid", "relu6", "softplus"])
PADDINGS = st.sampled_from(["same", "valid"])
SMALLEST = 3  # What a window of three needs.


def random_convolutions(draw) -> Case:
    """A network, with what it is given.

    Args:
        draw: Given by Hypothesis.
    """
    inputs = x = keras.Input((8, 8, 2))
    for _ in range(draw(st.integers(1, 4))):
        x = draw(st.sampled_from(PARTS))(draw, x)
    end = draw(st.sampled_from(["flatten", "pool", "pool", "rows"]))
    if end == "flatten":
        x = layers.Flatten()(x)
    elif end == "rows":
        x = over_rows(draw, x)
    else:
        x = draw(st.sampled_from([layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D]))()(x)
    model = randomize(keras.Model(inputs, layers.Dense(2)(x)), draw(st.integers(0, 100)))
    for variable in model.variables:
        if variable.name == "moving_variance":
            variable.assign(0.5 + keras.ops.abs(variable))
    images = np.random.default_rng(0).normal(size=(3, 8, 8, 2)).astype("float32")
    return Case(model, images)


def _is_small(x):
    return x.shape[1] < SMALLEST


def _normalized(draw, x):
    width = x.shape[-1]
    if width > 1 and draw(st.integers(0, 4)) == 0:
        groups = draw(st.sampled_from([n for n in range(1, width + 1) if width % n == 0]))
        return layers.GroupNormalization(groups, scale=draw(st.booleans()))(x)
    if draw(st.booleans()):
        x = layers.BatchNormalization(scale=draw(st.booleans()), center=draw(st.booleans()))(x)
    return x


def convolution(draw, x, filters=None, keep_size=False):
    """A convolution, grouped at times, and what stands behind it."""
    filters = filters or draw(st.sampled_from([2, 4, 6]))
    small = keep_size or _is_small(x)
    groups = 2 if x.shape[-1] % 2 == 0 and filters % 2 == 0 and draw(st.integers(0, 3)) == 0 else 1
    layer = layers.Conv2D(
        filters,
        draw(st.sampled_from([1, 3])),
        strides=1 if small else draw(st.sampled_from([1, 1, 2])),
        padding="same" if small else draw(PADDINGS),
        groups=groups,
        use_bias=draw(st.booleans()),
        activation=draw(ACTIVATIONS),
    )
    return layers.Activation(draw(st.sampled_from(["relu", "tanh"])))(_normalized(draw, layer(x)))


def depthwise(draw, x):
    """A kernel for each channel, or two."""
    layer = layers.DepthwiseConv2D(
        3,
        padding="same" if _is_small(x) else draw(PADDINGS),
        depth_multiplier=draw(st.sampled_from([1, 2])),
        use_bias=draw(st.booleans()),
        activation=draw(ACTIVATIONS),
    )
    return _normalized(draw, layer(x))


def separable(draw, x):
    """A depthwise and a pointwise kernel in one layer."""
    multiplier = draw(st.sampled_from([1, 2]))
    return layers.SeparableConv2D(4, 3, padding="same", depth_multiplier=multiplier)(x)


def transposed(draw, x):
    """A convolution the other way round."""
    return layers.Conv2DTranspose(4, 3, padding="same", use_bias=draw(st.booleans()))(x)


def pooling(draw, x):
    """Fewer positions."""
    layer = draw(st.sampled_from([layers.MaxPooling2D, layers.AveragePooling2D]))
    return layer(3, strides=2, padding="same")(x)


def padding(draw, x):
    """Zeros around, or positions twice."""
    layer = draw(st.sampled_from([layers.ZeroPadding2D, layers.UpSampling2D]))
    return layer()(x) if x.shape[1] < 6 else x


def slopes(draw, x):
    """A slope for each channel."""
    return layers.PReLU(shared_axes=draw(st.sampled_from([[1, 2], None])))(x)


def own(draw, x):
    """A layer as users write them."""
    filters = draw(st.sampled_from([2, 4, 6]))
    layer = draw(
        st.sampled_from(
            [
                own_layers.HardSwish(),
                own_layers.Scale(),
                own_layers.SizedScale(x.shape[-1]),
                own_layers.ResponseNormalization(),
                own_layers.Centred(),
                own_layers.Convolution(filters, draw(st.sampled_from([None, "sigmoid"]))),
                own_layers.GatedConvolution(filters),
            ]
        )
    )
    return layer(x)


def residual(draw, x):
    """A branch that is joined to what it reads."""
    y = convolution(draw, x, keep_size=True) if draw(st.booleans()) else x
    y = convolution(draw, y, filters=x.shape[-1], keep_size=True)
    joins = [layers.Add, layers.Multiply, layers.Maximum, layers.Average]
    return draw(st.sampled_from(joins))()([x, y])


def concatenated(draw, x):
    """Branches side by side."""
    branches = [convolution(draw, x, keep_size=True) for _ in range(draw(st.integers(1, 2)))]
    return _normalized(draw, layers.Concatenate()([x, *branches]))


def called_twice(draw, x):
    """A layer on what it made, or on what two others made."""
    width = x.shape[-1]
    layer = draw(
        st.sampled_from(
            [
                layers.Conv2D(width, 3, padding="same", activation="tanh"),
                layers.SeparableConv2D(width, 1),
                layers.DepthwiseConv2D(3, padding="same"),
                layers.BatchNormalization(),
                layers.GroupNormalization(width),
                layers.PReLU(shared_axes=[1, 2]),
                own_layers.Scale(),
                own_layers.Convolution(width, "sigmoid"),
            ]
        )
    )
    other = convolution(draw, x, filters=width, keep_size=True) if draw(st.booleans()) else x
    if draw(st.booleans()):
        return layer(layers.Activation("relu")(layer(other)))
    join = draw(st.sampled_from([layers.Add, layers.Concatenate]))
    return join()([layer(x), layer(other)])


def squeeze_and_excite(draw, x):
    """A factor for each channel, computed from all of them."""
    width = x.shape[-1]
    s = layers.GlobalAveragePooling2D()(x)
    if draw(st.booleans()):
        s = layers.Dense(width, "sigmoid")(layers.Dense(2, "relu")(s))
        s = layers.Reshape((1, 1, width))(s)
    else:
        s = layers.Conv2D(2, 1, activation="relu")(layers.Reshape((1, 1, width))(s))
        s = layers.Conv2D(width, 1, activation="sigmoid")(s)
    return layers.Multiply()([x, s])


def written(draw, x):
    """Calls with sizes and places written in them."""
    _, height, width, channels = x.shape
    way = draw(st.sampled_from(["gate", "shuffle", "reshape", "swap"]))
    if way == "gate" and channels % 2 == 0:
        return x[..., : channels // 2] * ops.sigmoid(x[..., channels // 2 :])
    if way == "shuffle" and channels % 2 == 0:
        x = ops.reshape(x, (-1, height, width, 2, channels // 2))
        x = ops.transpose(x, (0, 1, 2, 4, 3))
    if way == "swap" and channels > 1:
        place = draw(st.integers(1, channels - 1))
        return ops.concatenate(ops.split(x, [place], axis=-1)[::-1], axis=-1)
    return ops.reshape(x, (-1, height, width, channels))


def over_rows(draw, x):
    """Recurrent layers, which read the rows of a picture as steps."""
    x = ops.max(x, axis=2)
    for _ in range(draw(st.integers(1, 3))):
        units = draw(st.sampled_from([2, 4, 6]))
        options = {"return_sequences": True, "use_bias": draw(st.booleans())}
        layer = draw(st.sampled_from([layers.LSTM, layers.GRU, layers.SimpleRNN]))(units, **options)
        way = draw(st.sampled_from(["alone", "alone", "residual", "concat", "sum", "mul"]))
        if way in ("concat", "sum", "mul"):
            layer = layers.Bidirectional(layer, merge_mode=way)
        y = layer(x)
        if way == "residual":
            y = layers.Add()([y, layers.Dense(units, draw(ACTIVATIONS))(x)])
        x = layers.Dense(4, "relu")(y) if draw(st.booleans()) else y
    return layers.GlobalAveragePooling1D()(x)


PARTS = [
    convolution,
    convolution,
    depthwise,
    separable,
    transposed,
    pooling,
    padding,
    slopes,
    own,
    residual,
    concatenated,
    called_twice,
    squeeze_and_excite,
    written,
]
