"""Wrappers in loops of one's own, and under the callbacks."""

import inspect

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfprune
from tests.models import assert_same, noise, outputs
from tfprune.callbacks import GroupLasso, HardConcreteGates, MovementPruning
from tfprune.gates import gates_of
from tfprune.wrappers import HardConcreteGroups, MaskedGroups, MovementGroups

pytestmark = pytest.mark.sampled

X = noise(32, 5, 8)
Y = X[..., :1] - X[..., 1:2]


def model_of(kind, **options):
    """Wrapped attention, a feed-forward pair whose first layer is wrapped, and a plain pair."""
    inputs = keras.Input((5, 8))
    heads = kind(layers.MultiHeadAttention(4, 2, name="attention"), **options)
    units = kind(layers.Dense(12, "relu", name="ffn_in"), **options)
    x = layers.Add()([inputs, heads(inputs, inputs)])
    x = layers.Add()([x, layers.Dense(8, name="ffn_out")(units(x))])
    x = layers.Dense(6, "relu", name="last_in")(x)
    return keras.Model(inputs, layers.Dense(1, name="last_out")(x)), heads, units


def compiled(kind, **options):
    model, heads, units = model_of(kind, **options)
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model, heads, units


def fit(model, *callbacks, epochs=3):
    model.fit(X, Y, epochs=epochs, batch_size=8, verbose=0, shuffle=False, callbacks=[*callbacks])


def values(wrapper):
    return ops.convert_to_numpy(wrapper.gate.values())


# -- by themselves --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind, options", [(HardConcreteGroups, {"seed": 0}), (MovementGroups, {}), (MaskedGroups, {})]
)
def test_scores_learn_and_masks_do_not(kind, options):
    model, heads, units = compiled(kind, **options)
    trained = sum("scores" in v.path for v in model.trainable_variables)
    assert trained == (0 if kind is MaskedGroups else 2)
    before = [np.array(v) for w in (heads, units) for v in w.gate.variables]
    fit(model, epochs=1)
    after = [np.array(v) for w in (heads, units) for v in w.gate.variables]
    moved = [not np.array_equal(a, b) for a, b in zip(before, after, strict=True)]
    assert any(moved) == (kind is not MaskedGroups)


def test_the_strength_is_in_the_losses_and_can_be_changed():
    model, heads, _ = model_of(HardConcreteGroups, strength=0.5, initial=0.3)
    chance = 1 / (1 + np.exp(-(0.3 + 2 / 3 * np.log(11))))
    np.testing.assert_allclose([float(x) for x in model.losses], [0.5 * chance] * 2, rtol=1e-5)
    np.testing.assert_allclose(float(heads.expected_share()), chance, rtol=1e-5)
    heads.strength = 0.0
    np.testing.assert_allclose(sum(float(x) for x in model.losses), 0.5 * chance, rtol=1e-5)
    model, heads, _units = model_of(MovementGroups, strength=0.1)
    np.testing.assert_allclose(sum(float(x) for x in model.losses), 0.1 * 0.5 * 16, rtol=1e-5)


def test_a_penalty_closes_gates_and_rebuild_removes_them():
    model, heads, units = compiled(HardConcreteGroups, strength=3.0, seed=0, score_scale=40.0)
    fit(model, epochs=8)
    assert not (heads.open_groups().all() or units.open_groups().all())
    small = tfprune.rebuild(model)
    left = {s.name: s.groups for s in tfprune.find_structures(small)}
    assert left.get("ffn_in", 0) == units.open_groups().sum()
    assert left.get("attention", 0) == heads.open_groups().sum()
    assert_same(outputs(model, X), outputs(small, X))


def test_a_step_of_movement_follows_the_weights():
    layer = layers.Dense(3, use_bias=False)
    wrapper = MovementGroups(layer)
    model = keras.Sequential([keras.Input((8,)), wrapper])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    x, y = X[:4, 0], noise(4, 3, seed=2)
    kernel = np.array(layer.kernel)
    gradient = x.T @ (2 * (x @ kernel - y) / y.size)
    model.fit(x, y, batch_size=4, verbose=0)
    np.testing.assert_allclose(wrapper.scores, -0.1 * (gradient * kernel).sum(0), atol=1e-6)


def test_keep_masks_the_lowest_scores():
    wrapper = MovementGroups(layers.Dense(4))
    wrapper(X)
    wrapper.keep(0.5)  # All are equal.
    assert wrapper.open_groups().all()
    wrapper.gate.scores.assign([0.3, -0.2, 0.1, -0.4])
    for share, expected in ((1.0, [1, 1, 1, 1]), (0.75, [1, 1, 1, 0]), (0.25, [1, 0, 0, 0])):
        wrapper.keep(share)
        np.testing.assert_array_equal(wrapper.open_groups(), np.array(expected, bool))
    wrapper.keep(0)
    assert not wrapper.open_groups().any()


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="a loop written in JAX")
def test_the_jax_loop_of_the_docstring():
    code = inspect.getdoc(HardConcreteGroups).split("```python\n")[1].split("```")[0]
    names = {}
    exec(code, names)
    left = names["hidden"].open_groups().sum()
    assert left < 8 and names["small"].layers[0].units == left


# -- driven by callbacks --------------------------------------------------------------------------


@pytest.mark.parametrize("sequential", [False, True])
def test_a_callback_drives_the_gates_that_are_there(sequential):
    if sequential:
        units = HardConcreteGroups(layers.Dense(12, "relu", name="ffn_in"), seed=0)
        model = keras.Sequential([keras.Input((5, 8)), units, layers.Dense(1)])
        model.compile(keras.optimizers.Adam(0.01), "mse")
        wrappers = [units]
    else:
        model, *wrappers = compiled(HardConcreteGroups, seed=0)
    gates = HardConcreteGates(target=tfprune.Sparsity(0.5), verbose=0)
    variables = len(model.variables)
    fit(model, gates)
    driven = [wrapper.gate for wrapper in wrappers]
    assert [gate for gate in gates.gates if gate.permanent] == driven
    assert len(gates.gates) == len(driven) + (0 if sequential else 1)
    assert not gates_of(model) and len(model.variables) == variables
    assert all(gate.is_fixed and gate.score_scale == 1.0 for gate in driven)
    small = tfprune.rebuild(model)
    left = {s.name: s.groups for s in tfprune.find_structures(small)}
    for wrapper in wrappers:
        assert left.get(wrapper.layer.name, 0) == wrapper.open_groups().sum()
    assert_same(outputs(model, X), outputs(small, X))
    whole = tfprune.find_structures(model).weights
    assert tfprune.find_structures(small).weights <= 0.5 * whole
    fit(model, epochs=1)  # Without a callback: what was chosen stays.
    assert_same(outputs(model, X), outputs(tfprune.rebuild(model), X))
    assert {s.name: s.groups for s in tfprune.find_structures(tfprune.rebuild(model))} == left


def test_another_fit_chooses_anew():
    model, heads, units = compiled(HardConcreteGroups, seed=0)
    fit(model, HardConcreteGates("heads", target=tfprune.Sparsity(0.25), verbose=0))
    assert heads.open_groups().sum() == 3 and heads.gate.is_fixed and not units.gate.is_fixed
    fit(model, HardConcreteGates("heads", target=tfprune.Sparsity(0.5), verbose=0))
    small = tfprune.rebuild(model)
    assert small.get_layer("attention").num_heads == 2
    assert_same(outputs(model, X), outputs(small, X))


@pytest.mark.parametrize("method, options", [("struct", {}), ("block", {"block": (4, 4)})])
def test_movement_pruning_drives_scores(method, options):
    model, heads, units = compiled(MovementGroups, **options)
    pruning = MovementPruning(method, target=tfprune.Sparsity(0.5), verbose=0, **options)
    fit(model, pruning, epochs=4)
    theirs = [gate for wrapper in (heads, units) for gate in wrapper.gates]
    assert {id(g) for g in theirs} == {id(g) for g in pruning.gates if g.permanent}
    assert all(gate.is_fixed for gate in theirs)
    small = tfprune.rebuild(model)
    whole = tfprune.find_structures(model).weights
    assert tfprune.find_structures(small).weights <= 0.51 * whole
    assert_same(outputs(model, X), outputs(small, X))


def test_gates_of_another_kind_come_on_top():
    model, heads, _units = compiled(MaskedGroups)
    heads.mask = [1, 0, 0.5, 1]
    gates = HardConcreteGates(target=tfprune.Sparsity(0.5), verbose=0)
    fit(model, gates)
    assert not any(gate.permanent for gate in gates.gates) and not gates_of(model)
    np.testing.assert_array_equal(heads.mask, [1, 0, 0.5, 1])
    assert_same(outputs(model, X), outputs(tfprune.rebuild(model), X))


def test_a_callback_without_gates():
    model, _heads, _units = compiled(HardConcreteGroups, seed=0)
    model.optimizer.learning_rate = 0.05
    fit(model, GroupLasso("ffn", strength=50.0, stop=None, verbose=0), epochs=8)
    small = tfprune.rebuild(model)
    assert tfprune.find_structures(small).weights < tfprune.find_structures(model).weights
    assert_same(outputs(model, X), outputs(small, X))


class Stops(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        raise KeyboardInterrupt


def test_an_interrupted_fit_leaves_the_wrappers_as_they_were():
    model, heads, units = compiled(HardConcreteGroups, seed=0)
    structures = [heads.gate.structure, units.gate.structure]
    with pytest.raises(KeyboardInterrupt):
        fit(model, HardConcreteGates(target=tfprune.Sparsity(0.5), verbose=0), Stops())
    model.predict(X, verbose=0)
    for wrapper, structure in zip((heads, units), structures, strict=True):
        assert wrapper.gate.structure is structure and not wrapper.gate.is_fixed
        assert wrapper.gate.score_scale == 1.0
    fit(model, epochs=1)


def test_a_file_saved_in_the_fit_computes_what_the_model_does(tmp_path):
    model, _heads, _units = compiled(HardConcreteGroups, seed=0)
    path = tmp_path / "m.keras"
    shown = []

    class Save(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            shown.append(self.model.predict(X, verbose=0))
            self.model.save(path)

    fit(model, Save(), HardConcreteGates(target=tfprune.Sparsity(0.5), verbose=0), epochs=1)
    loaded = keras.saving.load_model(path)
    np.testing.assert_allclose(loaded.predict(X, verbose=0), shown[0], atol=1e-5)
