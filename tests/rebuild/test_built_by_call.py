"""Layers without a `build` that need more than numbers to make what is inside them.

A file says the shapes of what a layer was called on, and no more.
"""

import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops

from tests.models import assert_same, kill, noise, outputs, randomize
from tfprune.rebuild import rebuild
from tfprune.structures import find_structures

pytestmark = [
    pytest.mark.sampled,
    # Keras says of layers that cannot be called without masks that it has not built them.
    pytest.mark.filterwarnings("ignore:Layer .* looks like it has unbuilt state"),
]

registered = keras.saving.register_keras_serializable("test_built_by_call")

X, WEIGHTS = noise(2, 5, 8), np.ones((2, 5), "float32")
IDS = np.array([[3, 5, 7, 9, 1], [3, 3, 5, 7, 0]], "int32")


class Base(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.attention = layers.MultiHeadAttention(4, 2)
        self.up, self.down = layers.Dense(16, "softplus"), layers.Dense(8)
        self.supports_masking = True

    def block(self, x):
        return self.down(self.up(x + self.attention(x, x)))


@registered
class NeedsMask(Base):
    def call(self, x, mask=None):
        return self.block(x) * ops.cast(mask, x.dtype)[..., None]


@registered
class NeedsMaskInList(Base):
    def call(self, inputs, mask=None):
        x, weights = inputs
        return self.block(x) * ops.cast(mask[0], x.dtype)[..., None] * weights[..., None]


@registered
class MayTakeMask(Base):
    def call(self, inputs, mask=None):
        x, weights = inputs
        kept = 1.0 if mask is None or mask[0] is None else ops.cast(mask[0], x.dtype)[..., None]
        return self.block(x) * kept * weights[..., None]


@registered
class TakesDict(Base):
    def call(self, inputs):
        return self.block(inputs["x"]) * inputs["weights"][..., None]


@registered
class TakesTwo(Base):
    def call(self, x, weights=None):
        return self.block(x) * weights[..., None]


@registered
class Plain(Base):
    def call(self, x):
        return self.block(x)


class Around(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = Plain()


@registered
class OfTensorFlow(Around):
    def call(self, x):
        import tensorflow as tf

        return tf.nn.softplus(self.inner(tf.nn.relu(x)))


@registered
class IdsOfTensorFlow(Around):
    def call(self, ids):
        import tensorflow as tf

        return self.inner(tf.one_hot(ids, 8))


@registered
class Net(keras.Model):
    """The mask is needed inside, and set by a layer inside."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.embedding, self.inner = layers.Embedding(10, 8, mask_zero=True), NeedsMask()

    def call(self, ids):
        return self.inner(self.embedding(ids))


def of_one(layer, masked=True):
    x = keras.Input((None, 8))
    return keras.Model(x, layer(layers.Masking()(x) if masked else x)), X


def of_two(layer, arrange):
    x, weights = keras.Input((None, 8)), keras.Input((None,))
    args, kwargs = arrange(layers.Masking()(x), weights)
    return keras.Model([x, weights], layer(*args, **kwargs)), [X, WEIGHTS]


def of_ids(layer):
    ids = keras.Input((5,), dtype="int32")
    return keras.Model(ids, layer(ids)), IDS


def net():
    model = Net()
    model(IDS)
    return model, IDS


tensorflow = pytest.mark.tensorflow_only
CASES = {
    "mask": lambda: of_one(NeedsMask()),
    "mask in a list": lambda: of_two(NeedsMaskInList(), lambda x, w: (([x, w],), {})),
    "mask or none": lambda: of_two(MayTakeMask(), lambda x, w: (([x, w],), {})),
    "dictionary": lambda: of_two(TakesDict(), lambda x, w: (({"x": x, "weights": w},), {})),
    "two arguments": lambda: of_two(TakesTwo(), lambda x, w: ((x,), {"weights": w})),
    "inside": net,
    "operations of TensorFlow": lambda: of_one(OfTensorFlow(), masked=False),
    "ids of TensorFlow": lambda: of_ids(IdsOfTensorFlow()),
}
each = pytest.mark.parametrize(
    "case", [pytest.param(x, marks=tensorflow if "TensorFlow" in x else ()) for x in CASES]
)


@each
@pytest.mark.parametrize("share", [0.5, 1.0])
@pytest.mark.parametrize("in_place", [False, True])
def test_they_are_copied_saved_and_loaded(case, in_place, share, tmp_path):
    model, x = CASES[case]()
    randomize(model)
    assert find_structures(model)
    parameters = model.count_params()
    kill(model, lambda s: np.arange(s.groups) < share * s.groups)
    want = outputs(model, x)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*`build..` was called on layer")
        small = rebuild(model, in_place=in_place)
        assert small.count_params() < parameters
        small.save(tmp_path / "small.keras")
        loaded = keras.saving.load_model(tmp_path / "small.keras")
    assert_same(want, outputs(small, x))
    assert_same(want, outputs(loaded, x))
