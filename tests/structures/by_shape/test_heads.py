"""Heads are found in attention of any class, or the reason why not is said."""

import keras
import numpy as np
import pytest
from keras import ops

from tests.attentions import (
    WIDTH,
    Alibi,
    ForTensors,
    Fused,
    Grouped,
    Normalized,
    Reshaped,
    Tabled,
    around,
)
from tests.models import noise, outputs, randomize
from tfprune.gates import Mask, attach, detach
from tfprune.structures import find_structures
from tfprune.structures.by_shape import proven

pytestmark = pytest.mark.sampled


def heads_of(layer, **call):
    model = randomize(around(layer, **call))
    found = find_structures(model)
    return model, found


def shares(structure):
    return {(s.layer.name, s.attribute): (s.axis, s.segments) for s in structure.slices}


def test_dense_layers_with_reshape_and_transpose():
    layer = Reshaped(name="attention")
    _, found = heads_of(layer)
    (heads,) = found.select(["heads"])
    assert (heads.name, heads.groups, heads.group_size) == ("attention", 4, 3 * 13 * 3 + 3 * WIDTH)
    assert [s.layer for s in heads.silencers] == [layer.value]
    assert not [s for s in found.skipped if "attention" in s.name]


def test_a_fused_projection_has_parts():
    layer = Fused(name="attention")
    _, found = heads_of(layer)
    heads = found["attention"]
    assert heads.groups == 4
    assert shares(heads) == {
        (layer.qkv.name, "kernel"): (1, (12, 12, 12)),
        (layer.qkv.name, "bias"): (0, (12, 12, 12)),
        (layer.out.name, "kernel"): (0, None),
    }
    # Head 1 has its queries at 3 to 5, its keys at 15 to 17 and its values at 27 to 29.
    at = heads.positions([1], heads.slices[0])
    assert at.tolist() == [3, 4, 5, 15, 16, 17, 27, 28, 29]
    norms = heads.norms()
    kernel, bias, out = (np.asarray(v) for v in layer.weights)
    parts = (kernel[:, at], bias[at], out[3:6])
    assert np.isclose(norms[1], np.sqrt(sum(np.sum(part**2) for part in parts)), rtol=1e-5)


def test_groups_leave_with_their_query_heads_and_sinks():
    layer = Grouped(name="attention")
    _, found = heads_of(layer)
    heads = found["attention"]
    assert heads.groups == 2
    names = {(s.layer.name, s.attribute) for s in heads.slices}
    assert (layer.name, "sinks") in names
    # A gate of zero kernel lets half of a head through; without its bias nothing is left of it.
    assert {id(s.layer) for s in heads.silencers} == {id(layer.value)}
    assert heads.least == 0


def test_a_table_of_positions_leaves_with_the_heads():
    layer = Tabled(name="attention")
    _, found = heads_of(layer)
    assert shares(found["attention"])[(layer.table.name, "embeddings")] == (1, None)


def test_a_layer_that_cannot_be_traced_is_run():
    layer = ForTensors(name="attention")
    _, found = heads_of(layer)
    heads = found["attention"]
    assert (heads.groups, heads.least) == (4, 1)
    assert [s.layer for s in heads.silencers] == [layer.value]
    assert not [s for s in found.skipped if "attention" in s.name]
    assert "call" not in vars(layer)


class Beside(keras.Model):
    """A model in which a unit of a feed-forward pair comes before attention, and one after."""

    def __init__(self):
        super().__init__()
        self.attention = ForTensors()
        self.up, self.down = keras.layers.Dense(8, "relu"), keras.layers.Dense(WIDTH)

    def call(self, x):
        if isinstance(x, keras.KerasTensor):
            raise TypeError("a tensor is needed")
        return self.down(self.up(x + self.attention(self.down(self.up(x)))))


def test_what_mixes_no_positions_is_no_attention():
    model = Beside()
    model(noise(2, 5, WIDTH))
    found = find_structures(model)
    assert [(s.name, s.kind) for s in found if s.kind == "heads"] == [
        (model.attention.name, "heads")
    ]


def test_what_knows_of_all_heads_is_cut_around_them():
    for cls, is_padded in ((Reshaped, False), (Alibi, True)):
        _, found = heads_of(cls(name="attention"))
        assert found["attention"].groups == 4 and found["attention"].is_padded == is_padded


def test_what_depends_on_the_other_heads_is_left_whole():
    _, found = heads_of(Normalized(name="attention"))
    assert "attention" not in found
    (reason,) = [s.reason for s in found.skipped if s.name == "attention"]
    assert reason == (
        "its heads cannot be told apart: its output is another one without some of them"
    )


@pytest.mark.parametrize("read", [False, True])
def test_scores_that_are_read_show_every_head(read):
    x = keras.Input((None, WIDTH))
    y, scores = Grouped(name="attention")(x, return_scores=True)
    model = keras.Model(x, [y, scores] if read else y)
    found = find_structures(model)
    assert ("attention" in found) == (not read)
    if not read:
        assert found["attention"].least == 1  # It returns two things, so it is no constant.


def test_nothing_is_left_in_the_model_and_gates_are_looked_through():
    model, found = heads_of(Reshaped(name="attention"))
    before = [np.array(v) for v in model.weights]
    expected = outputs(model, noise(2, 5, WIDTH))
    gates = attach(model, [Mask(s) for s in found])
    gates[0].fix(np.arange(4) % 2)
    assert list(find_structures(model).select(["heads"]).kinds) == ["heads"]
    detach(model)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.weights, strict=True))
    assert np.array_equal(expected[0], outputs(model, noise(2, 5, WIDTH))[0])
    assert model.get_layer("attention").num_heads == 4


def test_weights_of_zero_prove_nothing():
    layer = Normalized(name="attention")
    model = around(layer)
    for variable in layer.weights:
        variable.assign(np.zeros(variable.shape))
    assert "attention" not in find_structures(model)


class Sizes:
    def __init__(self, heads):
        self.heads = heads


class FromObject(Reshaped):
    """How many heads there are is said by an object."""

    def __init__(self, heads, **kwargs):
        super().__init__(4, **kwargs)
        self.sizes = Sizes(heads)

    def split(self, x):
        shape = (ops.shape(x)[0], -1, self.sizes.heads, self.inner_dim // self.sizes.heads)
        return ops.transpose(ops.reshape(x, shape), (0, 2, 1, 3))


def test_layers_that_are_alike_are_proven_once(monkeypatch):
    tried = []
    plain = proven.Trial.why_not

    def why_not(self, guess):
        tried.append(self.layer)
        return plain(self, guess)

    monkeypatch.setattr(proven.Trial, "why_not", why_not)
    x = keras.Input((5, WIDTH))
    y = x
    for name in "abc":
        y = y + Reshaped(name=f"{name}_once")(y)
    proven._PROVEN.clear()
    found = find_structures(keras.Model(x, y))
    assert [s.groups for s in found] == [4, 4, 4]
    assert {layer.name for layer in tried} == {"a_once"}


def test_layers_that_an_object_tells_apart_are_not_alike():
    x = keras.Input((5, WIDTH))
    y = x + FromObject(4, name="four")(x)
    model = randomize(keras.Model(x, y + FromObject(2, name="two")(y)))
    found = find_structures(model)
    # The object is not rewritten, so the layers around the heads are cut.
    assert [(s.name, s.groups, s.is_padded) for s in found] == [("four", 4, True), ("two", 2, True)]
