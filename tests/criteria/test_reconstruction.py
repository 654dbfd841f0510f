"""The criterion `reconstruction`, against least squares that are solved anew without each group."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfprune
from tests.models import assert_same, noise, outputs, randomize
from tfprune import criteria
from tfprune.criteria.brain_surgeon import removal_losses
from tfprune.criteria.consumers import Consumer
from tfprune.overlay.moments import Moments
from tfprune.repair import repair

pytestmark = pytest.mark.sampled("jax")


def consumer(groups=9, size=1, width=5, has_bias=True, seed=0, interleaved=False):
    """A kernel that reads inputs that depend on one another."""
    inputs = groups * size
    x = noise(200, inputs, seed=seed) @ noise(inputs, inputs, seed=seed + 1) + 0.7
    moments = Moments(inputs)
    moments.add(x)
    owners = np.arange(inputs) % groups if interleaved else np.repeat(np.arange(groups), size)
    kernel = noise(inputs, width, seed=seed + 2).astype("float64")
    return Consumer(kernel, owners, has_bias, moments), x.astype("float64")


def refitted(one, x, gone, ridge):
    """The least loss without some groups, by ridge regression."""
    centred = x - x.mean(axis=0)
    x = centred if one.has_bias else x
    products = x.T @ x / len(x)
    strength = ridge * np.trace(products) / len(products)
    stays = ~np.isin(one.owners, gone)
    whole = products + strength * np.eye(len(products))
    change = np.zeros_like(one.kernel)
    change[~stays] = -one.kernel[~stays]
    target = -whole[np.ix_(stays, ~stays)] @ change[~stays]
    if stays.any():
        change[stays] = np.linalg.solve(whole[np.ix_(stays, stays)], target)
    return np.sum(change * (whole @ change))


@pytest.mark.parametrize("ridge", [1e-6, 1e-2])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"has_bias": False},
        {"size": 3},
        {"size": 2, "interleaved": True},
    ],
)
def test_one_at_a_time_it_is_greedy_and_each_loss_is_that_of_the_best_fit(options, ridge):
    one, x = consumer(**options)
    losses = removal_losses([one], 9, ridge, at_once=0)
    gone = []
    for group in np.argsort(losses):
        left = [g for g in range(9) if g not in gone]
        each = {g: refitted(one, x, [*gone, g], ridge) for g in left}
        assert min(each, key=each.get) == group
        assert losses[group] == pytest.approx(each[group], rel=1e-4, abs=1e-9)
        gone.append(group)


def test_losses_of_consumers_are_added():
    (one, x), (other, y) = consumer(), consumer(width=2, has_bias=False, seed=7)
    losses = removal_losses([one, other], 9, 1e-3, at_once=0)
    gone = []
    for group in np.argsort(losses):
        gone.append(group)
        both = refitted(one, x, gone, 1e-3) + refitted(other, y, gone, 1e-3)
        assert losses[group] == pytest.approx(both, rel=1e-4)


@pytest.mark.parametrize("at_once", [0.1, 0.4, 1.0])
def test_several_at_a_time_the_losses_are_still_those_of_the_best_fit(at_once):
    one, x = consumer(groups=20)
    losses = removal_losses([one], 20, 1e-3, at_once)
    assert np.all(np.diff(np.sort(losses)) >= 0)
    order = np.argsort(losses)
    for number in range(1, 21):
        best = refitted(one, x, order[:number], 1e-3)
        assert losses[order[number - 1]] == pytest.approx(best, rel=1e-4)
    greedy = np.sort(removal_losses([one], 20, 1e-3, at_once=0))
    assert np.mean(np.sort(losses)) < {0.1: 1.2, 0.4: 1.5, 1.0: 3.0}[at_once] * np.mean(greedy)


def test_of_two_units_that_emit_the_same_one_leaves_first_and_one_stays():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(6, name="in"), layers.Dense(4)])
    randomize(model, scale=0.4)
    hidden = model.layers[0]
    kernel = np.concatenate([noise(8, 3)] * 2, axis=1)
    hidden.kernel.assign(kernel)
    hidden.bias.assign(np.zeros(6))
    x = noise(64, 8)
    losses = criteria.reconstruction(model, x, ridge=1e-9)["in"]
    first = set(np.argsort(losses)[:3] % 3)
    assert first == {0, 1, 2}  # One of each pair.
    assert np.sort(losses)[2] < 1e-6 < 1e-2 < np.sort(losses)[3]


def attention():
    x = keras.Input((6, 8))
    h = layers.Add()([x, layers.GroupQueryAttention(4, 6, 3, name="attention")(x, x)])
    y = layers.Dense(8, name="out")(layers.Dense(12, "gelu", name="in")(h))
    return randomize(keras.Model(x, layers.Add()([h, y])), scale=0.4)


def test_the_loss_is_what_repair_leaves():
    """The scores of units are the errors that least squares then have, ridge apart."""
    model, x = attention(), noise(64, 6, 8)
    before = outputs(model, x)
    scores = criteria.reconstruction(model, x, ridge=1e-6)
    assert_same(before, outputs(model, x), 0)
    for name, groups in (("in", 12), ("attention", 3)):
        assert scores[name].shape == (groups,)
        half = np.argsort(scores[name])[: groups // 2]
        keep = {name: ~np.isin(np.arange(groups), half)}
        fresh = attention()
        done = repair(
            fresh, tfprune.find_structures(fresh), keep, [ops.convert_to_tensor(x)], ridge=1e-6
        )
        (error,) = done.errors.values()
        # Without the last group all of the variance is lost.
        share = scores[name][half].max() / scores[name].max()
        assert error[2] == pytest.approx(share, rel=1e-2)


def test_prune_with_it_is_nearer_than_with_the_best_single_scores():
    x = noise(200, 6, 8)
    errors = {}
    for criterion in ("reconstruction", "activation", "random"):
        model = attention()
        wanted = outputs(model, x)[0]
        small = tfprune.prune(
            model, tfprune.Sparsity(0.5), x, "ffn", criterion=criterion, verbose=0
        )
        errors[criterion] = np.mean((outputs(small, x)[0] - wanted) ** 2)
    assert errors["reconstruction"] <= errors["activation"] < errors["random"]


def test_groups_that_emit_nothing_leave_first():
    model = attention()
    model.get_layer("out").kernel.assign(
        ops.convert_to_numpy(model.get_layer("out").kernel) * (np.arange(12) % 4 > 0)[:, None]
    )
    losses = criteria.reconstruction(model, noise(64, 6, 8))["in"]
    assert set(np.argsort(losses)[:3]) == {0, 4, 8} and np.sort(losses)[2] < 1e-9


@pytest.mark.parametrize("options", [{"ridge": 0}, {"at_once": 2}, {"at_once": "all"}])
def test_options_out_of_range(options):
    with pytest.raises(ValueError, match=f"`{next(iter(options))}` must be"):
        criteria.reconstruction(attention(), noise(4, 6, 8), **options)
    with pytest.raises(ValueError, match=f"`{next(iter(options))}` must be"):
        criteria.Reconstruction(**options)
