"""Units that one layer made of layers makes and another one reads."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from tests.models import assert_same, kill, noise, outputs, randomize
from tfprune.gates import MovementScores, attach, detach
from tfprune.rebuild import rebuild
from tfprune.structures import find_structures

pytestmark = pytest.mark.sampled

X = noise(3, 5, 4)


class Up(layers.Layer):
    """Makes units, as the first half of a feed-forward network."""

    def __init__(self, units=6, activation="relu", **kwargs):
        super().__init__(**kwargs)
        self.units, self.activation = units, activation
        self.dense = layers.Dense(units, activation, name="dense")

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        return self.dense(x)

    def get_config(self):
        return {**super().get_config(), "units": self.units, "activation": self.activation}


class SaysItsWidth(Up):
    def compute_output_shape(self, shape):
        return (*shape[:-1], self.units)


class Down(layers.Layer):
    """Reads units and adds a residual, as the second half."""

    def __init__(self, width=4, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.dense = layers.Dense(width, name="dense")
        self.dropout = layers.Dropout(0.1)

    def build(self, units_shape, residual_shape):
        self.dense.build(units_shape)

    def call(self, units, residual):
        return self.dropout(self.dense(units)) + residual

    def compute_output_shape(self, units_shape, residual_shape):
        return residual_shape

    def get_config(self):
        return {**super().get_config(), "width": self.width}


class ChecksItsInput(Down):
    def build(self, units_shape, residual_shape):
        super().build(units_shape, residual_shape)
        self.input_spec = layers.InputSpec(axes={-1: units_shape[-1]})


class Block(layers.Layer):
    """Both halves, each a layer made of layers."""

    def __init__(self, up="Up", **kwargs):
        super().__init__(**kwargs)
        self.name_of_up = up
        self.up, self.down = CUSTOM[up](name="up"), Down(name="down")

    def build(self, shape):
        self.up.build(shape)
        self.down.build((*shape[:-1], 6), shape)

    def call(self, x):
        return self.down(self.up(x), x)

    def get_config(self):
        return {**super().get_config(), "up": self.name_of_up}


class Net(keras.Model):
    """A subclassed model whose layers are made of layers."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.block = Block(name="block")
        self.up, self.gate = Up(name="up"), Up(activation="sigmoid", name="gate")
        self.out = layers.Dense(2, name="out")

    def call(self, x):
        x = self.block(x)
        return self.out(self.up(x) * self.gate(x))


class Halves(keras.Model):
    """A model of inputs and outputs with an `__init__` of its own."""

    def __init__(self, width=4, **kwargs):
        a, b = keras.Input((None, 6)), keras.Input((None, 4))
        super().__init__([a, b], Down(name="down")(layers.ReLU()(a), b), **kwargs)
        self.width = width

    def get_config(self):
        return {"name": self.name, "width": self.width}


class Holds(layers.Layer):
    """Gives units to a model that it holds."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.up, self.halves = layers.Dense(6, name="up"), Halves(name="halves")

    def build(self, shape):
        self.up.build(shape)

    def call(self, x):
        return self.halves([self.up(x), x])


CUSTOM = {
    cls.__name__: cls for cls in (Up, Down, SaysItsWidth, ChecksItsInput, Block, Net, Halves, Holds)
}


def model_of(function, names=None):
    x = keras.Input((None, 4))
    return randomize(keras.Model(x, layers.Dense(2, name="out")(function(x))))


def net():
    model = Net()
    model(X)
    return randomize(model)


def between(x):
    """Two layers in a Functional model."""
    return Down(name="down")(layers.Activation("gelu")(Up(activation=None, name="up")(x)), x)


def plain_and_made_of_layers(x):
    y = layers.Dense(6, "relu", name="plain")(x) * Up(name="up")(x)
    return Down(name="down")(y, x)


def from_a_sequential(x):
    up = keras.Sequential([keras.Input((None, 4)), layers.Dense(6, "relu", name="dense")], name="s")
    return layers.Dense(4, name="down")(up(x))


def into_a_sequential(x):
    parts = [layers.Dropout(0.1), layers.Dense(4, name="dense"), layers.ReLU()]
    down = keras.Sequential([keras.Input((None, 6)), *parts], name="s")
    return down(layers.Dense(6, "relu", name="plain")(x))


def into_models_in_models(x):
    a, b = keras.Input((None, 6)), keras.Input((None, 4))
    inner = keras.Model([a, b], Down(name="down")(a, layers.ReLU()(b)), name="inner")
    c = keras.Input((None, 6))
    d = keras.Input((None, 4))
    outer = keras.Model({"c": c, "d": d}, inner([layers.ReLU()(c), d]), name="outer")
    return outer({"c": Up(name="up")(x), "d": x})


def into_a_subclass(x):
    return Halves(name="halves")([Up(name="up")(x), x])


def into_a_subclass_inside(x):
    return Holds(name="holds")(x)


def twice(x):
    up, down = Up(name="up"), Down(name="down")
    x = down(up(x), x)
    return down(up(x), x)


def model_twice(x):
    up = keras.Sequential([keras.Input((None, 4)), layers.Dense(6, "relu", name="dense")], name="s")
    down = Down(name="down")
    x = down(up(x), x)
    return down(up(x), x)


MAKE = {
    "subclassed": net,
    "block": lambda: model_of(lambda x: Block(name="block")(x)),
    **{
        function.__name__: lambda function=function: model_of(function)
        for function in (
            between,
            plain_and_made_of_layers,
            from_a_sequential,
            into_a_sequential,
            into_models_in_models,
            into_a_subclass,
            into_a_subclass_inside,
            twice,
            model_twice,
        )
    },
}
NAMES = {
    "subclassed": ["block/up/dense", "up/dense"],
    "block": ["block/up/dense"],
    "between": ["up/dense"],
    "plain_and_made_of_layers": ["plain"],
    "from_a_sequential": ["s/dense"],
    "into_a_sequential": ["plain"],
    "into_models_in_models": ["up/dense"],
    "into_a_subclass": ["up/dense"],
    "into_a_subclass_inside": ["holds/up"],
    "twice": ["up/dense"],
    "model_twice": ["s/dense"],
}


@pytest.mark.parametrize("producers_only", [False, True])
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("name", MAKE)
def test_cut_exactly(name, in_place, producers_only, tmp_path):
    model = MAKE[name]()
    found = find_structures(model)
    assert [s.name for s in found if s.groups == 6] == NAMES[name]
    kill(model, lambda s: np.arange(s.groups) % 3 == 0, producers_only=producers_only)
    expected = outputs(model, X)
    small = rebuild(model, in_place=in_place)
    assert_same(expected, outputs(small, X))
    assert [s.name for s in find_structures(small) if s.groups == 4] == NAMES[name]
    small.save(tmp_path / "small.keras")
    loaded = keras.saving.load_model(tmp_path / "small.keras", custom_objects=CUSTOM)
    assert_same(expected, outputs(loaded, X))
    assert [s.name for s in find_structures(loaded) if s.groups == 4] == NAMES[name]
    kill(loaded, lambda s: np.ones(s.groups, bool))
    expected = outputs(loaded, X)
    again = rebuild(loaded, in_place=in_place)
    assert_same(expected, outputs(again, X))  # One unit is left, as zeros.
    again.save(tmp_path / "again.keras")
    loaded = keras.saving.load_model(tmp_path / "again.keras", custom_objects=CUSTOM)
    assert_same(expected, outputs(loaded, X))


def reasons(function):
    found = find_structures(model_of(function))
    assert not [s for s in found if s.groups == 6]
    return {skip.name: skip.reason for skip in found.skipped}


def test_a_layer_that_says_itself_how_wide_its_output_is():
    why = reasons(lambda x: Down()(SaysItsWidth(name="up")(x), x))
    assert why["up/dense"] == "up, which it goes through, says itself how wide its output is"


def test_a_layer_that_checks_its_input():
    why = reasons(lambda x: ChecksItsInput(name="down")(Up(name="up")(x), x))
    assert why["up/dense"] == "down, which it goes through, checks the width of its input"


def test_a_layer_that_is_called_in_a_way_that_is_not_known():
    class Hides(layers.Layer):
        def __init__(self, inner):
            super().__init__(name="hides")
            self.inner = inner

        def call(self, x):
            return ops.convert_to_tensor(np.asarray(self.inner(x)))

        def compute_output_shape(self, shape):
            return (*shape[:-1], 6)

    up = Up(name="up")
    why = reasons(lambda x: Down(name="down")(up(x), x) + ops.sum(Hides(up)(x)))
    assert "hides" in why


def test_a_layer_that_is_called_with_other_arguments_elsewhere():
    class Either(Up):
        def call(self, x, plain=False):
            y = self.dense(x)
            return y if plain else ops.softmax(y)

    up, down = Either(name="up"), Down(name="down")
    why = reasons(lambda x: down(up(x, plain=True), x) + down(up(x), x))
    assert "up" in " ".join(why)


def test_an_interruption_leaves_the_widths_as_they_were(monkeypatch):
    from tfprune.rebuild import in_place as cutting

    model = MAKE["into_models_in_models"]()
    kill(model, lambda s: np.arange(s.groups) % 2 == 0)
    expected = outputs(model, X)

    def interrupted(model):
        raise KeyboardInterrupt

    monkeypatch.setattr(cutting, "forget_compiled", interrupted)
    with pytest.raises(KeyboardInterrupt):
        rebuild(model, in_place=True)
    monkeypatch.undo()
    assert [t.shape[-1] for t in model.get_layer("outer").inputs] == [6, 4]
    assert_same(expected, outputs(model, X))
    assert_same(expected, outputs(rebuild(model, in_place=True), X))


def test_gates():
    model = net()
    gates = attach(model, [MovementScores(s) for s in find_structures(model)])
    for gate in gates:
        gate.scores.assign(np.arange(6) % 2)
        gate.threshold.assign(0.5)
    expected = outputs(model, X)
    small = rebuild(model)
    assert_same(expected, outputs(small, X))
    assert [s.groups for s in find_structures(small)] == [3, 3]
    detach(model)


@keras.saving.register_keras_serializable("tests.crossing")
class BuiltForItsWidth(layers.Layer):
    """Its `build()` makes layers of the width that it is given, without weights until a call."""

    def build(self, shape):
        self.up, self.down = layers.Dense(6, "relu"), layers.Dense(8)
        self.up.build((*shape[:-1], 8))
        self.down.build((*shape[:-1], 6))
        self.add = layers.Add()
        self.built = True

    def call(self, x):
        return self.add([x, self.down(self.up(x))])


def test_a_block_that_takes_less_is_copied_once_more(tmp_path):
    x = keras.Input((3, 4))
    y = BuiltForItsWidth(name="block")(layers.Dense(8, name="before")(x))
    model = randomize(keras.Model(x, layers.Dense(2, name="after")(y)))
    assert "before" in [s.name for s in find_structures(model)]
    kill(model, lambda s: np.ones(s.groups, bool))
    expected = outputs(model, noise(2, 3, 4))
    small = rebuild(model)
    assert small.get_layer("before").units == 1
    small.save(tmp_path / "small.keras")
    for once in (small, keras.saving.load_model(tmp_path / "small.keras")):
        assert_same(expected, outputs(rebuild(once), noise(2, 3, 4)))


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("way", ["alone", "by name", "in a dictionary"])
def test_from_one_model_into_another_under_a_mask(in_place, way):
    ids = keras.Input((5,), dtype="int32")
    x = layers.Embedding(9, 4, mask_zero=True)(ids)
    inner = keras.Input((5, 3), name="units")
    given = {"units": inner} if way == "in a dictionary" else inner
    second = keras.Model(given, layers.Dense(4)(layers.Activation("relu")(inner)), name="second")
    first = keras.Sequential([keras.Input((5, 4)), layers.Dense(3, name="dense")], name="first")
    made = first(x)
    if way == "in a dictionary":
        made = {"units": made}
    made = second(inputs=made) if way == "by name" else second(made)
    model = randomize(keras.Model(ids, layers.LayerNormalization()(made)))
    (found,) = find_structures(model)
    assert (found.name, found.groups, found.crosses) == ("first/dense", 3, True)
    found.scale(np.array([0, 1, 1], "float32"))
    given = np.array([[3, 1, 4, 0, 0], [2, 7, 1, 8, 2]])
    expected = outputs(model, given)
    small = rebuild(model, in_place=in_place)
    assert_same(expected, outputs(small, given))
    assert small.get_layer("second").inputs[0].shape == (None, 5, 2)
