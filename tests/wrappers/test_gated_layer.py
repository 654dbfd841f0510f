import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfprune
from tests.models import assert_same, noise, outputs, randomize
from tfprune.gates import BlockScores, HardConcrete, Mask, MovementScores, attach
from tfprune.gates.gate import kernels_of
from tfprune.keras_private.attention import projections
from tfprune.structures import Slices, Structure, register_layer_kind
from tfprune.wrappers import GatedLayer, HardConcreteGroups, MaskedGroups, MovementGroups

pytestmark = pytest.mark.sampled

X = noise(4, 5, 8)


def encoder(wrap=lambda layer: layer, activation="sigmoid"):
    """An encoder layer with a padding mask; `wrap` is applied to what has groups."""
    inputs = keras.Input((None, 8))
    x = layers.Masking(-1.0)(inputs)
    y = wrap(layers.MultiHeadAttention(4, 2, dropout=0.1, name="attention"))(
        x, x, use_causal_mask=True
    )
    x = layers.Add()([x, y])
    y = wrap(layers.Dense(12, activation, name="ffn_in"))(x)
    y = layers.Dense(8, name="ffn_out")(y)
    x = layers.Add()([x, y])
    return keras.Model(inputs, wrap(layers.Dense(3, name="out"))(x))


def chain(wrap=lambda layer: layer):
    return keras.Sequential(
        [
            keras.Input((None, 8)),
            wrap(layers.Dense(6, "sigmoid", name="one")),
            wrap(layers.EinsumDense("abc,cd->abd", (None, 5), "relu", "d", name="two")),
            wrap(layers.Dense(3, use_bias=False, name="out")),
        ]
    )


class Handwritten(keras.Model):
    """A model without a graph of its own, as its author wrote it."""

    def __init__(self, **options):
        super().__init__(**options)
        self.attention = MaskedGroups(layers.MultiHeadAttention(4, 2))
        self.inner = MaskedGroups(layers.Dense(12, "sigmoid"))
        self.outer = MaskedGroups(layers.Dense(3))

    def build(self, shape):
        self.attention.build(shape, shape)
        self.inner.build(shape)
        self.outer.build((*shape[:-1], 12))

    def call(self, x):
        return self.outer(self.inner(x + self.attention(x, x)))


def wrappers_in(model):
    return [layer for layer in model._flatten_layers() if isinstance(layer, GatedLayer)]


def masked(model, seed, shares=(0.0, 0.4, 1.0)):
    """Sets masks of zeros, fractions and ones."""
    draw = np.random.default_rng(seed)
    for wrapper in wrappers_in(model):
        wrapper.mask = draw.choice(shares, wrapper.groups)
    return model


def padded():
    x = X.copy()
    x[1, 3:] = -1.0
    return x


def copied(source, target):
    """Gives a model without wrappers the weights of one with them."""
    for old, new in zip(source.layers, target.layers, strict=True):
        old = old.layer if isinstance(old, GatedLayer) else old
        new.set_weights(old.get_weights())
    return target


def alike(first, second, x):
    assert_same(outputs(first, x), outputs(second, x))


# -- the same numbers as with gates that are attached ---------------------------------------------


def test_is_as_the_plain_layer_at_first():
    for make in (encoder, chain):
        model = randomize(make(MaskedGroups))
        alike(model, copied(model, make()), padded())


@pytest.mark.parametrize(
    "wrapper, gate", [(MaskedGroups, Mask), (HardConcreteGroups, HardConcrete)]
)
def test_heads_are_as_with_an_attached_gate(wrapper, gate):
    model = randomize(encoder(lambda x: wrapper(x) if x.name == "attention" else x))
    plain = copied(model, encoder())
    values = np.array([0.0, 1.0, 0.3, 0.0], "float32")
    attach(plain, [gate(s) for s in tfprune.find_structures(plain).select("heads")])[0].fix(values)
    wrappers_in(model)[0].gate.fix(values)
    alike(model, plain, padded())


def test_drawn_gates_are_those_of_an_attached_one():
    layer = layers.MultiHeadAttention(4, 2)
    wrapper = HardConcreteGroups(layer, initial=0.1, seed=3)
    ours = ops.convert_to_numpy(wrapper(X, X, training=True))
    twin = layers.MultiHeadAttention(4, 2)
    inputs = keras.Input(X.shape[1:])
    plain = keras.Model(inputs, twin(inputs, inputs))
    twin.set_weights(layer.get_weights())
    (structure,) = [wrapper.gate.structure.__class__("twin", twin, 4)]
    attach(plain, [HardConcrete(structure, initial=0.1, seed=3)])
    np.testing.assert_allclose(ours, ops.convert_to_numpy(twin(X, X, training=True)), atol=1e-6)
    still = ops.convert_to_numpy(twin(X, X))
    np.testing.assert_allclose(ops.convert_to_numpy(wrapper(X, X)), still, atol=1e-6)
    assert np.abs(ours - still).max() > 1e-3


def test_dense_units_lose_kernel_and_bias():
    layer = layers.Dense(4, "sigmoid", bias_initializer="normal")
    wrapper = MaskedGroups(layer)
    wrapper(X)
    wrapper.mask = mask = np.array([1, 0, 0.5, 1], "float32")
    kernel, bias = layer.get_weights()
    expected = 1 / (1 + np.exp(-(X @ (kernel * mask) + bias * mask)))
    np.testing.assert_allclose(ops.convert_to_numpy(wrapper(X)), expected, atol=1e-6)


def test_a_head_that_is_masked_adds_nothing():
    layer = layers.MultiHeadAttention(4, 2, bias_initializer="normal")
    wrapper = MaskedGroups(layer)
    wrapper(X, X)
    wrapper.mask = [True, False, True, True]
    ours = ops.convert_to_numpy(wrapper(X, X))
    parts = projections(layer)
    q, k, v = (
        np.einsum("btd,dhk->bthk", X, np.array(part.kernel)) + np.array(part.bias)
        for part in (parts.query, parts.key, parts.value)
    )
    scores = np.einsum("bqhk,bthk->bhqt", q, k) / np.sqrt(2)
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    heads = np.einsum("bhqt,bthk->bqhk", weights, v)
    kernel, bias = np.array(parts.output.kernel), np.array(parts.output.bias)
    expected = sum(heads[:, :, h] @ kernel[h] for h in (0, 2, 3)) + bias
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_all_arguments_reach_the_layer():
    layer = layers.MultiHeadAttention(4, 2)
    wrapper = MaskedGroups(layer)
    allowed = np.tril(np.ones((4, 5, 5), bool))
    both = wrapper(X, value=X, key=X, attention_mask=allowed, return_attention_scores=True)
    plain = layer(X, value=X, key=X, attention_mask=allowed, return_attention_scores=True)
    for ours, expected in zip(both, plain, strict=True):
        np.testing.assert_allclose(
            ops.convert_to_numpy(ours), ops.convert_to_numpy(expected), atol=1e-6
        )
    assert wrapper.compute_output_shape(X.shape, X.shape) == X.shape
    inputs = keras.Input((5, 8))
    assert wrapper(inputs, inputs, return_attention_scores=True)[1].shape == (None, 4, 5, 5)


# -- rebuild --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("make", [encoder, chain])
def test_rebuild_equals_the_masked_model(make, seed):
    model = masked(randomize(make(MaskedGroups), seed), seed)
    small = tfprune.rebuild(model)
    assert not wrappers_in(small)
    assert small.count_params() < copied(model, make()).count_params()
    alike(model, small, padded())


@pytest.mark.parametrize("make", [encoder, chain])
def test_rebuild_of_layers_that_lose_everything(make):
    model = masked(randomize(make(MaskedGroups)), 0, shares=(0.0,))
    alike(model, tfprune.rebuild(model), padded())


def test_rebuild_of_a_nested_model():
    inner = randomize(encoder(MaskedGroups))
    inputs = keras.Input((None, 8))
    model = masked(keras.Model(inputs, layers.Dense(2)(inner(inputs))), 1)
    small = tfprune.rebuild(model)
    assert not wrappers_in(small)
    alike(model, small, padded())


def test_rebuild_of_a_handwritten_model(tmp_path):
    model = Handwritten()
    model.build(X.shape)
    masked(randomize(model), 2)
    assert [s.kind for s in tfprune.find_structures(model)] == ["heads", "ffn"]
    small = tfprune.rebuild(model)
    assert type(small.attention) is layers.MultiHeadAttention and type(small.outer) is layers.Dense
    assert small.attention.num_heads == np.count_nonzero(model.attention.mask)
    alike(model, small, X)
    small.save(tmp_path / "small.keras")
    with keras.saving.custom_object_scope({"Handwritten": Handwritten}):
        alike(small, keras.saving.load_model(tmp_path / "small.keras"), X)


def test_rebuild_where_nothing_is_cut_leaves_no_wrapper():
    model = masked(randomize(chain(MaskedGroups)), 0, shares=(0.7,))
    small = tfprune.rebuild(model)
    assert not wrappers_in(small)
    alike(model, small, X)


def test_the_structures_are_those_of_the_layers_inside():
    for make in (encoder, chain):
        ours, plain = (tfprune.find_structures(make(w)) for w in (MaskedGroups, lambda x: x))
        assert [(s.name, s.kind, s.groups) for s in ours] == [
            (s.name, s.kind, s.groups) for s in plain
        ]
        assert [s.name for s in ours.skipped] == [s.name for s in plain.skipped]


# -- any registered kind --------------------------------------------------------------------------


@keras.saving.register_keras_serializable("tests")
class Mixture(keras.Layer):
    def __init__(self, experts, **options):
        super().__init__(**options)
        self.experts = experts

    def build(self, shape):
        self.into = self.add_weight(name="into", shape=(self.experts, shape[-1], 3))
        self.out = self.add_weight(name="out", shape=(self.experts, 3, shape[-1]))

    def call(self, x):
        return ops.einsum("btd,edk,eko->bto", x, self.into, self.out)

    def get_config(self):
        return {**super().get_config(), "experts": self.experts}


class Experts(Structure):
    kind = "experts"

    def emitted(self, consumer, read):
        return np.zeros(consumer.variable.shape[:2], "float32")

    def resized_config(self, layer, groups):
        return {"experts": groups}


@register_layer_kind(Mixture)
def describe(layer, name):
    into = Slices(layer, "into", axis=0, role="producer")
    return Experts(name, layer.experts, (into, Slices(layer, "out", axis=0, role="consumer")))


def test_a_registered_kind():
    inputs = keras.Input((None, 8))
    wrapper = MaskedGroups(Mixture(4, name="mixture"))
    model = randomize(keras.Model(inputs, wrapper(inputs)))
    wrapper.mask = [1, 0, 0.5, 0]
    small = tfprune.rebuild(model)
    assert small.get_layer("mixture").experts == 2
    alike(model, small, X)


# -- saved ----------------------------------------------------------------------------------------


def each_kind(kind):
    options = {
        MaskedGroups: {},
        HardConcreteGroups: {"strength": 0.1, "initial": 0.2, "seed": 1, "score_scale": 3.0},
        MovementGroups: {"strength": 0.2, "block": (3, 2), "score_scale": 2.0},
    }[kind]
    return encoder(lambda layer: kind(layer, **options))


@pytest.mark.parametrize("kind", [MaskedGroups, HardConcreteGroups, MovementGroups])
def test_saved_and_loaded(kind, tmp_path):
    model = randomize(each_kind(kind))
    if kind is MaskedGroups:
        masked(model, 0)
    elif kind is MovementGroups:
        for wrapper in wrappers_in(model):
            wrapper.keep(0.6)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    alike(model, loaded, padded())
    for before, after in zip(wrappers_in(model), wrappers_in(loaded), strict=True):
        ours, theirs = (w.get_config() | {"layer": w.layer.get_config()} for w in (before, after))
        assert ours == theirs
        np.testing.assert_array_equal(before.open_groups(), after.open_groups())
    alike(tfprune.rebuild(model), tfprune.rebuild(loaded), padded())
    np.testing.assert_allclose([float(x) for x in model.losses], [float(x) for x in loaded.losses])


def test_a_new_process_needs_tfprune_alone(tmp_path):
    model = masked(randomize(encoder(MaskedGroups)), 3)
    model.save(tmp_path / "m.keras")
    np.savez(tmp_path / "xy.npz", x=X, y=outputs(model, X)[0])
    code = (
        "import keras, numpy as np, tfprune\n"
        f"model = keras.saving.load_model({str(tmp_path / 'm.keras')!r})\n"
        f"data = np.load({str(tmp_path / 'xy.npz')!r})\n"
        "small = tfprune.rebuild(model)\n"
        "for m in (model, small):\n"
        "    y = keras.ops.convert_to_numpy(m(data['x']))\n"
        "    np.testing.assert_allclose(y, data['y'], atol=1e-5)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# -- what is refused ------------------------------------------------------------------------------


def test_what_cannot_be_wrapped():
    with pytest.raises(ValueError, match="`layer` must be a dense layer, an attention layer"):
        MaskedGroups(layers.LayerNormalization())
    with pytest.raises(ValueError, match="`layer` must be"):
        MaskedGroups(None)
    with pytest.raises(ValueError, match="is no product over the last axis"):
        MaskedGroups(layers.EinsumDense("abc,cde->abde", (None, 2, 4)))(X)


@pytest.mark.parametrize("mask", [[1, 1, 1], [1, 1, 1, 2], [1, 1, -0.1, 1], [1, 1, 1, np.nan]])
def test_a_mask_that_does_not_fit(mask):
    wrapper = MaskedGroups(layers.Dense(4))
    with pytest.raises(ValueError, match="once the layer is built"):
        wrapper.mask = mask
    wrapper(X)
    with pytest.raises(ValueError, match="`mask` must be 4 numbers from 0 to 1"):
        wrapper.mask = mask
    np.testing.assert_array_equal(wrapper.mask, np.ones(4))


def test_numbers_out_of_range():
    with pytest.raises(ValueError, match="`strength` must be a finite number, at least 0"):
        HardConcreteGroups(layers.Dense(4), strength=-1.0)
    with pytest.raises(ValueError, match="`score_scale` must be a finite number, above 0"):
        HardConcreteGroups(layers.Dense(4), score_scale=0.0)(X)
    wrapper = MovementGroups(layers.Dense(4))
    wrapper(X)
    with pytest.raises(ValueError, match="`share` must be a finite number"):
        wrapper.keep(1.5)


def test_movement_scores_are_those_that_are_attached():
    wrapper = MovementGroups(layers.MultiHeadAttention(4, 2))
    wrapper(X, X)
    assert type(wrapper.gate) is MovementScores
    assert [id(s.variable) for s in wrapper.gate.shares] == [
        id(s.variable) for s in kernels_of(wrapper.gate.structure)
    ]
    blocks = MovementGroups(layers.MultiHeadAttention(4, 2), block=(4, 4))
    blocks(X, X)
    assert [type(gate) for gate in blocks.gates] == 4 * [BlockScores]
