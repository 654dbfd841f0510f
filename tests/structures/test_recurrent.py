"""Units of recurrent layers: cut exactly, with their states and in both directions."""

import keras
import numpy as np
import pytest
from keras import layers

import tfprune
from tests.models import assert_same, noise, outputs, randomize
from tests.rebuild.checking import traced
from tfprune.callbacks import GroupLasso, HardConcreteGates, ImportancePruning
from tfprune.gates import HardConcrete, Mask, attach

pytestmark = pytest.mark.sampled("jax")

STEPS, WIDTH = 5, 4
SERIES = noise(3, STEPS, WIDTH)
WORDS = np.array([[3, 1, 4, 1, 5], [9, 2, 0, 0, 0], [6, 5, 3, 0, 0]])


def stacked(x):
    y = layers.LSTM(6, return_sequences=True, name="first")(x)
    y = layers.Dropout(0.1)(y)
    return layers.GRU(4, name="second")(y)


def plain(x):
    y = layers.SimpleRNN(6, use_bias=False, name="first", return_sequences=True)(x)
    return layers.GlobalAveragePooling1D()(layers.Activation("relu")(y))


def both_directions(x):
    y = layers.Bidirectional(layers.LSTM(6, return_sequences=True), name="first")(x)
    y = layers.Bidirectional(layers.GRU(4, reset_after=False), merge_mode="sum", name="second")(y)
    return y


def own_backward_layer(x):
    backward = layers.LSTM(4, go_backwards=True, use_bias=False)
    return layers.Bidirectional(layers.LSTM(4), backward_layer=backward, name="first")(x)


def behind_dense_layers(x):
    y = layers.Dense(6, "relu", name="dense")(x)
    return layers.Flatten()(layers.LSTM(4, return_sequences=True, name="first")(y))


def among_convolutions(x):
    y = layers.Conv1D(6, 3, padding="causal", name="conv")(x)
    y = layers.LSTM(4, return_sequences=True, name="first")(y)
    return layers.GlobalMaxPooling1D()(layers.Conv1D(3, 2, name="behind")(y))


def with_states(x):
    """As an encoder and its decoder, which begins with the states of the encoder."""
    _, *states = layers.LSTM(6, return_state=True, name="first")(x)
    return layers.LSTM(6, name="decoder")(x, initial_state=states)


NETWORKS = {
    stacked: {"first": 6, "second": 4},
    plain: {"first": 6},
    both_directions: {"first": 6, "second": 4},
    own_backward_layer: {"first": 4},
    behind_dense_layers: {"dense": 6, "first": 4},
    among_convolutions: {"conv": 6, "first": 4, "behind": 3},
    with_states: {"first": 6},
}


class Louder(layers.LSTM):
    """Somebody's own."""

    def call(self, sequences, initial_state=None, mask=None, training=False):
        return 2 * super().call(sequences, initial_state, mask, training)


def network(make, name="network"):
    x = keras.Input((STEPS, WIDTH))
    return randomize(keras.Model(x, layers.Dense(2, name="head")(make(x)), name=name))


class InACall(keras.Model):
    """The same network, hidden in the `call` of a class."""

    def __init__(self, make):
        super().__init__()
        self.inside = network(make, "inside")
        self.layer = layers.LSTM(6, return_sequences=True, name="own")
        self.other = layers.Bidirectional(layers.SimpleRNN(4), name="other")
        self.head = layers.Dense(2)

    def call(self, x):
        return self.inside(x) + self.head(self.other(self.layer(x)))


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("make", NETWORKS)
def test_cut_exactly(make, in_place, tmp_path):
    model, groups = network(make), NETWORKS[make]
    structures = tfprune.find_structures(model)
    assert {s.name: s.groups for s in structures} == groups
    for structure in structures:
        structure.scale((np.arange(structure.groups) % 2).astype("float32"))
    expected = outputs(model, SERIES)
    small = tfprune.rebuild(model, in_place=in_place)
    assert_same(expected, outputs(small, SERIES))
    assert "tfprune" not in small.to_json()  # It loads with plain Keras.
    small.save(tmp_path / "small.keras")
    assert_same(expected, outputs(keras.saving.load_model(tmp_path / "small.keras"), SERIES))
    left = {s.name: s.groups for s in tfprune.find_structures(small)}
    assert left == {name: count // 2 for name, count in groups.items()}


def test_in_the_call_of_a_class():
    model = InACall(stacked)
    model(SERIES)
    randomize(model)
    structures = tfprune.find_structures(model)
    assert {s.name: s.groups for s in structures} == {
        "inside/first": 6, "inside/second": 4, "own": 6, "other": 4,
    }  # fmt: skip
    for structure in structures:
        structure.scale((np.arange(structure.groups) % 2).astype("float32"))
    expected = outputs(model, SERIES)
    small = tfprune.rebuild(model, in_place=True)
    assert_same(expected, outputs(small, SERIES))
    assert [s.groups for s in tfprune.find_structures(small)] == [3, 2, 3, 2]


def test_units_are_left_whole_where_nothing_is_zero():
    model = network(stacked)
    assert tfprune.rebuild(model, keep={}).count_params() == model.count_params()


def test_a_unit_with_a_bias_that_is_not_zero_is_no_constant():
    """Its state grows from step to step."""
    model = network(stacked)
    cell = model.get_layer("first").cell
    for variable in (cell.kernel, cell.recurrent_kernel):
        variable.assign(np.zeros(variable.shape))
    assert keras.ops.convert_to_numpy(cell.bias).all()
    expected = outputs(model, SERIES)
    small = tfprune.rebuild(model, in_place=True)
    assert small.get_layer("first").units == 6
    assert_same(expected, outputs(small, SERIES))


def test_a_unit_that_nothing_reads_goes():
    model = network(stacked)
    first, second = (model.get_layer(name).cell for name in ("first", "second"))
    for kernel in (first.recurrent_kernel, second.kernel):
        value = keras.ops.convert_to_numpy(kernel).copy()
        value[[1, 4]] = 0
        kernel.assign(value)
    expected = outputs(model, SERIES)
    small = tfprune.rebuild(model)
    assert small.get_layer("first").units == 4
    assert_same(expected, outputs(small, SERIES))


def test_padding_is_passed_over():
    x = keras.Input((STEPS,), dtype="int32")
    y = layers.Embedding(10, WIDTH, mask_zero=True)(x)
    y = layers.LSTM(6, return_sequences=True, name="first")(y)
    y = layers.Bidirectional(layers.GRU(4), name="second")(layers.Dropout(0.1)(y))
    model = randomize(keras.Model(x, layers.Dense(2)(y)))
    structures = tfprune.find_structures(model)
    assert {s.name: s.groups for s in structures} == {"first": 6, "second": 4}
    for structure in structures:
        structure.scale((np.arange(structure.groups) % 2).astype("float32"))
    expected = outputs(model, WORDS)
    small = tfprune.rebuild(model)
    assert small.get_layer("second").forward_layer.units == 2
    assert_same(expected, outputs(small, WORDS))
    other = WORDS.copy()
    other[:, 0] = 7
    assert not np.allclose(outputs(small, other)[0], expected[0])


@pytest.mark.parametrize(
    "layer, reason",
    [
        (Louder(4, name="layer"), "overrides `call`"),
        (layers.LSTM(4, stateful=True, name="layer"), "it is stateful"),
        (layers.RNN(layers.LSTMCell(4), name="layer"), "registered for RNN"),
        (
            layers.Bidirectional(layers.RNN(layers.GRUCell(4)), name="layer"),
            "it is not made of layers of Keras",
        ),
        (
            layers.Bidirectional(
                layers.LSTM(4), backward_layer=layers.LSTM(3, go_backwards=True), name="layer"
            ),
            "different numbers of units",
        ),
    ],
)
def test_others_are_left_with_the_reason(layer, reason):
    x = keras.Input(batch_shape=(3, STEPS, WIDTH))
    model = keras.Model(x, layers.Dense(2)(layer(x)))
    structures = tfprune.find_structures(model)
    assert not len(structures)
    (found,) = (s.reason for s in structures.skipped if s.name == "layer")
    assert reason in found


def test_a_weight_that_reads_and_makes_is_counted_once():
    (structure,) = tfprune.find_structures(network(plain))
    # A column of one kernel, of the other one a row and a column that meet, and what is read.
    assert structure.group_size == WIDTH + (6 + 6 - 1) + 2
    assert structure.weights == WIDTH * 6 + 6 * 6 + 6 * 2


@pytest.mark.parametrize("kind", [Mask, HardConcrete])
@pytest.mark.parametrize("over", ["producers", "consumers", "all"])
def test_gates_are_folded(kind, over):
    model = network(both_directions)
    structures = tfprune.find_structures(model)
    for gate in attach(model, [kind(s, over=over) for s in structures]):
        alive = np.arange(gate.structure.groups) % 2
        if kind is Mask:
            gate.fix((0.5 * alive).astype("float32"))
        else:
            gate.scores.assign(np.where(alive, 0.5, -9.0))
    expected = traced(model, SERIES)
    small = tfprune.rebuild(model)
    assert [s.groups for s in tfprune.find_structures(small)] == [3, 2]
    assert_same(expected, traced(small, SERIES))


@pytest.mark.parametrize(
    "callback",
    [
        lambda data: GroupLasso("recurrent", 0.1, target=tfprune.Sparsity(0.5), verbose=0),
        lambda data: ImportancePruning(None, tfprune.Flops(0.6), data, verbose=0),
        lambda data: HardConcreteGates("recurrent", target=tfprune.Parameters(0.6), verbose=0),
    ],
)
def test_callbacks_prune_them(callback):
    keras.utils.set_random_seed(0)
    x, y = noise(64, STEPS, WIDTH), noise(64, 2)
    model = network(stacked)
    model.compile("adam", "mse")
    model.fit(x, y, epochs=3, batch_size=8, verbose=0, callbacks=[callback((x, y))])
    expected = outputs(model, SERIES)
    small = tfprune.rebuild(model)
    left = [s.groups for s in tfprune.find_structures(small)]
    assert sum(left) < 10
    assert_same(expected, outputs(small, SERIES))


def test_without_training():
    model = network(both_directions)
    model.compile("adam", "mse")
    small = tfprune.prune(model, tfprune.Sparsity(0.5), (SERIES, noise(3, 2)), verbose=0)
    assert small.count_params() < 0.6 * model.count_params()


def test_what_is_left_of_flops():
    """What a target says beforehand is what is counted afterwards."""
    model = network(stacked)
    structures = tfprune.find_structures(model)
    cost = tfprune.Flops(0.5).cost(model, structures)
    small = tfprune.rebuild(model, keep={s.name: np.arange(s.groups) < 2 for s in structures})
    counted = tfprune.count_flops(small) / tfprune.count_flops(model)
    # Gates and states, which are no kernels, count little even at this size.
    assert cost({"first": 2, "second": 2}) == pytest.approx(counted, abs=0.03)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("units", [2, 4])
def test_it_reads_what_several_layers_make(units, in_place):
    x = keras.Input((STEPS, WIDTH))
    y = layers.Concatenate()(
        [layers.Conv1D(4, 1, name="a")(x), layers.LSTM(6, return_sequences=True, name="b")(x), x]
    )
    model = randomize(
        keras.Model(x, layers.Dense(2)(layers.Bidirectional(layers.GRU(4), name="c")(y)))
    )
    structures = tfprune.find_structures(model)
    assert {s.name: s.groups for s in structures} == {"a": 4, "b": 6, "c": 4}
    for structure in structures:
        if structure.name != "c" or units < 4:
            structure.scale((np.arange(structure.groups) % 2).astype("float32"))
    expected = outputs(model, SERIES)
    small = tfprune.rebuild(model, in_place=in_place)
    assert small.get_layer("c").forward_layer.cell.kernel.shape == (2 + 3 + WIDTH, 3 * units)
    assert_same(expected, outputs(small, SERIES))
