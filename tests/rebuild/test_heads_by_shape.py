"""Attention of any class is cut by the shapes of its variables, and stays what it was."""

import keras
import numpy as np
import pytest

from tests.attentions import WIDTH, Alibi, ForTensors, Fused, Grouped, Reshaped, Tabled, around
from tests.models import assert_same, kill, noise, outputs, randomize
from tfprune.keras_private.layers import layer_and_inner_layers
from tfprune.rebuild import in_place as cutting
from tfprune.rebuild import rebuild
from tfprune.structures import find_structures

pytestmark = pytest.mark.sampled

X = noise(3, 6, WIDTH)
CLASSES = [Reshaped, Fused, Grouped, Tabled, ForTensors, Alibi]
CUSTOM = {cls.__name__: cls for cls in CLASSES}


class Twice(keras.Model):
    """A model that calls attention in its own way; it makes its layers itself."""

    def __init__(self, kind="Reshaped", **kwargs):
        super().__init__(**kwargs)
        self.kind = kind
        self.first, self.second = CUSTOM[kind](), CUSTOM[kind]()
        self.out = keras.layers.Dense(2)

    def call(self, x):
        x = x + self.first(x)
        return self.out(x + self.second(x))

    def get_config(self):
        return {**super().get_config(), "kind": self.kind}


def subclassed(cls):
    model = Twice(cls.__name__)
    model(X)
    return randomize(model)


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("make", [lambda cls: randomize(around(cls(name="a"))), subclassed])
@pytest.mark.parametrize("in_place", [False, True])
def test_half_and_half_again(cls, make, in_place, tmp_path):
    model = make(cls)
    keys = sorted(model.layers[0].get_config()) if make is subclassed else None
    kill(model, lambda s: np.arange(s.groups) % 2 == 0)
    expected, size = outputs(model, X), model.count_params()
    small = rebuild(model, in_place=in_place)
    assert (small is model) == in_place
    assert_same(expected, outputs(small, X))
    assert small.count_params() < size
    if keys:
        assert sorted(small.layers[0].get_config()) == keys
    small.save(tmp_path / "small.keras")
    custom = {**CUSTOM, "Twice": Twice}
    loaded = keras.saving.load_model(tmp_path / "small.keras", custom_objects=custom)
    assert_same(expected, outputs(loaded, X))
    for left in (small, loaded):
        heads = [s for s in find_structures(left) if s.kind == "heads"]
        assert all(s.groups == (1 if cls is Grouped else 2) for s in heads)
        assert bool(heads) == (cls is not Alibi)  # What stands in the place loses no more.
    if cls in (Grouped, Alibi):
        return
    kill(loaded, lambda s: np.arange(s.groups) % 2 == 1)
    expected = outputs(loaded, X)
    again = rebuild(loaded)
    assert_same(expected, outputs(again, X))
    assert again.count_params() < small.count_params()
    again.save(tmp_path / "again.keras")
    loaded = keras.saving.load_model(tmp_path / "again.keras", custom_objects=custom)
    assert_same(expected, outputs(loaded, X))


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("in_place", [False, True])
def test_without_heads_the_bias_is_left(cls, in_place):
    model = randomize(around(cls(name="a")))
    kill(model, lambda s: np.ones(s.groups, bool) if s.kind == "heads" else None)
    expected = outputs(model, X)
    small = rebuild(model, in_place=in_place)
    assert_same(expected, outputs(small, X))
    left = [x for x in layer_and_inner_layers(small) if isinstance(x, cls)]
    # Of one whose graph is not known, one head stays, of zeros.
    assert [x.num_heads for x in left] == ([1] if cls is ForTensors else [])


def test_values_of_zero_and_their_biases_silence_a_head():
    model = randomize(around(Reshaped(name="a")))
    layer = model.get_layer("a")
    heads = find_structures(model)["a"]
    dead = heads.positions([1, 2], heads.silencers[0])
    kernel, bias = (np.array(v) for v in layer.value.weights)
    kernel[:, dead] = 0
    layer.value.kernel.assign(kernel)
    assert rebuild(model).get_layer("a").num_heads == 4  # The biases still come through.
    bias[dead] = 0
    layer.value.bias.assign(bias)
    expected = outputs(model, X)
    small = rebuild(model)
    assert small.get_layer("a").num_heads == 2
    assert small.get_layer("a").query.units == small.get_layer("a").inner_dim == 6
    assert_same(expected, outputs(small, X))


@pytest.mark.parametrize("cls", CLASSES)
def test_an_interruption_leaves_the_model_as_it_was(cls, monkeypatch):
    model = randomize(around(cls(name="a")))
    kill(model, lambda s: np.arange(s.groups) % 2 == 0)
    expected = outputs(model, X)
    values = [v.value for v in model.weights]
    numbers = {n: v for n, v in vars(model.get_layer("a")).items() if isinstance(v, int)}

    def interrupted(model):
        raise KeyboardInterrupt

    monkeypatch.setattr(cutting, "forget_compiled", interrupted)
    with pytest.raises(KeyboardInterrupt):
        rebuild(model, in_place=True)
    monkeypatch.undo()
    assert all(a is b.value for a, b in zip(values, model.weights, strict=True))
    left = {n: v for n, v in vars(model.get_layer("a")).items() if isinstance(v, int)}
    assert left == numbers
    assert_same(expected, outputs(model, X))
    assert_same(expected, outputs(rebuild(model, in_place=True), X))


def test_a_class_that_is_not_registered_is_copied_again_and_again():
    class Local(Reshaped):
        pass

    model = randomize(around(Local(name="a")))
    for left in (3, 2, 1):
        kill(model, lambda s: np.arange(s.groups) < 1 if s.kind == "heads" else None)
        expected = outputs(model, X)
        model = rebuild(rebuild(model))
        assert_same(expected, outputs(model, X))
        assert model.get_layer("a").num_heads == left
