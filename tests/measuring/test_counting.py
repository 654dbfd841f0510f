import keras
import numpy as np
import pytest
from keras import layers, ops

import tfprune

pytestmark = pytest.mark.sampled


def test_flops_by_hand():
    x = keras.Input((10, 16))
    y = layers.MultiHeadAttention(4, 3)(x, x)
    model = keras.Model(x, layers.Dense(5)(y))
    projections = 4 * 2 * 20 * 16 * 12  # query, key, value, output; 20 positions
    scores = 2 * (2 * 2 * 4 * 10 * 10 * 3)  # scores and their product with the values
    assert tfprune.count_flops(model, batch_size=2) == projections + scores + 2 * 20 * 16 * 5


def test_flops_of_a_convolution():
    x = keras.Input((8, 8, 3))
    model = keras.Model(x, layers.Conv2D(4, 3, padding="same")(x))
    assert tfprune.count_flops(model) == 2 * 8 * 8 * 4 * 3 * 3 * 3


def test_parameters_leave_out_random_states():
    x = keras.Input((4,))
    assert tfprune.count_parameters(keras.Model(x, layers.Dropout(0.5)(layers.Dense(3)(x)))) == 15


def flops(shape, layer, **options):
    x = keras.Input(shape)
    return tfprune.count_flops(keras.Model(x, layer(x)), **options)


# In each step the input and the state go through a kernel with a column for each unit and gate.
def test_what_a_callback_keeps_on_the_model_is_no_parameter():
    """A lottery's checkpoint would double them."""
    x = keras.Input((4, 8))
    model = keras.Model(x, layers.MultiHeadAttention(4, 2)(x, x))
    model.compile("adam", "mse")
    counts = []

    class Count(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            counts.append(tfprune.count_parameters(self.model))

    lottery = tfprune.callbacks.HeadLottery(
        tfprune.Parameters(0.5), 1, criterion="magnitude", check_every=1, verbose=0
    )
    data = np.random.default_rng(0).normal(size=(16, 4, 8))
    before = tfprune.count_parameters(model)
    model.fit(data, data, batch_size=8, epochs=6, verbose=0, callbacks=[Count(), lottery])
    assert set(counts) == {before}
    assert tfprune.count_parameters(tfprune.rebuild(model)) == pytest.approx(0.5 * before, rel=0.1)


@pytest.mark.parametrize("layer, gates", [(layers.LSTM, 4), (layers.GRU, 3), (layers.SimpleRNN, 1)])
def test_a_step_of_a_recurrent_layer_counts_as_often_as_it_runs(layer, gates):
    step = 2 * (4 + 8) * gates * 8
    for length in (1, 7, 128):
        for unroll in {False, length == 7}:
            assert flops((length, 4), layer(8, unroll=unroll), batch_size=3) == 3 * length * step
    assert flops((None, 4), layer(8), sequence_length=11) == 11 * step
    both = layers.Bidirectional(layer(8, return_sequences=True))
    assert flops((5, 4), both) == 2 * 5 * step
    assert flops((5, 6, 4), layers.TimeDistributed(layer(8))) == 5 * 6 * step


def test_flops_of_transposed_convolutions():
    # Each input position adds a window of outputs.
    assert flops((8, 4), layers.Conv1DTranspose(6, 3)) == 2 * 8 * 3 * 4 * 6
    for padding in ("valid", "same"):
        for strides in (1, 2):
            layer = layers.Conv2DTranspose(6, 3, strides=strides, padding=padding)
            assert flops((8, 7, 4), layer, batch_size=2) == 2 * 2 * 56 * 9 * 4 * 6
    layer = layers.Conv3DTranspose(6, 2, strides=2)
    assert flops((3, 4, 5, 2), layer) == 2 * 60 * 8 * 2 * 6


def test_flops_of_separable_and_grouped_convolutions():
    depth, point = 2 * 36 * 9 * 4 * 2, 2 * 36 * (4 * 2) * 6
    assert flops((8, 8, 4), layers.DepthwiseConv2D(3, depth_multiplier=2)) == depth
    assert flops((8, 8, 4), layers.SeparableConv2D(6, 3, depth_multiplier=2)) == depth + point
    assert flops((8, 4), layers.SeparableConv1D(6, 3)) == 2 * 6 * 3 * 4 + 2 * 6 * 4 * 6
    assert flops((8, 8, 4), layers.Conv2D(6, 3, groups=2)) == 2 * 36 * 9 * (4 // 2) * 6
    assert flops((9, 4), layers.Conv1D(6, 3, strides=2)) == 2 * 4 * 3 * 4 * 6
    assert flops((9, 4), layers.Conv1D(6, 3, padding="causal")) == 2 * 9 * 3 * 4 * 6


class Turning(keras.layers.Layer):
    """Multiplies by a kernel as often as a function of the input says."""

    def __init__(self, number):
        super().__init__()
        self.number = number
        self.kernel = self.add_weight(shape=(4, 4))

    def call(self, x):
        kernel = ops.convert_to_tensor(self.kernel)
        limit = self.number(x)
        return ops.while_loop(
            lambda i, y: i < limit,
            lambda i, y: (i + 1, ops.matmul(y, kernel)),
            (ops.convert_to_tensor(0), x),
        )[1]

    def compute_output_shape(self, shape):
        return shape


def test_loops_of_a_known_and_of_an_unknown_number_of_turns():
    assert flops((4,), Turning(lambda x: 5)) == 5 * 2 * 16
    with pytest.raises(ValueError, match="has a loop of which it cannot be told how often"):
        flops((4,), Turning(lambda x: ops.cast(ops.sum(x), "int32")))


class Chosen(Turning):
    def call(self, x):
        kernel = ops.convert_to_tensor(self.kernel)
        much = lambda: ops.matmul(ops.matmul(x, kernel), kernel)  # noqa: E731
        return ops.cond(ops.sum(x) > 0, much, lambda: ops.matmul(x, kernel))


def test_of_branches_the_largest_counts():
    assert flops((4,), Chosen(None)) == 2 * 2 * 16


def test_models_that_read_strings():
    text = keras.Input((), dtype="string", name="text")
    try:
        model = keras.Model(text, layers.StringLookup(vocabulary=["a", "b"])(text))
    except Exception:
        pytest.skip("Strings need TensorFlow.")
    with pytest.raises(ValueError, match="`model` must read numbers.*the input 'text'.*behind"):
        tfprune.count_flops(model)


@pytest.mark.parametrize("name", ["batch_size", "sequence_length"])
@pytest.mark.parametrize("value", [0, -1, True, 1.5, "x", None])
def test_numbers_out_of_range(name, value):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    with pytest.raises(ValueError, match=f"`{name}` must be a positive integer"):
        tfprune.count_flops(model, **{name: value})
    assert tfprune.count_flops(model, **{name: np.int64(2)}) > 0


@pytest.mark.parametrize("count", [tfprune.count_flops, tfprune.count_parameters])
@pytest.mark.parametrize("model", [None, 3, keras.Sequential([layers.Dense(2)])])
def test_what_is_no_built_model(count, model):
    with pytest.raises(ValueError, match="`model` must be"):
        count(model)
