import math

import keras
import numpy as np
import pytest
from keras import ops

import tfprune
from tests.models import assert_same, noise, outputs, randomize, transformer
from tfprune.embeddings.factorized_embedding import FactorizedEmbedding
from tfprune.gates import BlockScores, HardConcrete, MovementScores, attach, detach, gates_of
from tfprune.gates.gate import kernels_of
from tfprune.gates.movement import of_all_kernels
from tfprune.overlay.transforms import transforms_of

pytestmark = pytest.mark.sampled

X = noise(4, 3, 8)


def gates_for(model, kind):
    structures = tfprune.find_structures(model)
    if kind is BlockScores:
        return [
            BlockScores(s, share, (3, 5), name=f"blocks_{i}_{j}")
            for i, s in enumerate(structures)
            for j, share in enumerate(s.slices)
            if share.attribute == "kernel"
        ]
    return [kind(s) for s in structures]


def grouped_query(width=8):
    inputs = keras.Input((None, width))
    layer = keras.layers.GroupQueryAttention(4, 4, 2, name="attention")
    x = layer(inputs, inputs)
    x = keras.layers.EinsumDense("abc,cd->abd", (None, 6), bias_axes="d", activation="gelu")(x)
    return keras.Model(inputs, keras.layers.Dense(3)(x))


def keras_hub_encoder():
    keras_hub = pytest.importorskip("keras_hub")

    inputs = keras.Input((None, 8))
    layer = keras_hub.layers.TransformerEncoder(12, 2)
    return keras.Model(inputs, layer(inputs))


class Subclassed(keras.Model):
    def __init__(self, **options):
        super().__init__(**options)
        self.attention = keras.layers.MultiHeadAttention(2, 4)
        self.inner = keras.layers.Dense(12, "gelu")
        self.outer = keras.layers.Dense(3)

    def call(self, x):
        return self.outer(self.inner(x + self.attention(x, x)))


def subclassed():
    model = Subclassed(name="subclassed")
    model(X)
    return model


def open_half(gates, seed=0):
    draw = np.random.default_rng(seed)
    for gate in gates:
        gate.scores.assign(draw.choice([-4.0, 0.3, 4.0], gate.scores.shape))
        if hasattr(gate, "threshold"):
            gate.threshold.assign(0.0)


@pytest.mark.parametrize("kind", [HardConcrete, MovementScores, BlockScores])
@pytest.mark.parametrize("make", [transformer, grouped_query, keras_hub_encoder])
def test_gates_change_nothing_until_they_close_and_leave_no_trace(make, kind, tmp_path):
    model = randomize(make())
    before, weights = outputs(model, X), model.get_weights()
    gates = attach(model, gates_for(model, kind))
    assert_same(before, outputs(model, X), 1e-6)
    assert gates_of(model) == list(gates) and len(model.trainable_variables) > len(weights) - 1
    open_half(gates)
    gated = outputs(model, X)
    assert np.abs(gated[0] - before[0]).max() > 1e-3
    model.save(tmp_path / "during.keras")
    loaded = keras.saving.load_model(tmp_path / "during.keras", compile=False)
    assert_same(gated, outputs(loaded, X), 1e-6)
    assert len(loaded.weights) == len(weights)
    detach(model)
    assert not gates_of(model)
    assert_same(before, outputs(model, X), 0)
    for old, new in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert not any(transforms_of(layer) for layer in model._flatten_layers())


@pytest.mark.parametrize("kind", [HardConcrete, MovementScores, BlockScores])
@pytest.mark.parametrize("make", [transformer, grouped_query, keras_hub_encoder, subclassed])
def test_folded_and_rebuilt_models_equal_the_gated_one(make, kind):
    model = randomize(make())
    open_half(attach(model, gates_for(model, kind)))
    gated = outputs(model, X)
    small = tfprune.rebuild(model)
    assert_same(gated, outputs(small, X))
    assert gates_of(model) and not gates_of(small)
    assert_same(gated, outputs(model, X), 0)
    if kind is not BlockScores:
        assert small.count_params() < model.count_params() - sum(
            gate.count_params() for gate in gates_of(model)
        )
    detach(model, fold=True)
    assert_same(gated, outputs(model, X))
    assert_same(gated, outputs(tfprune.rebuild(model), X))


def test_gates_train_with_the_model():
    model = randomize(transformer())
    gates = attach(model, gates_for(model, MovementScores))
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    before = [ops.convert_to_numpy(g.scores).copy() for g in gates]
    model.fit(X, noise(4, 3, 3, seed=2), epochs=2, verbose=0)
    for gate, old in zip(gates, before, strict=True):
        moved = ops.convert_to_numpy(gate.scores) != old
        assert np.any(moved)  # A relu that is never on moves nothing.


@pytest.mark.tensorflow_only  # Gradients are taken with its tape.
def test_movement_learns_from_weight_times_gradient():
    import tensorflow as tf

    model = randomize(transformer())
    gates = attach(model, [*gates_for(model, MovementScores)])
    detached = gates_for(model, BlockScores)
    for gate in gates:
        gate.threshold.assign(-1.0)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(model(X, training=True)))
    kernels = [share.variable.value for gate in gates for share in gate.shares]
    scores = [gate.scores.value for gate in gates]
    grads = tape.gradient(loss, [*scores, *kernels])
    products = {}
    for gate, got in zip(gates, grads, strict=False):
        expected = 0.0
        for share in gate.shares:
            # All masks are open, so the gradient of W' is that of W.
            place = next(i for i, k in enumerate(kernels) if k is share.variable.value)
            product = share.variable.numpy() * grads[len(gates) + place].numpy()
            products[id(share.variable)] = product
            along = np.moveaxis(product, share.axis, 0).reshape(gate.structure.groups, -1)
            expected = expected + along.sum(axis=1)
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-3, atol=1e-4)
    detach(model)
    attach(model, detached)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(model(X, training=True)))
    for gate, got in zip(
        detached, tape.gradient(loss, [g.scores.value for g in detached]), strict=True
    ):
        product = products[id(gate.shares[0].variable)].reshape(gate.matrix)
        for row in range(got.shape[0]):
            for column in range(got.shape[1]):
                block = product[3 * row : 3 * row + 3, 5 * column : 5 * column + 5]
                np.testing.assert_allclose(got[row, column], block.sum(), rtol=1e-3, atol=1e-4)


def test_closed_blocks_are_masked_and_nothing_else():
    model = randomize(transformer())
    gates = attach(model, gates_for(model, BlockScores))
    open_half(gates)
    for gate in gates:
        mask = ops.convert_to_numpy(gate.over(gate.shares[0], False)).reshape(gate.matrix)
        for row in range(gate.matrix[0]):
            for column in range(gate.matrix[1]):
                score = ops.convert_to_numpy(gate.scores)[row // 3, column // 5]
                assert mask[row, column] == float(score > 0)


def test_a_mask_says_which_are_open_whatever_the_scores():
    """The gradient still reaches every score as if the mask were the score."""
    model = randomize(transformer())
    gates = attach(model, [*gates_for(model, MovementScores)])
    for gate in gates:
        gate.scores.assign(noise(*gate.scores.shape))
        gate.set_threshold(0.3)
        mask = np.arange(gate.structure.groups) % 2
        gate.set_mask(mask)
        np.testing.assert_array_equal(gate.open_groups(), mask == 1)
        gate.set_threshold(0.3)
        scores = ops.convert_to_numpy(gate.scores)
        np.testing.assert_array_equal(gate.open_groups(), scores > 0.3)
        gate.set_mask(mask)
        gate.release()
        assert gate.open_groups().all()
        with pytest.raises(ValueError, match="`mask` must be"):
            gate.set_mask(np.ones(3))
        with pytest.raises(ValueError, match="`threshold` must be"):
            gate.set_threshold(np.nan)


def test_which_blocks_hold_only_weights_of_some_groups():
    model = randomize(transformer())  # Two heads of four: columns 0 to 3 and 4 to 7.
    heads = tfprune.find_structures(model)["attention"]
    query, output = (next(s for s in heads.slices if s.role == r) for r in ("producer", "consumer"))
    second = np.array([False, True])
    within = BlockScores(heads, query, (8, 3)).blocks_within(second)
    np.testing.assert_array_equal(within, [[False, False, True]])  # 0-2, 3-5 and 6-7.
    within = BlockScores(heads, output, (4, 8)).blocks_within(second)
    np.testing.assert_array_equal(within, [[False], [True]])


def test_a_head_leaves_as_soon_as_one_of_its_kernels_is_masked():
    model = randomize(transformer(heads=5))
    heads = tfprune.find_structures(model)["attention"]
    gates = [BlockScores(heads, s, (4, 4), name=f"{i}") for i, s in enumerate(kernels_of(heads))]
    for place, gate in enumerate(gates):  # Blocks of q, k, v and o; head 4 keeps a block of each.
        closed = gate.blocks_within(np.arange(5) == place)
        scores = np.where(closed, -2.0, 1.0)
        scores.flat[np.flatnonzero(gate.blocks_within(np.arange(5) == 4))[0]] = -3.0
        gate.scores.assign(scores)
        gate.set_threshold(0.0)
    each = [gate.open_groups() for gate in gates]
    np.testing.assert_array_equal(of_all_kernels(gates, each), [False] * 4 + [True])
    ranks = of_all_kernels(gates, [gate.group_scores() for gate in gates])
    np.testing.assert_array_equal(ranks, [-2, -2, -2, -2, 1])
    units = tfprune.find_structures(model)["ffn_in"]
    gates = [BlockScores(units, s, (4, 1), name=f"u{i}") for i, s in enumerate(kernels_of(units))]
    gates[1].scores.assign(noise(*gates[1].scores.shape))
    gates[1].set_threshold(0.0)
    both = of_all_kernels(gates, [gate.open_groups() for gate in gates])
    np.testing.assert_array_equal(both, gates[1].open_groups())


def test_a_mask_opens_the_best_block_of_what_stays():
    model = randomize(transformer())
    heads = tfprune.find_structures(model)["attention"]
    gate = BlockScores(heads, heads.slices[0], (4, 2))  # Two heads of two blocks' width.
    gate.scores.assign([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 8.0, 7.0]])
    gate.set_mask([[0, 1, 0, 0], [0, 0, 0, 0]])
    got = gate.mask_that_leaves(np.array([True, True]))
    np.testing.assert_array_equal(got, [[0, 1, 0, 0], [0, 0, 1, 0]])
    got = gate.mask_that_leaves(np.array([True, False]))
    np.testing.assert_array_equal(got, [[0, 1, 0, 0], [0, 0, 0, 0]])


def test_masked_blocks_are_drawn_near_the_mean_of_the_kernel():
    model = randomize(transformer())
    units = tfprune.find_structures(model)["ffn_in"]
    gate = BlockScores(units, kernels_of(units)[0], (4, 6))
    gate.set_mask([[1, 0], [0, 1]])
    value = ops.convert_to_numpy(gate.shares[0].variable)
    mask = np.kron([[1, 0], [0, 1]], np.ones((4, 6))) == 1
    filled = gate.filled_kernel(seed=3)
    np.testing.assert_array_equal(filled[mask], value[mask])
    drawn = np.random.default_rng(3).normal(size=value.shape)[~mask]
    expected = value[mask].mean() + 0.01 * value[mask].std() * drawn
    np.testing.assert_allclose(filled[~mask], expected, rtol=1e-4, atol=1e-6)


def test_block_masks_are_folded_as_they_are():
    """A head without query still looks at all positions alike; it is no dead head yet."""
    model = randomize(transformer())
    gates = attach(model, gates_for(model, BlockScores))
    query = next(g for g in gates if g.structure.kind == "heads")
    query.set_mask(np.zeros(query.scores.shape))
    gated = outputs(model, X)
    detach(model, fold=True)
    assert_same(gated, outputs(model, X), 1e-6)
    assert np.all(tfprune.find_structures(model)["attention"].norms() > 0)


def test_hard_concrete_statistics_follow_the_equations():
    units = 9
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(units), keras.layers.Dense(1)])
    (structure,) = tfprune.find_structures(model)
    gate = HardConcrete(structure, seed=3)
    alpha = np.linspace(-3, 3, units)
    gate.scores.assign(alpha)
    drawn = np.stack([ops.convert_to_numpy(gate.values(training=True)) for _ in range(4000)])
    assert drawn.min() == 0 and drawn.max() == 1
    u = np.random.default_rng(0).uniform(size=(200000, 1))
    s = 1 / (1 + np.exp(-(np.log(u) - np.log(1 - u) + alpha) * 1.5))
    reference = np.clip(s * 1.2 - 0.1, 0, 1)
    np.testing.assert_allclose(drawn.mean(0), reference.mean(0), atol=0.025)
    np.testing.assert_allclose((drawn == 0).mean(0), (reference == 0).mean(0), atol=0.03)
    expected = ops.convert_to_numpy(gate.expected())
    np.testing.assert_allclose(expected, (reference > 0).mean(0), atol=0.01)
    np.testing.assert_allclose(
        expected, 1 / (1 + np.exp(-(alpha - 2 / 3 * math.log(0.1 / 1.1)))), rtol=1e-5
    )
    fixed = np.clip(1.2 / (1 + np.exp(-alpha)) - 0.1, 0, 1)
    np.testing.assert_allclose(ops.convert_to_numpy(gate.values()), fixed, rtol=1e-5, atol=1e-6)


def test_gates_draw_in_training_only():
    model = randomize(transformer())
    gates = attach(model, [HardConcrete(s, seed=1) for s in tfprune.find_structures(model)])
    for gate in gates:
        gate.scores.assign(np.zeros(gate.scores.shape))
    first, second = (ops.convert_to_numpy(model(X, training=True)) for _ in range(2))
    assert np.abs(first - second).max() > 1e-3
    assert_same(outputs(model, X), outputs(model, X), 0)


def test_ranks_of_an_embedding_are_drawn_where_its_call_does_not_say_that_it_trains():
    ids = keras.Input((5,), dtype="int32")
    x = FactorizedEmbedding(11, 8, rank=6)(ids)
    model = randomize(keras.Model(ids, keras.layers.Dense(1)(keras.layers.Dropout(0.0)(x))))
    (gate,) = attach(model, [HardConcrete(s, 0.0, seed=0) for s in tfprune.find_structures(model)])
    given, before = np.arange(10).reshape(2, 5), np.array(gate.scores)
    first, second = (ops.convert_to_numpy(model(given, training=True)) for _ in range(2))
    assert np.abs(first - second).max() > 1e-3
    assert_same(outputs(model, given), outputs(model, given), 0)
    model.compile(keras.optimizers.SGD(1.0), "mse")
    model.fit(given, np.ones((2, 5, 1)), epochs=5, verbose=0)
    assert np.all(np.array(gate.scores) != before)


def test_bad_input():
    model = transformer()
    structures = tfprune.find_structures(model)
    attach(model, [HardConcrete(structures[0])])
    with pytest.raises(ValueError, match="has gates over"):
        attach(model, [HardConcrete(structures[0])])
    for make in (
        lambda: HardConcrete(structures[0], score_scale=0),
        lambda: MovementScores(structures[0], score_scale=-1),
    ):
        with pytest.raises(ValueError, match="`score_scale`"):
            make()
    for block in ((0, 3), (3,), (2.5, 1)):
        with pytest.raises(ValueError, match="`block`"):
            BlockScores(structures[0], structures[0].slices[0], block)
    bias = next(s for s in structures[0].slices if s.attribute == "bias")
    with pytest.raises(ValueError, match="`share`"):
        BlockScores(structures[0], bias)


def test_what_was_compiled_before_is_compiled_anew():
    model = randomize(transformer())
    model.compile(loss="mse")
    y = noise(4, 3, 3, seed=5)
    before = model.predict(X, verbose=0), model.evaluate(X, y, verbose=0)
    gates = attach(model, gates_for(model, HardConcrete))
    for gate in gates:
        gate.fix(np.linspace(0, 1, gate.structure.groups).astype("float32"))
    (gated,) = outputs(model, X)
    np.testing.assert_allclose(model.predict(X, verbose=0), gated, rtol=1e-4, atol=1e-5)
    expected = np.mean((gated - y) ** 2)
    assert model.evaluate(X, y, verbose=0) == pytest.approx(expected, rel=1e-4)
    assert expected != pytest.approx(before[1], rel=1e-2)
    detach(model)
    np.testing.assert_allclose(model.predict(X, verbose=0), before[0], rtol=1e-5, atol=1e-6)
    assert model.evaluate(X, y, verbose=0) == pytest.approx(before[1], rel=1e-5)
