"""Heads of attention that is written in a Functional model, against the whole model."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfprune
from tests.models import assert_same, noise, outputs, randomize
from tfprune.structures.flow import Flow
from tfprune.structures.graph import graph_of

pytestmark = pytest.mark.sampled("jax")

T, HEADS, SIZE = 6, 4, 3
WIDTH = HEADS * SIZE


def by_operations(q, k, v):
    q, k, v = (ops.transpose(ops.reshape(x, (-1, T, HEADS, SIZE)), (0, 2, 1, 3)) for x in (q, k, v))
    scores = ops.matmul(q, ops.swapaxes(k, 2, 3)) / SIZE**0.5
    attended = ops.matmul(ops.softmax(scores), v)
    return ops.reshape(ops.transpose(attended, (0, 2, 1, 3)), (-1, T, WIDTH))


def by_layers(q, k, v):
    q, k, v = (layers.Permute((2, 1, 3))(layers.Reshape((T, HEADS, SIZE))(x)) for x in (q, k, v))
    scores = layers.Softmax()(ops.matmul(q, ops.swapaxes(k, 2, 3)))
    attended = layers.Permute((2, 1, 3))(ops.matmul(scores, v))
    return layers.Reshape((T, WIDTH))(attended)


def by_einsum(q, k, v):
    q, k, v = (ops.reshape(x, (-1, T, HEADS, SIZE)) for x in (q, k, v))
    scores = ops.softmax(ops.einsum("bqhd,bkhd->bhqk", q, k))
    return ops.reshape(ops.einsum("bhqk,bkhd->bqhd", scores, v), (-1, T, WIDTH))


def causal(q, k, v):
    q, k, v = (ops.reshape(x, (-1, T, HEADS, SIZE)) for x in (q, k, v))
    hidden = np.triu(np.full((T, T), -1e9, "float32"), 1)
    scores = ops.softmax(ops.einsum("bqhd,bkhd->bhqk", q, k) + hidden)
    return ops.reshape(ops.einsum("bhqk,bkhd->bqhd", scores, v), (-1, T, WIDTH))


def sizes_first(q, k, v):
    q, k, v = (ops.reshape(x, (-1, T, SIZE, HEADS)) for x in (q, k, v))
    scores = ops.softmax(ops.einsum("bqdh,bkdh->bhqk", q, k))
    return ops.reshape(ops.einsum("bhqk,bkdh->bqdh", scores, v), (-1, T, WIDTH))


WAYS = {"operations": by_operations, "layers": by_layers, "einsum": by_einsum, "causal": causal}
WAYS["sizes first"] = sizes_first


def model_of(way, use_bias=True):
    x = keras.Input((T, 8))
    q, k, v = (layers.Dense(WIDTH, use_bias=use_bias, name=name)(x) for name in "qkv")
    return randomize(keras.Model(x, layers.Dense(5, name="out")(way(q, k, v))))


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_cut_exactly(way, in_place, tmp_path):
    model = model_of(way)
    (heads,) = tfprune.find_structures(model)
    assert (heads.kind, heads.groups) == ("heads", HEADS)
    # Of each of q, k and v three columns and biases, of the output three rows.
    assert heads.group_size == 3 * (8 + 1) * SIZE + 5 * SIZE
    heads.scale(np.array([1, 0, 1, 0], "float32"))
    expected = outputs(model, noise(2, T, 8))
    small = tfprune.rebuild(model, in_place=in_place)
    assert {name: small.get_layer(name).units for name in "qkv"} == dict.fromkeys("qkv", 2 * SIZE)
    assert_same(expected, outputs(small, noise(2, T, 8)))
    small.save(tmp_path / "small.keras")
    assert_same(
        expected, outputs(keras.saving.load_model(tmp_path / "small.keras"), noise(2, T, 8))
    )


def test_a_head_whose_values_are_zero_goes():
    model = model_of(by_operations)
    value = model.get_layer("v")
    value.kernel.assign(value.kernel * ([0.0] * SIZE + [1.0] * (WIDTH - SIZE)))
    expected = outputs(model, noise(2, T, 8))
    assert tfprune.find_structures(model)[0].groups == HEADS
    with pytest.warns(match="no group"):  # Its bias comes through.
        tfprune.rebuild(model)
    value.bias.assign(value.bias * ([0.0] * SIZE + [1.0] * (WIDTH - SIZE)))
    expected = outputs(model, noise(2, T, 8))
    small = tfprune.rebuild(model)
    assert small.get_layer("q").units == WIDTH - SIZE
    assert_same(expected, outputs(small, noise(2, T, 8)))


@pytest.mark.parametrize("how", ["one reshape", "split"])
def test_queries_keys_and_values_of_one_layer(how):
    x = keras.Input((T, 8))
    y = layers.Dense(3 * WIDTH, name="qkv")(x)
    if how == "split":
        q, k, v = (ops.reshape(z, (-1, T, HEADS, SIZE)) for z in ops.split(y, 3, axis=-1))
    else:
        y = ops.reshape(y, (-1, T, 3, HEADS, SIZE))
        q, k, v = y[:, :, 0], y[:, :, 1], y[:, :, 2]
    scores = ops.softmax(ops.einsum("bqhd,bkhd->bhqk", q, k))
    y = ops.reshape(ops.einsum("bhqk,bkhd->bqhd", scores, v), (-1, T, WIDTH))
    model = randomize(keras.Model(x, layers.Dense(5, name="out")(y)))
    (heads,) = tfprune.find_structures(model)
    assert (heads.kind, heads.groups) == ("heads", HEADS)
    heads.scale(np.array([1, 0, 1, 0], "float32"))
    expected = outputs(model, noise(2, T, 8))
    small = tfprune.rebuild(model)
    assert small.get_layer("qkv").units == 3 * 2 * SIZE
    assert_same(expected, outputs(small, noise(2, T, 8)))


def test_one_key_and_value_for_all_queries():
    x = keras.Input((T, 8))
    q = ops.reshape(layers.Dense(WIDTH, name="q")(x), (-1, T, HEADS, SIZE))
    k, v = (layers.Dense(SIZE, name=name)(x) for name in "kv")
    scores = ops.softmax(ops.einsum("bqhd,bkd->bhqk", q, k))
    y = ops.reshape(ops.einsum("bhqk,bkd->bqhd", scores, v), (-1, T, WIDTH))
    model = randomize(keras.Model(x, layers.Dense(5, name="out")(y)))
    (heads,) = tfprune.find_structures(model)
    assert {s.layer.name for s in heads.slices} == {"q", "out"}
    heads.scale(np.array([1, 0, 1, 0], "float32"))
    expected = outputs(model, noise(2, T, 8))
    assert_same(expected, outputs(tfprune.rebuild(model), noise(2, T, 8)))


@pytest.mark.parametrize(
    "product, reason",
    [
        (lambda a, b: ops.einsum("btd,bsd->bts", a, b), "Einsum sums over it"),
        (lambda a, b: ops.matmul(a, ops.transpose(b, (0, 2, 1))), "Matmul sums over it"),
        (lambda a, b: ops.einsum("btd,bse->btde", a, b), None),
        (lambda a, b: ops.einsum("b...d,b...d->b...d", a, b), "it goes to Einsum"),
        (lambda a, b: ops.einsum("btd,btd->btd", a, b), None),
    ],
)
def test_what_stays(product, reason):
    x = keras.Input((T, 8))
    y = product(layers.Dense(4, name="a")(x), layers.Dense(4, name="b")(x))
    flow = Flow(graph_of(keras.Model(x, layers.Dense(2)(y))))
    found = {use.layer.name: flow.reason(use) for use in flow.uses if use.role == "make"}
    if reason:
        assert found["a"].endswith(reason) and found["b"].endswith(reason)
    else:
        assert "sums" not in str(found["a"])


def test_a_shuffle_of_channels():
    x = keras.Input((4, 4, 3))
    y = ops.reshape(layers.Conv2D(8, 1, name="a")(x), (-1, 4, 4, 4, 2))
    y = ops.reshape(ops.transpose(y, (0, 1, 2, 4, 3)), (-1, 4, 4, 8))
    model = randomize(keras.Model(x, layers.Conv2D(2, 3, name="b")(y)))
    (found,) = tfprune.find_structures(model)
    assert (found.kind, found.groups) == ("channels", 4)  # Two channels leave together.
    found.scale(np.array([1, 0, 0, 1], "float32"))
    expected = outputs(model, noise(2, 4, 4, 3))
    assert_same(expected, outputs(tfprune.rebuild(model), noise(2, 4, 4, 3)))
