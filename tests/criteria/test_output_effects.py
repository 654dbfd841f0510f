"""What errors of layers do to the outputs of a model."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from tests.models import assert_same, noise, outputs, randomize, transformer
from tfprune import criteria
from tfprune.budgets.choosing import choose
from tfprune.budgets.targets import Sparsity
from tfprune.overlay.transforms import hook_input, overlay_of
from tfprune.structures import find_structures

pytestmark = pytest.mark.sampled("jax")

X = noise(16, 6)  # As many as are looked at.


def chain(use_bias=True):
    """Units, and behind them units of another pair."""
    return randomize(
        keras.Sequential(
            [
                keras.Input((6,)),
                layers.Dense(8, "tanh", name="first"),
                layers.Dense(5, name="between", use_bias=use_bias),
                layers.Dense(7, "tanh", name="second"),
                layers.Dense(3, name="out", use_bias=use_bias),
            ]
        )
    )


@pytest.mark.parametrize("use_bias", [True, False])
def test_in_front_of_the_output_it_is_a_share_of_the_variance(use_bias):
    model = chain(use_bias)
    scores = criteria.reconstruction(model, X)
    variance = np.var(outputs(model, X)[0], axis=0).mean()
    assert scores.effects["second"] == pytest.approx(1 / (3 * variance), rel=1e-3)
    assert scores.errors("second")[-1] == pytest.approx(
        scores["second"].max() / (3 * variance), rel=1e-3
    )


def test_it_is_what_the_outputs_change_by():
    """The lower half of the units at their mean, by hand."""
    model = chain()
    scores = criteria.reconstruction(model, X)
    first, between, second, out = model.layers
    hidden = ops.convert_to_numpy(first(X))
    held = hidden.copy()
    gone = np.argsort(scores["first"])[:4]
    held[:, gone] = hidden.mean(axis=0)[gone]
    before = outputs(model, X)[0]
    after = ops.convert_to_numpy(out(second(between(held))))
    change = np.mean((after - before) ** 2) / np.var(before, axis=0).mean()
    kernel = ops.convert_to_numpy(between.kernel)
    error = np.mean(np.sum(((held - hidden) @ kernel) ** 2, axis=1))
    assert scores.effects["first"] == pytest.approx(change / error, rel=1e-3)


@pytest.mark.parametrize("name", ["activation", "wanda"])
@pytest.mark.parametrize("use_bias", [True, False])
def test_scores_of_single_groups_become_what_the_outputs_change_by(name, use_bias):
    model = chain(use_bias)
    scores = getattr(criteria, name)(model, X)
    first, between, second, out = model.layers
    held = ops.convert_to_numpy(first(X)).copy()
    gone = np.argsort(scores["first"])[:4]
    means = held.mean(axis=0)[gone]
    held[:, gone] = means if use_bias and name == "activation" else 0.0
    before = outputs(model, X)[0]
    after = ops.convert_to_numpy(out(second(between(held))))
    change = np.mean((after - before) ** 2) / np.var(before, axis=0).mean()
    assert scores.errors("first")[4] == pytest.approx(change, rel=1e-3)


@pytest.mark.parametrize("name", ["reconstruction", "activation", "wanda"])
def test_scales_of_layers_do_not_matter(name):
    model, score = chain(), getattr(criteria, name)
    found, target = find_structures(model), Sparsity(0.4)
    one = score(model, X)
    chosen = choose(target, model, found, one, "error")
    between, second = model.get_layer("between"), model.get_layer("second")
    between.kernel.assign(between.kernel / 100)
    between.bias.assign(between.bias / 100)
    second.kernel.assign(second.kernel * 100)
    other = score(model, X)
    assert other["first"].max() == pytest.approx(1e-4 * one["first"].max(), rel=1e-3)
    np.testing.assert_allclose(other.errors("first"), one.errors("first"), rtol=2e-3)
    for structure, stays in choose(target, model, found, other, "error").items():
        np.testing.assert_array_equal(stays, chosen[structure])


@pytest.mark.parametrize("name", ["reconstruction", "activation", "wanda"])
def test_groups_that_emit_nothing_leave_the_effect_of_the_others(name):
    """In a later round half of the groups and more have gone before."""
    model = chain()
    first, between = model.layers[:2]
    dead = np.arange(8) % 4 > 0
    first.kernel.assign(ops.convert_to_numpy(first.kernel) * ~dead)
    first.bias.assign(ops.convert_to_numpy(first.bias) * ~dead)
    between.kernel.assign(ops.convert_to_numpy(between.kernel) * ~dead[:, None])
    scores = getattr(criteria, name)(model, X)
    errors = scores.errors("first")
    assert errors[6] < 1e-9 < 1e-3 < errors[7] < errors[8]


def test_scores_of_single_groups_run_the_model_for_effects_when_they_are_needed():
    model, runs = chain(), []

    def note(inputs, training):
        runs.append(len(inputs))
        return inputs

    hook_input(model.layers[0], note)
    scores = criteria.activation(model, X)
    assert runs == [16]
    errors = scores.errors("first")
    scores.replaced(dict(scores)).errors("second")
    # The outputs as they are, and with one structure after the other held.
    assert len(runs) == 2 + len(find_structures(model))
    np.testing.assert_allclose(scores.errors("first"), errors)


def test_heads_and_the_model_stays_as_it_was():
    model = randomize(transformer(heads=4, units=16))
    x = noise(16, 3, 8)
    before = outputs(model, x)
    scores = criteria.reconstruction(model, x)
    assert set(scores.effects) == {s.name for s in find_structures(model)}
    assert all(effect > 0 for effect in scores.effects.values())
    assert_same(before, outputs(model, x), 0)
    for layer in model._flatten_layers():
        overlay = overlay_of(layer)
        assert overlay is None or not overlay.hooks


def test_constant_outputs_tell_nothing():
    model = chain()
    out = model.get_layer("out")
    out.kernel.assign(0 * out.kernel)
    assert set(criteria.reconstruction(model, X).effects.values()) == {1.0}


def test_of_many_positions_a_few_examples_are_enough():
    x = keras.Input((100, 6))
    y = layers.Dense(4, name="out")(layers.Dense(8, "tanh", name="in")(x))
    model, rows = randomize(keras.Model(x, y)), []
    found = find_structures(model)

    def note(inputs, training):
        rows.append(inputs.shape[0])
        return inputs

    hook_input(model.get_layer("in"), note)
    criteria.reconstruction(model, noise(40, 100, 6), found)
    # Two batches for the sums, the outputs of 16 examples and of 4, and those of 4 with units held.
    assert rows == [32, 8, 16, 4, 4]


def test_a_batch_of_fixed_size_stays_whole():
    model = chain()
    fixed = keras.Input(batch_shape=(8, 6))
    y = fixed
    for layer in model.layers:
        y = layer(y)
    scores = criteria.reconstruction(keras.Model(fixed, y), noise(32, 6), batch_size=8)
    assert all(effect > 0 for effect in scores.effects.values())
