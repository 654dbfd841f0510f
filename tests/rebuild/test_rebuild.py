import itertools
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

from tests.models import assert_same, kill, noise, outputs, randomize, transformer
from tfprune.gates import HardConcrete, MovementScores, attach
from tfprune.rebuild import rebuild
from tfprune.structures import find_structures

pytestmark = pytest.mark.sampled


def test_weights_really_leave():
    model = randomize(transformer(width=8, heads=2, units=12))
    kill(model, {"ffn_in": np.arange(12) >= 5, "attention": np.array([True, False])})
    small = rebuild(model)
    # Seven units of 17 weights, one head of 3 * (8 * 4 + 4) + 4 * 8.
    assert model.count_params() - small.count_params() == 7 * 17 + 140
    assert {s.name: s.groups for s in find_structures(small)} == {"attention": 1, "ffn_in": 5}
    assert small.get_layer("ffn_in").units == 5
    assert small.get_layer("attention").num_heads == 1


def test_dead_unit_becomes_a_constant_in_the_bias():
    model = randomize(
        keras.Sequential(
            [
                keras.Input((3,)),
                layers.Dense(4, "tanh", name="a"),
                layers.Dense(2, name="b"),
            ]
        )
    )
    kill(model, {"a": np.array([False, True, False, True])}, producers_only=True)
    a, b = model.get_layer("a"), model.get_layer("b")
    kernel, bias = np.asarray(b.kernel), np.asarray(b.bias)
    expected = bias + np.tanh(np.asarray(a.bias))[[1, 3]] @ kernel[[1, 3]]
    small = rebuild(model)
    assert isinstance(small, keras.Sequential)
    np.testing.assert_allclose(small.get_layer("b").bias, expected, rtol=1e-6)
    np.testing.assert_array_equal(small.get_layer("b").kernel, kernel[[0, 2]])


def test_dead_head_leaves_its_value_bias():
    model = randomize(transformer())
    attention = model.get_layer("attention")
    value, output = attention.value_dense, attention.output_dense
    kill(model, {"attention": np.array([True, False])}, producers_only=True)
    expected = np.asarray(output.bias) + np.tensordot(
        np.asarray(value.bias)[0], np.asarray(output.kernel)[0], axes=1
    )
    small = rebuild(model).get_layer("attention")
    np.testing.assert_allclose(small.output_dense.bias, expected, rtol=1e-5)


@pytest.mark.parametrize("masked", [True, False])
def test_a_value_bias_that_a_mask_keeps_back_is_not_folded(masked):
    # At a padded position Keras's attention weights are all zero, so the bias is not emitted there.
    ids = keras.Input((4,), dtype="int32")
    x = layers.Embedding(9, 4, mask_zero=masked)(ids)
    model = randomize(keras.Model(ids, layers.MultiHeadAttention(3, 2, name="attention")(x, x)))
    kill(model, {"attention": np.array([True, True, False])}, producers_only=True)
    bias = model.get_layer("attention")._value_dense.bias
    bias.assign(bias * np.array([[0.0], [1.0], [1.0]]))
    small = rebuild(model)
    assert find_structures(small)["attention"].groups == (2 if masked else 1)
    given = np.array([[3, 0, 5, 0]])
    assert_same(outputs(model, given), outputs(small, given))


@pytest.mark.parametrize("masked", [True, False])
def test_a_product_that_looks_at_a_mask_is_not_folded(masked):
    # Keras's `Multiply` takes masked factors for ones, so a dead unit is not dead there.
    ids = keras.Input((4,), dtype="int32")
    x = layers.Embedding(9, 4, mask_zero=masked)(ids)
    gated = layers.Multiply()([layers.Dense(6, "relu", name="gate")(x), layers.Dense(6)(x)])
    model = randomize(keras.Model(ids, layers.Dense(3, name="out")(gated)))
    kill(model, {"gate": np.arange(6) < 3}, producers_only=True)
    given = np.array([[3, 0, 5, 0]])
    small = rebuild(model)
    assert find_structures(small)["gate"].groups == (6 if masked else 3)
    assert_same(outputs(model, given), outputs(small, given))
    kill(model, {"gate": np.arange(6) < 3})  # Nothing reads them any more.
    small = rebuild(model)
    assert find_structures(small)["gate"].groups == 3
    assert_same(outputs(model, given), outputs(small, given))


@pytest.mark.parametrize("dead", itertools.product([0.0, 0.5, 1.0], repeat=3))
def test_pairs_that_feed_one_another(dead):
    def gated(x, bias):
        gate = layers.Dense(6, "relu", use_bias=bias)(x)
        return layers.Dense(4)(layers.Multiply()([gate, layers.Dense(6, use_bias=bias)(x)]))

    x = keras.Input((5, 4))
    model = randomize(keras.Model(x, gated(gated(x, False), True)))
    # The two gated pairs, and between them the four units that one makes and the other reads.
    structures = find_structures(model)
    assert [s.groups for s in structures] == [6, 4, 6]
    masks = zip(structures, dead, strict=True)
    kill(model, {s.name: np.arange(s.groups) < share * s.groups for s, share in masks})
    given = noise(2, 5, 4)
    assert_same(outputs(model, given), outputs(rebuild(model), given))


def test_constant_without_a_bias_to_go_to_stays():
    model = randomize(
        keras.Sequential(
            [
                keras.Input((3,)),
                layers.Dense(4, "sigmoid", use_bias=False, name="a"),
                layers.Dense(2, use_bias=False, name="b"),
            ]
        )
    )
    kill(model, {"a": np.array([True, False, False, False])}, producers_only=True)
    assert rebuild(model).get_layer("a").units == 4  # sigmoid(0) is 0.5


def test_emptied_sublayers_are_gone():
    model = randomize(transformer())
    kill(model, lambda s: np.ones(s.groups, bool))
    x = noise(2, 3, 8)
    small = rebuild(model)
    assert_same(outputs(model, x), outputs(small, x))
    left = {layer.name for layer in small.layers}
    assert not left & {"ffn_in", "ffn_out", "norm_2", "add_2", "norm_1"}
    # The feed-forward constant moved into the bias that stands for the attention.
    np.testing.assert_allclose(
        small.get_layer("attention").bias,
        np.asarray(model.get_layer("attention").output_dense.bias)
        + np.asarray(model.get_layer("ffn_out").bias),
        rtol=1e-5,
    )


def test_constant_moves_into_the_bias_before():
    model = randomize(transformer())
    kill(model, {"ffn_in": np.ones(12, bool)})
    x = noise(2, 3, 8)
    small = rebuild(model)
    assert_same(outputs(model, x), outputs(small, x))
    np.testing.assert_allclose(
        small.get_layer("attention").output_dense.bias,
        np.asarray(model.get_layer("attention").output_dense.bias)
        + np.asarray(model.get_layer("ffn_out").bias),
        rtol=1e-5,
    )
    assert "ffn_out" not in {layer.name for layer in small.layers}


def test_keep():
    model = randomize(transformer())
    x = noise(2, 3, 8)
    small = rebuild(model, keep={"ffn_in": np.arange(12) < 4})
    kill(model, {"ffn_in": np.arange(12) >= 4})
    assert_same(outputs(model, x), outputs(small, x))
    with pytest.raises(ValueError, match=r"does not have.*'nothing'"):
        rebuild(model, keep={"nothing": np.ones(2, bool)})
    with pytest.raises(ValueError, match=r"boolean array of shape \(12,\)"):
        rebuild(model, keep={"ffn_in": np.ones(3, bool)})


def test_names_flags_and_structure_of_inputs_are_kept():
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    x = layers.Concatenate(name="both")([a, b])
    h = layers.Dense(6, "relu", name="in", trainable=False)(x)
    y = layers.Dense(3, name="out_1")(h)
    z = layers.Dense(2, name="out_2")(layers.BatchNormalization(name="norm")(x))
    model = randomize(keras.Model({"a": a, "b": b}, {"y": y, "z": z}, name="two"))
    kill(model, {"in": np.arange(6) < 2})
    small = rebuild(model)
    assert small.name == "two"
    given = {"a": noise(2, 4), "b": noise(2, 4, seed=2)}
    expected, got = model(given), small(given)
    assert set(got) == {"y", "z"}
    for key in got:
        np.testing.assert_allclose(got[key], expected[key], rtol=1e-5, atol=1e-6)
    assert [t.name for t in small.inputs] == [t.name for t in model.inputs]
    assert small.get_layer("in").trainable is False
    assert small.get_layer("in").kernel.trainable is False


def test_nested_and_shared_models():
    inner = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(5, "relu", name="a"),
            layers.Dense(4, name="b"),
        ],
        name="inner",
    )
    x = keras.Input((4,))
    model = randomize(keras.Model(x, inner(inner(x)) + x))
    kill(model, {"inner/a": np.arange(5) < 3})
    small = rebuild(model)
    assert small.get_layer("inner").get_layer("a").units == 2
    assert_same(outputs(model, noise(3, 4)), outputs(small, noise(3, 4)))


def test_training_goes_on():
    model = randomize(transformer())
    kill(model, {"ffn_in": np.arange(12) < 6})
    small = rebuild(model)
    assert not small.compiled
    small.compile("adam", "mse")
    losses = small.fit(noise(16, 3, 8), noise(16, 3, 3), epochs=4, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


def test_loads_without_tfprune(tmp_path):
    model = randomize(transformer())
    kill(model, {"ffn_in": np.arange(12) < 6, "attention": np.array([True, True])})
    x = noise(2, 3, 8)
    np.save(tmp_path / "x.npy", x)
    small = rebuild(model)
    small.save(tmp_path / "small.keras")
    code = (
        "import sys, keras, numpy as np\n"
        f"m = keras.saving.load_model({str(tmp_path / 'small.keras')!r})\n"
        f"y = m(np.load({str(tmp_path / 'x.npy')!r}))\n"
        f"np.save({str(tmp_path / 'y.npy')!r}, keras.ops.convert_to_numpy(y))\n"
        "assert not any(n.startswith('tfprune') for n in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert_same(outputs(model, x), [np.load(tmp_path / "y.npy")])


def test_bad_weights_and_unbuilt():
    model = transformer()
    bias = np.zeros(12, "float32")
    bias[1] = np.nan
    model.get_layer("ffn_in").bias.assign(bias)
    with pytest.raises(ValueError, match="not finite in layer 'ffn_in'"):
        rebuild(model)
    with pytest.raises(ValueError, match="must be built"):
        rebuild(keras.Sequential([layers.Dense(3)]))


@pytest.mark.tensorflow_only  # Text is.
def test_vocabularies_and_adapted_statistics_are_kept(tmp_path):
    words = layers.TextVectorization(output_sequence_length=3)
    words.adapt(["good film", "bad film"])
    scaled = layers.Normalization()
    scaled.adapt(noise(20, 4) + 3)
    text, x = keras.Input((), dtype="string"), keras.Input((4,))
    mean = layers.GlobalAveragePooling1D()(layers.Embedding(6, 4)(words(text)))
    y = layers.Dense(6, "relu", name="hidden")(layers.Concatenate()([mean, scaled(x)]))
    model = randomize(keras.Model([text, x], layers.Dense(2)(y)))
    given = [keras.ops.convert_to_tensor(["good", "film bad"]), keras.ops.ones((2, 4))]
    small = rebuild(model, keep={"hidden": np.arange(6) < 6})
    assert_same(outputs(model, given), outputs(small, given))
    small.save(tmp_path / "small.keras")
    assert_same(
        outputs(model, given), outputs(keras.saving.load_model(tmp_path / "small.keras"), given)
    )


@pytest.mark.parametrize("way", ["adapted", "loaded", "set_weights"])
def test_statistics_are_those_that_the_model_computes_with(way, tmp_path):
    scaled, x = layers.Normalization(), 40 * noise(20, 4) + 100
    hidden = layers.Dense(6, "relu", name="hidden")
    adapted = keras.Sequential([keras.Input((4,)), scaled, hidden, layers.Dense(2)])
    scaled.adapt(x)
    model, path = adapted, tmp_path / "model.keras"
    if way == "loaded":
        adapted.save(path)
        model = keras.saving.load_model(path)
    if way == "set_weights":
        model = keras.models.clone_model(adapted)
        model.set_weights(adapted.get_weights())
        # Keras goes on with a mean of 0 and a variance of 1.
        assert not np.allclose(outputs(model, x)[0], outputs(adapted, x)[0], rtol=0.1)
    kill(model, {"hidden": np.arange(6) >= 4})
    small = rebuild(model)
    assert small.get_layer("hidden").units == 4
    assert_same(outputs(model, x), outputs(small, x))
    small.save(path)
    assert_same(outputs(model, x), outputs(keras.saving.load_model(path), x))


@pytest.mark.parametrize("adapted", [False, True])
def test_units_in_front_of_adapted_statistics_stay(adapted):
    """Whatever was searched before: what a layer does is found out once for a configuration."""
    scaled = layers.Normalization()
    scaled.adapt(noise(20, 6)) if adapted else scaled.build((None, 6))
    hidden = layers.Dense(6, name="hidden")
    model = keras.Sequential([keras.Input((4,)), hidden, scaled, layers.Dense(2)])
    assert not len(find_structures(model))


def chain(*units, inputs=6, activation="relu"):
    """Dense layers one behind the other: the kernel between two structures belongs to both."""
    dense = [layers.Dense(n, activation, name=f"dense_{i}") for i, n in enumerate(units[:-1])]
    return randomize(
        keras.Sequential([keras.Input((inputs,)), *dense, layers.Dense(units[-1], name="out")])
    )


@pytest.mark.parametrize("second", [HardConcrete, MovementScores])
def test_a_gate_in_a_chain_is_folded_once(second):
    # Movement scores lie over what makes a group too: the middle kernel then has both gates.
    model = chain(5, 4, 3)
    structures = find_structures(model)
    assert len(structures) == 2
    middle = model.get_layer("dense_1").kernel
    (cut,) = [c for c in structures.by_variable if c.variable is middle]
    assert {(s.name, share.axis) for s, share in cut.shares} == {("dense_0", 0), ("dense_1", 1)}
    gates = attach(model, [HardConcrete(structures[0]), second(structures[1])])
    gates[0].fix(np.array([0.25, 0.0, 1.0, 0.5, 0.75]))
    gates[1].fix(np.array([0.5, 1.0, 0.0, 0.75]))
    x = noise(3, 6)
    expected = outputs(model, x)
    small = rebuild(model)
    assert_same(expected, outputs(small, x))
    assert {s.name: s.groups for s in find_structures(small)} == {"dense_0": 4, "dense_1": 3}
    assert small.count_params() == 6 * 4 + 4 + 4 * 3 + 3 + 3 * 3 + 3


class OwnStep(keras.Model):
    """Made from inputs and outputs, as is usual for a `train_step` of one's own."""

    def train_step(self, *args, **kwargs):
        return super().train_step(*args, **kwargs)


def test_a_subclass_made_from_inputs_and_outputs(tmp_path):
    inputs = keras.Input((6,))
    hidden = layers.Dense(16, "relu", name="hidden")(inputs)
    model = randomize(OwnStep(inputs, layers.Dense(3)(hidden)))
    kill(model, {"hidden": np.arange(16) < 11})
    given = noise(4, 6)
    small = rebuild(model)
    assert type(small) is OwnStep
    assert find_structures(small)["hidden"].groups == 5
    assert_same(outputs(model, given), outputs(small, given))
    small.save(tmp_path / "small.keras")
    loaded = keras.saving.load_model(tmp_path / "small.keras", custom_objects={"OwnStep": OwnStep})
    assert_same(outputs(small, given), outputs(loaded, given))
    kill(small, {"hidden": np.arange(5) < 2})
    again = rebuild(small)
    assert find_structures(again)["hidden"].groups == 3
    assert_same(outputs(small, given), outputs(again, given))


class AddIfGiven(layers.Layer):
    def call(self, x, other=None):
        return x if other is None else x + other


def test_an_optional_input_stays_optional():
    x, other = keras.Input((4,)), keras.Input((4,), optional=True, name="other")
    hidden = layers.Dense(5, "relu", name="hidden")(AddIfGiven()(x, other))
    model = randomize(keras.Model([x, other], layers.Dense(2)(hidden)))
    kill(model, {"hidden": np.arange(5) < 2})
    for given in ([noise(3, 4), None], [noise(3, 4), noise(3, 4, seed=2)]):
        assert_same(outputs(model, given), outputs(rebuild(model), given))


@pytest.mark.tensorflow_only
def test_a_sparse_input_stays_sparse():
    inputs = keras.Input((4,), sparse=True)
    hidden = layers.Dense(5, "relu", name="hidden")(inputs)
    model = keras.Model(inputs, layers.Dense(2)(hidden))
    kill(model, {"hidden": np.arange(5) < 2})
    assert rebuild(model).inputs[0].sparse


@pytest.mark.parametrize("keep", [[True], 3, "ffn_in", [], False])
def test_keep_that_is_no_mapping(keep):
    with pytest.raises(ValueError, match="`keep` must map names of structures .* attention, ffn"):
        rebuild(transformer(), keep=keep)
