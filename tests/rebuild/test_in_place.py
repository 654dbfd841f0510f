"""Models that cannot be copied are cut themselves, whole or not at all."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers

import tfprune
from tests.models import assert_same, kill, noise, outputs, randomize, transformer
from tfprune.callbacks import ImportancePruning
from tfprune.gates import Mask, attach, gates_of
from tfprune.rebuild import in_place as cutting
from tfprune.rebuild import rebuild
from tfprune.rebuild.self_check import SelfCheck
from tfprune.structures import find_structures

pytestmark = pytest.mark.sampled

X = noise(4, 5, 16)


class Block(layers.Layer):
    """As tutorials write it: no `get_config`, no `**kwargs`, layers in a list."""

    def __init__(self, dim, rate):
        super().__init__()
        self.att = layers.MultiHeadAttention(4, dim // 4)
        self.ffn = [layers.Dense(64, "softplus"), layers.Dense(dim)]
        self.drop = layers.Dropout(rate)

    def call(self, x):
        x = x + self.drop(self.att(x, x))
        return x + self.ffn[1](self.ffn[0](x))


class Net(keras.Model):
    def __init__(self):
        super().__init__()
        self.blocks = [Block(16, 0.1) for _ in range(2)]
        self.head = layers.Dense(3)

    def call(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def subclassed():
    model = Net()
    model(X)
    return model


def functional():
    x = keras.Input((None, 16))
    h = Block(16, 0.1)(x)
    h = layers.Dense(24, "softplus", name="up")(h)
    h = layers.Dropout(0.1)(h)
    return keras.Model(x, layers.Dense(3)(layers.Dense(16, name="down")(h)))


def sequential():
    return keras.Sequential(
        [keras.Input((5, 16)), Block(16, 0.1), layers.Dense(24, "tanh"), layers.Dense(3)]
    )


def nested():
    x = keras.Input((5, 16))
    inner = keras.Sequential([keras.Input((5, 16)), layers.Dense(24, "softplus"), Block(24, 0.1)])
    return keras.Model(
        x, layers.Dense(3)(layers.Dense(8, "tanh")(functional()(x))) + 0 * inner(x)[..., :3]
    )


def with_lora():
    x = keras.Input((5, 16))
    attention = layers.MultiHeadAttention(4, 4)
    h = x + attention(x, x)
    model = keras.Model(x, layers.Dense(1)(layers.Dense(32, "softplus")(h)))
    attention._query_dense.enable_lora(2)
    return model


def with_a_table():
    words = keras.Input((5,), dtype="int32")
    table = layers.IntegerLookup(vocabulary=[3, 5, 7])
    h = layers.Embedding(5, 16)(table(words))
    return keras.Model(words, layers.Dense(3)(Block(16, 0.0)(h)))


MAKERS = [subclassed, functional, sequential, nested, with_lora, with_a_table]
each = pytest.mark.parametrize("make", MAKERS)


def pruned(make, share=0.5, producers_only=False, seed=0):
    model = randomize(make(), scale=0.3)
    draw = np.random.default_rng(seed)
    kill(model, lambda s: draw.random(s.groups) < share, producers_only)
    return model


def inputs_of(make):
    return np.array([[3, 5, 7, 9, 1], [0, 3, 3, 5, 7]], "int32") if make is with_a_table else X


@each
@pytest.mark.parametrize("share, producers_only", [(0.5, True), (1.0, False), (1.0, True)])
def test_the_model_itself_is_cut(make, share, producers_only):
    model, x = pruned(make, share, producers_only), inputs_of(make)
    want, parameters = outputs(model, x), model.count_params()
    assert rebuild(model, in_place=True) is model
    assert_same(want, outputs(model, x))
    assert model.count_params() < parameters
    for s in find_structures(model):
        assert np.all(s.norms() > 0) or s.groups == 1
    # As often as one likes.
    before = model.count_params()
    rebuild(model, in_place=True)
    assert model.count_params() == before
    assert_same(want, outputs(model, x))


@pytest.mark.parametrize("make", [subclassed, functional, sequential])
def test_everything_knows_the_new_sizes(make, tmp_path):
    model = pruned(make)
    left = {s.name: int(np.count_nonzero(s.norms())) for s in find_structures(model)}
    model.compile("adam", "mse")
    rebuild(model, in_place=True)
    assert {s.name: s.groups for s in find_structures(model)} == left
    with pytest.raises(ValueError, match="compile"):
        model.fit(X, outputs(model, X)[0], verbose=0)
    model.compile("adam", "mse")
    target = 0.5 * outputs(model, X)[0]
    history = model.fit(X, target, epochs=3, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    again = rebuild(model, keep={name: np.arange(n) < 1 for name, n in left.items()}, in_place=True)
    assert {s.name: s.groups for s in find_structures(again)} == dict.fromkeys(left, 1)
    if keras.backend.backend() == "tensorflow":
        tfprune.export(model, tmp_path / "m.tflite")  # It checks itself.


def test_what_can_be_copied_saves_and_loads_after_a_cut_in_place(tmp_path):
    model = randomize(transformer(units=12))
    kill(model, lambda s: np.arange(s.groups) % 2 == 0)
    x = noise(2, 3, 8)
    want = outputs(model, x)
    rebuild(model, in_place=True)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert_same(want, outputs(loaded, x))
    assert find_structures(loaded)["ffn_in"].groups == 6


def snapshot(model):
    return [np.array(keras.ops.convert_to_numpy(w)) for w in model.weights]


@pytest.mark.parametrize(
    "make",
    [m if m in (subclassed, nested) else pytest.param(m, marks=pytest.mark.slow) for m in MAKERS],
)
@pytest.mark.parametrize("where", ["become", "refresh_graphs", "forget_compiled", "check"])
def test_an_interruption_leaves_the_model_as_it_was(make, where, monkeypatch):
    if make is subclassed and where == "refresh_graphs":
        pytest.skip("it has no graph")
    model, x = pruned(make), inputs_of(make)
    want, before = outputs(model, x), snapshot(model)
    classes = [type(layer) for layer in model._flatten_layers()]
    names = {s.name: s.groups for s in find_structures(model)}
    if where == "check":
        monkeypatch.setattr(SelfCheck, "check", interrupted(0, None))
    else:
        number = 1 if where == "become" else 0
        monkeypatch.setattr(cutting, where, interrupted(number, getattr(cutting, where)))
    with pytest.raises(KeyboardInterrupt):
        rebuild(model, in_place=True)
    monkeypatch.undo()
    assert [type(layer) for layer in model._flatten_layers()] == classes
    for a, b in zip(before, snapshot(model), strict=True):
        np.testing.assert_array_equal(a, b)
    assert {s.name: s.groups for s in find_structures(model)} == names
    assert_same(want, outputs(model, x), 1e-7)
    assert_same(want, outputs(rebuild(model, in_place=True), x))


def interrupted(number, function):
    """A function that is interrupted when it is called for the time of that number."""
    calls = []

    def call(*args, **kwargs):
        calls.append(1)
        if len(calls) > number:
            raise KeyboardInterrupt
        return function(*args, **kwargs)

    return call


def test_gates_are_folded_and_gone():
    model = randomize(subclassed())
    structures = find_structures(model)
    gates = attach(model, [Mask(s) for s in structures])
    draw = np.random.default_rng(0)
    for gate in gates:
        groups = gate.structure.groups
        gate.fix(np.where(np.arange(groups) % 2, draw.uniform(0.3, 1, groups), 0))
    want = outputs(model, X)
    rebuild(model, in_place=True)
    assert not gates_of(model)
    assert_same(want, outputs(model, X))


@pytest.mark.parametrize("make", [subclassed, functional, with_lora])
def test_both_ways_out_are_said_where_no_copy_can_be_made(make):
    with pytest.raises(
        ValueError, match=r"cannot copy the layer.*`rebuild\(model, in_place=True\)`"
    ):
        rebuild(pruned(make))


@pytest.mark.parametrize("make", [subclassed, functional])
def test_a_fit_says_so_when_it_begins_and_goes_on(make):
    model = randomize(make())
    model.compile("adam", "mse")
    target = outputs(model, X)[0]
    pruning = ImportancePruning(
        target=tfprune.Sparsity(0.5), criterion="magnitude", start=0, verbose=0
    )
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        model.fit(X, target, verbose=0, callbacks=[pruning])
    (said,) = [str(w.message) for w in seen if "in_place" in str(w.message)]
    name = "Net" if make is subclassed else "Block"
    assert "\n" not in said and name in said and "get_config" in said
    want = outputs(model, X)
    assert_same(want, outputs(rebuild(model, in_place=True), X))


def test_wrong_calls():
    with pytest.raises(ValueError, match="`in_place` must be one of False, True"):
        rebuild(subclassed(), in_place="yes")
    with pytest.raises(ValueError, match="`check` must be one of"):
        rebuild(subclassed(), check=3)


@pytest.mark.parametrize("producers_only", [False, True])
def test_emptied_layers_in_a_sequential_model_inside(producers_only):
    """A dense layer that is gone was called with `training`, which what takes its place has not."""

    class Mixer(layers.Layer):
        def __init__(self):
            super().__init__()
            self.mlp = keras.Sequential(
                [layers.Dense(12, "softplus"), layers.Dense(16), layers.Dropout(0.1)]
            )

        def call(self, x):
            return x + self.mlp(x)

    x = keras.Input((5, 16))
    model = randomize(keras.Model(x, Mixer()(x)))
    kill(model, lambda s: np.ones(s.groups, bool), producers_only)
    want = outputs(model, X)
    rebuild(model, in_place=True)
    assert_same(want, outputs(model, X))
    assert model.count_params() < 50


def test_a_layer_that_cannot_read_less_is_refused(monkeypatch):
    model = pruned(functional)
    want = outputs(model, X)

    def refuse(*_):
        raise TypeError("unexpected")

    monkeypatch.setattr(cutting, "refresh_graphs", refuse)
    with pytest.raises(ValueError, match="cannot read what the smaller ones return .unexpected"):
        rebuild(model, in_place=True)
    assert_same(want, outputs(model, X), 0)


@pytest.mark.parametrize("where", ["itself", "memory"])
def test_attention_that_is_gone_takes_masks_off_all_the_same(where):
    ids, x = keras.Input((5,), dtype="int32"), keras.Input((5, 4))
    memory = layers.Embedding(9, 4, mask_zero=True)(ids)
    query = memory if where == "itself" else x
    x_out = query + layers.MultiHeadAttention(1, 4, name="first", use_bias=False)(query, memory)
    y = layers.MultiHeadAttention(2, 4, name="second")(x_out, memory)
    pooled = layers.GlobalAveragePooling1D()(layers.Add()([x_out, y]))
    model = randomize(keras.Model([ids, x], pooled))
    kill(model, {"first": np.ones(1, bool)})
    given = [np.array([[1, 2, 0, 0, 0], [3, 4, 5, 0, 0]]), noise(2, 5, 4)]
    expected = outputs(model, given)
    assert_same(expected, outputs(rebuild(model), given))
    assert_same(expected, outputs(rebuild(model, in_place=True), given))
