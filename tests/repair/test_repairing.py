import keras
import numpy as np
import pytest
from keras import layers, ops

import tfprune
from tests.models import noise, outputs, randomize
from tfprune.gates import HardConcrete, attach, detach
from tfprune.overlay.activations import observe
from tfprune.overlay.transforms import overlay_of
from tfprune.repair import repair

pytestmark = pytest.mark.sampled("jax")

X = noise(64, 6, 8)


def block(heads=4, units=16, bias=True):
    x = keras.Input((6, 8))
    h = layers.Add()(
        [x, layers.MultiHeadAttention(heads, 4, name="attention", use_bias=bias)(x, x)]
    )
    y = layers.Dense(8, use_bias=bias, name="out")(layers.Dense(units, "gelu", name="in")(h))
    return randomize(keras.Model(x, layers.Add()([h, y])), scale=0.4)


def halved(model, seed=0):
    draw = np.random.default_rng(seed)
    structures = tfprune.find_structures(model)
    keep = {}
    for s in structures:
        keep[s.name] = np.ones(s.groups, bool)
        keep[s.name][draw.permutation(s.groups)[: s.groups // 2]] = False
    return structures, keep


def error(model, wanted, x=X):
    return float(np.mean((outputs(model, x)[0] - wanted) ** 2))


@pytest.mark.parametrize("bias", [True, False])
def test_repaired_is_nearer_than_not_and_rebuilds_exactly(bias):
    wanted = outputs(block(bias=bias), X)[0]
    errors = {}
    for how in ("nothing", "bias", "least_squares"):
        model = block(bias=bias)
        structures, keep = halved(model)
        if how != "nothing":
            done = repair(model, structures, keep, [X[:40], X[40:]], how)
            assert len(done.errors) == 2 and not done.skipped
            assert set(done.positions.values()) == {64 * 6}
            np.testing.assert_allclose(
                outputs(tfprune.rebuild(model, keep), X)[0], outputs(model, X)[0], atol=1e-5
            )
        errors[how] = error(tfprune.rebuild(model, keep), wanted)
    assert errors["least_squares"] < 0.8 * errors["bias"] <= 0.8 * errors["nothing"] * 1.001


def test_each_layer_is_fitted_on_what_the_pruned_network_makes():
    """By hand, layer after layer, with NumPy's least squares."""
    model, start = block(), block()
    structures, keep = halved(model)
    repair(model, structures, keep, [X], ridge=0.0)

    def solved(read, stays, kernel, bias):
        whole = read @ kernel + bias
        with_one = np.hstack([read[:, stays], np.ones((len(read), 1))])
        fitted = np.linalg.lstsq(with_one.astype("float64"), whole.astype("float64"), rcond=None)[0]
        return fitted[:-1], fitted[-1]

    def reads(layer, of):
        return ops.convert_to_numpy(keras.Model(of.inputs, layer.input)(X)).reshape(-1, 16)

    # The heads first.
    attention = start.get_layer("attention")
    seen = []
    observe(start, [X], [attention.output_dense], lambda _, read: seen.append(read.inputs))
    heads = ops.convert_to_numpy(seen[0]).reshape(-1, 16)
    stays = np.repeat(keep["attention"], 4)
    dense = attention.output_dense
    kernel = ops.convert_to_numpy(dense.kernel).reshape(16, 8)
    fitted, bias = solved(heads, stays, kernel, ops.convert_to_numpy(dense.bias))
    got = model.get_layer("attention").output_dense
    found = ops.convert_to_numpy(got.kernel).reshape(16, 8)
    np.testing.assert_allclose(found[stays], fitted, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(ops.convert_to_numpy(got.bias), bias, rtol=1e-3, atol=1e-3)
    # Then the units, behind the heads as they are now.
    for one, other in zip(attention.weights, model.get_layer("attention").weights, strict=True):
        one.assign(other)
    units = reads(start.get_layer("out"), start)
    out, got = start.get_layer("out"), model.get_layer("out")
    stays = keep["in"]
    fitted, bias = solved(
        units, stays, ops.convert_to_numpy(out.kernel), ops.convert_to_numpy(out.bias)
    )
    np.testing.assert_allclose(
        ops.convert_to_numpy(got.kernel)[stays], fitted, rtol=5e-3, atol=5e-3
    )
    np.testing.assert_allclose(ops.convert_to_numpy(got.bias), bias, rtol=5e-3, atol=5e-3)


def test_units_that_others_repeat_go_without_a_loss():
    model = block()
    dense, out = model.get_layer("in"), model.get_layer("out")
    twice = np.tile(ops.convert_to_numpy(dense.kernel)[:, :8], 2)
    dense.kernel.assign(twice)
    dense.bias.assign(np.tile(ops.convert_to_numpy(dense.bias)[:8], 2))
    out.kernel.assign(noise(16, 8, seed=9))
    wanted = outputs(model, X)[0]
    structures = tfprune.find_structures(model)
    repair(model, structures, {"in": np.arange(16) < 8}, [X], ridge=1e-9)
    np.testing.assert_allclose(outputs(model, X)[0], wanted, atol=1e-3)
    assert not ops.convert_to_numpy(out.kernel)[8:].any()
    assert np.all(structures["in"].norms()) and np.all(structures["attention"].norms())


def test_padding_does_not_count():
    def encoder():
        ids = keras.Input((None,), dtype="int32")
        h = layers.Embedding(9, 8, mask_zero=True)(ids)
        h = layers.Dense(8, name="out")(layers.Dense(16, "gelu", name="in")(h))
        return randomize(keras.Model(ids, h), scale=0.4)

    ids = np.random.default_rng(0).integers(1, 9, (20, 6))
    padded = np.hstack([ids, np.zeros((20, 30), "int64")])
    kernels = []
    for x in (ids, padded):
        model = encoder()
        structures, keep = halved(model)
        done = repair(model, structures, keep, [x])
        assert done.positions == {"out": 120}
        kernels.append(ops.convert_to_numpy(model.get_layer("out").kernel))
    np.testing.assert_allclose(*kernels, rtol=1e-4, atol=1e-5)


def test_a_layer_in_several_places_is_fitted_to_all_of_them():
    def tied():
        x = keras.Input((6, 8))
        up, down = layers.Dense(16, "gelu", name="in"), layers.Dense(8, name="out")
        h = layers.Add()([x, down(up(x))])
        return randomize(keras.Model(x, layers.Add()([h, down(up(h))])), scale=0.4)

    wanted = outputs(tied(), X)[0]
    model, plain = tied(), tied()
    structures, keep = halved(model)
    done = repair(model, structures, keep, [X])
    assert done.positions == {"out": 2 * 64 * 6}
    tfprune.find_structures(plain)["in"].scale(keep["in"].astype("float32"))
    assert error(model, wanted) < 0.7 * error(plain, wanted)


def test_several_layers_that_read_the_same_units():
    def forked():
        x = keras.Input((8,))
        h = layers.Dense(16, "gelu", name="in")(x)
        return randomize(
            keras.Model(x, [layers.Dense(3, name="a")(h), layers.Dense(4, name="b")(h)]), scale=0.4
        )

    x = noise(200, 8)
    wanted, model = outputs(forked(), x), forked()
    structures, keep = halved(model)
    done = repair(model, structures, keep, [x])
    assert sorted(done.errors) == ["a", "b"]
    for name, (without, bias, fitted) in done.errors.items():
        assert fitted < bias <= without, name
    for got, want, name in zip(outputs(model, x), wanted, ("a", "b"), strict=True):
        share = np.sum(np.mean((got - want) ** 2, axis=0)) / np.sum(want.var(axis=0))
        assert share == pytest.approx(done.errors[name][2], rel=1e-3)


def test_key_value_groups():
    x = keras.Input((6, 8))
    h = layers.GroupQueryAttention(4, 4, 2, name="attention")(x, x)
    model = randomize(keras.Model(x, h), scale=0.4)
    wanted = outputs(model, X)[0]
    structures = tfprune.find_structures(model)
    assert structures["attention"].groups == 2
    done = repair(model, structures, {"attention": np.array([True, False])}, [X])
    ((without, _, fitted),) = done.errors.values()
    assert fitted < without
    share = np.sum(np.mean((outputs(model, X)[0] - wanted) ** 2, axis=(0, 1)))
    variance = np.sum(wanted.reshape(-1, 8).var(axis=0))
    assert share / variance == pytest.approx(fitted, rel=1e-3)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision(policy):
    keras.config.set_dtype_policy(policy)
    try:
        model, wanted = block(), outputs(block(), X)[0]
    finally:
        keras.config.set_dtype_policy("float32")
    structures, keep = halved(model)
    done = repair(model, structures, keep, [X])
    assert all(fitted < without for without, _, fitted in done.errors.values())
    assert np.isfinite(error(model, wanted))


def test_the_model_is_as_it_was_when_something_fails():
    model = block()
    before = model.get_weights()
    structures, keep = halved(model)
    wrong = X.copy()
    wrong[3, 2] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        repair(model, structures, keep, [X, wrong])
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    assert overlay_of(model.get_layer("out")) is None


def test_too_few_positions_are_said():
    model = block(units=64)
    structures, keep = halved(model)
    with pytest.warns(UserWarning, match="32 inputs on 6 positions"):
        repair(model, structures, {"in": keep["in"]}, [X[:1]])


def test_gates_are_left_alone():
    model = block()
    structures, keep = halved(model)
    attach(model, [HardConcrete(structures["in"])])
    done = repair(model, structures, keep, [X])
    detach(model)
    assert done.skipped == {"out": "gates or masks are on its weights"}
    assert "not fitted, gates" in str(done) and "attention_output" in str(done)
