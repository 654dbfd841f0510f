"""`GroupLasso(target=...)`: the strength is steered, and the target is met exactly."""

import math
import warnings

import keras
import numpy as np
import pytest

import tfprune
from tests.models import assert_same, compile_and_build, noise, outputs, randomize, transformer
from tfprune import penalties
from tfprune.callbacks import GroupLasso
from tfprune.fit.strength_control import MOST
from tfprune.schedules import Plateau
from tfprune.structures import find_structures

pytestmark = pytest.mark.sampled

X, Y = noise(32, 3, 8), noise(32, 3, 3, seed=2)
HALF = tfprune.Sparsity(0.5)


def compiled(optimizer=None):
    model = randomize(transformer(units=24), 0)
    return compile_and_build(model, optimizer or keras.optimizers.Adam(1e-2), "mse")


def fit(model, *callbacks, epochs=3, **options):
    options = {"batch_size": 8, "shuffle": False, "verbose": 0, **options}
    return model.fit(X, Y, epochs=epochs, callbacks=list(callbacks), **options)


def left(model):
    return {s.name: int(np.count_nonzero(s.norms())) for s in find_structures(model)}


def no_loss(y, outputs):
    return 0.0 * keras.ops.sum(outputs)


class AtStop(GroupLasso):
    """Keeps the sizes of the groups that are removed at `stop`, and of those that stay."""

    def remove(self, scores, progress=1.0):
        keep = self.survivors(scores)
        self.gone = np.concatenate([scores[n][~keep[n]] for n in scores])
        self.kept = np.concatenate([scores[n][keep[n]] for n in scores])
        super().remove(scores, progress)


@pytest.mark.parametrize("step", ["gradient", "proximal"])
@pytest.mark.parametrize("removal", ["at_stop", "during"])
def test_groups_are_small_when_the_target_is_met(step, removal, recwarn):
    """Two hundred steps of pressure, from a strength that is far too low."""
    model = compiled()
    lasso = AtStop(
        ["ffn"],
        strength=1e-4,
        target=HALF,
        stop=200,
        step=step,
        removal=removal,
        check_every=4,
        verbose=0,
    )
    history = fit(model, lasso, epochs=60).history
    assert lasso.gone.mean() < 0.12
    assert lasso.gone.mean() < 0.25 * np.median(lasso.kept)
    assert left(model)["ffn_in"] == 12 and lasso.reached == 0.5
    assert not [w for w in recwarn if "has not made small" in str(w.message)]
    groups = history["groups/ffn"]
    assert groups[0] == 24 and groups[49:] == [12] * 11 and min(groups) == 12
    assert (groups[48] < 24) == (removal == "during" or step == "proximal")
    strengths = history["strength/ffn"]
    assert max(strengths) > 10 * 1e-4 and strengths[50:] == [0.0] * 10
    assert lasso.strengths_reached["ffn_in"] > 1e-4
    small = tfprune.rebuild(model)
    assert small.get_layer("ffn_in").units == 12
    assert_same(outputs(model, X), outputs(small, X))


@pytest.mark.parametrize("words", [None, 50])
def test_a_proximal_step_begins_with_what_leads_to_zero(words):
    """Without a strength: size / (rate · steps) at the first step, not 1e-5."""
    model = compiled(keras.optimizers.Adam(1e-3))
    median = np.median(penalties.root_mean_squares(find_structures(model)["ffn_in"]))
    seen = []

    class Noted(AtStop):
        def on_step(self, step, steps):
            super().on_step(step, steps)
            seen.append(float(self.state.strengths[0]))

    options = {"words_per_batch": words, "check_every": 4, "verbose": 0}
    lasso = Noted(["ffn"], target=HALF, stop=80, step="proximal", **options)
    fit(model, lasso, epochs=24)
    assert seen[0] == pytest.approx(median / (1e-3 * 0.8 * 80), rel=1e-3)
    assert lasso.gone.mean() < 0.12 and left(model)["ffn_in"] == 12


@pytest.mark.parametrize("check_every", [1, 20])
def test_the_lowest_go_straight_to_zero(check_every):
    """Whatever their size and the learning rate are, which begins at 0 here and ends there.

    Looks are at the ends of epochs of 4 steps at least.
    """
    rate = keras.optimizers.schedules.CosineDecay(0.0, 40, warmup_target=1e-3, warmup_steps=40)
    model = compiled()
    model.compile(keras.optimizers.SGD(rate), no_loss)
    structure = find_structures(model)["ffn_in"]
    structure.scale(np.linspace(0.1, 3.0, 24).astype("float32"))
    start = penalties.root_mean_squares(structure)
    keep = np.argsort(np.argsort(start)) >= 12
    seen = {}

    class Noted(GroupLasso):
        def on_step(self, step, steps):
            super().on_step(step, steps)
            seen[step] = penalties.root_mean_squares(structure)

    options = {"step": "proximal", "penalized": "lowest", "check_every": check_every}
    lasso = Noted(["ffn"], target=HALF, stop=50, verbose=0, **options)
    history = fit(model, lasso, epochs=20).history
    for step in (12, 20, 32, 40):
        np.testing.assert_allclose(seen[step][~keep], start[~keep] * (1 - step / 40), atol=1e-6)
        np.testing.assert_allclose(seen[step][keep], start[keep], rtol=1e-5)
    assert left(model)["ffn_in"] == 12 and lasso.strengths_reached is None
    # λ that takes a group of mean size straight to zero: at step 20 the rate is half of 1e-3.
    expected = start[~keep].mean() * 0.5 / (0.5e-3 * 20)
    if check_every == 1:  # Else that of the look before, which comes after the logs.
        assert history["strength/ffn"][4] == pytest.approx(expected, rel=1e-3)


def test_a_target_that_leaves_little_is_not_called_a_strength_that_is_too_high(recwarn):
    model = compiled()
    options = {"step": "proximal", "penalized": "lowest", "check_every": 1, "verbose": 0}
    fit(model, GroupLasso(["ffn"], target=tfprune.Sparsity(0.99), stop=20, **options), epochs=6)
    assert left(model)["ffn_in"] == 0
    assert not [w for w in recwarn if "strength" in str(w.message)]


def test_a_structure_that_loses_nothing_holds_up_no_other():
    """All of the lowest are in one of two layers."""
    x = keras.Input((4,))
    y = keras.layers.Dense(16, "relu", name="small")(x)
    y = keras.layers.Dense(16, "relu", name="large")(y)
    model = randomize(keras.Model(x, keras.layers.Dense(1)(y)))
    model.compile(keras.optimizers.SGD(1e-3), no_loss)
    structures = find_structures(model)
    structures["small"].scale(np.where(np.arange(16) < 6, 0.05, 1.0).astype("float32"))
    options = {"step": "proximal", "penalized": "lowest", "check_every": 2, "verbose": 0}
    lasso = AtStop(["small", "large"], target=tfprune.Sparsity(0.17), stop=40, **options)
    model.fit(noise(32, 4), noise(32, 1), 8, epochs=12, verbose=0, callbacks=[lasso])
    assert left(model)["large"] == 16 and left(model)["small"] < 16
    np.testing.assert_array_equal(lasso.gone, 0.0)


@pytest.mark.parametrize("step", ["gradient", "proximal"])
def test_the_lowest_alone_are_penalized(step):
    """With a loss of zero what stays does not move, and what goes becomes small."""
    model = compiled()
    model.compile(keras.optimizers.Adam(1e-2), no_loss)
    structure = find_structures(model)["ffn_in"]
    keep = np.argsort(np.argsort(penalties.root_mean_squares(structure))) >= 12
    before = structure.norms()[keep]
    lasso = AtStop(
        ["ffn"], target=HALF, strength=0.1, penalized="lowest", step=step, stop=60, check_every=2
    )
    fit(model, lasso, epochs=20)
    np.testing.assert_allclose(structure.norms()[keep], before, rtol=1e-5)
    assert left(model)["ffn_in"] == 12 and lasso.gone.mean() < 0.12


@pytest.mark.parametrize(
    "options, expected",
    [
        ({}, ("gradient", "all")),
        ({"target": HALF}, ("proximal", "lowest")),
        ({"target": HALF, "step": "gradient", "penalized": "all"}, ("gradient", "all")),
        ({"target": HALF, "groups": "rowcol"}, ("gradient", "lowest")),
    ],
)
def test_how_channels_are_penalized_by_default(options, expected):
    x = keras.Input((6, 6, 2))
    y = keras.layers.ReLU()(keras.layers.Conv2D(8, 3)(x))
    model = keras.Model(x, keras.layers.Conv2D(2, 1)(y))
    model.compile(keras.optimizers.SGD(0.0), "mse")
    lasso = GroupLasso(verbose=0, check_every=1, stop=None, **options)
    given = noise(8, 6, 6, 2)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "GroupLasso: .*not made small|GroupLasso: nothing was")
        model.fit(given, outputs(model, given)[0], 2, epochs=2, verbose=0, callbacks=[lasso])
    assert (lasso.step, lasso.penalized) == expected


def test_units_are_penalized_as_in_the_paper_by_default():
    lasso = GroupLasso(["ffn"], target=HALF, check_every=1, verbose=0)
    with pytest.warns(UserWarning, match="has not made small"):
        fit(compiled(), lasso)
    assert (lasso.step, lasso.penalized) == ("gradient", "all")


def test_a_strength_that_is_far_too_high_falls():
    model = compiled()
    lasso = GroupLasso(["ffn"], strength=100.0, target=HALF, stop=160, check_every=4, verbose=0)
    strengths = fit(model, lasso, epochs=45).history["strength/ffn"]
    assert strengths[39] < 1.0
    assert left(model)["ffn_in"] == 12


def test_the_strength_of_a_step_computed_by_hand():
    """SGD without a rate: weights stand still, and are scaled from outside between looks."""
    model = compiled(keras.optimizers.SGD(0.0))
    structure = find_structures(model)["ffn_in"]
    start = penalties.root_mean_squares(structure)
    keep = np.argsort(np.argsort(start)) >= 12
    seen = []

    class Shrink(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            self.model  # noqa: B018  # On JAX this brings the weights up to date.
            structure.scale(np.where(keep, 1.0, 0.99).astype("float32"))

    class Spy(GroupLasso):
        def on_step(self, step, steps):
            super().on_step(step, steps)
            seen.append(float(keras.ops.convert_to_numpy(self.state.strengths)[0]))

    lasso = Spy(
        ["ffn"],
        strength=0.1,
        words_per_batch=2,
        target=HALF,
        stop=100,
        relative_threshold=0.05,
        check_every=2,
        verbose=0,
    )
    history = fit(model, Shrink(), lasso, epochs=1).history
    mean = start[~keep].mean() / np.median(start)
    first, second = mean * 0.99**2, mean * 0.99**4
    factors = [
        ((first - 0.05) / (80 - 2) / ((mean - first) / 2)),
        ((second - 0.05) / (80 - 4) / ((first - second) / 2)),
    ]
    expected = np.cumprod([0.05, *factors])
    np.testing.assert_allclose(seen[:3], expected, rtol=1e-3)
    assert history["strength/ffn"][0] == pytest.approx(2 * seen[2])  # After the last step.


@pytest.mark.parametrize("within", ["kind", "layer", "model"])
def test_each_family_has_its_own_strength(within):
    model = compiled(keras.optimizers.SGD(0.0))
    structure = find_structures(model)["attention"]

    class Shrink(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            self.model  # noqa: B018  # On JAX this brings the weights up to date.
            structure.scale(np.full(2, 0.6, "float32"))

    lasso = GroupLasso(strength=1e-6, target=HALF, stop=None, within=within, check_every=1)
    fit(model, Shrink(), lasso, epochs=2)
    reached = lasso.strengths_reached
    assert (reached["attention"] == reached["ffn_in"]) == (within == "model")
    if within != "model":
        assert reached["ffn_in"] == pytest.approx(1e-6 * math.exp(8 * MOST), rel=1e-4)
        assert reached["attention"] < 1e-6


def test_rows_and_columns_are_ranked_as_they_are_removed():
    """A unit goes by its smaller connection, a head by the larger of its smaller half."""
    model = compiled(keras.optimizers.SGD(0.0))
    lasso = GroupLasso(
        target=HALF, groups="rowcol", heads="rowcol", check_every=2, stop=0.5, verbose=0
    )
    expected = {}
    for s in find_structures(model):
        each = [
            keras.ops.convert_to_numpy(norms) / math.sqrt(size)
            for norms, size in penalties.connection_norms(s)
        ]
        each = np.concatenate(each, axis=1)
        if s.kind == "heads":
            each = np.sort(each, axis=1)[:, : each.shape[1] // 2].max(axis=1)
        else:
            each = each.min(axis=1)
        order = np.argsort(each)
        expected[s.name] = np.sort(order[s.groups // 2 :])
    with pytest.warns(UserWarning, match="has not made small"):
        fit(model, lasso)
    for s in find_structures(model):
        np.testing.assert_array_equal(np.flatnonzero(s.norms()), expected[s.name])


def test_during_removes_no_more_than_the_target():
    """All groups are below the threshold, and half of them go."""
    model = compiled(keras.optimizers.SGD(0.0))
    lasso = GroupLasso(
        target=HALF, removal="during", threshold=1e9, check_every=1, stop=None, verbose=0
    )
    history = fit(model, lasso, epochs=2).history
    assert history["groups/ffn"] == [12, 12] and history["groups/heads"] == [1, 1]


def test_a_proximal_step_removes_no_more_than_the_target():
    model = compiled(keras.optimizers.SGD(1.0))
    model.optimizer.learning_rate = 1e-9
    lasso = GroupLasso(
        strength=1e12, target=HALF, step="proximal", check_every=1, stop=0.5, verbose=0
    )
    fit(model, lasso, epochs=4)
    assert left(model) == {"attention": 1, "ffn_in": 12}


def test_round_to_and_parameters():
    model = compiled()
    lasso = GroupLasso(
        ["ffn"],
        target=tfprune.Parameters(0.8),
        round_to={"ffn": 8},
        check_every=2,
        verbose=0,
    )
    with pytest.warns(UserWarning, match="has not made small"):
        fit(model, lasso)
    assert left(model)["ffn_in"] == 8
    assert lasso.reached <= 0.8
    assert tfprune.rebuild(model).count_params() <= 0.8 * model.count_params()


def test_large_groups_are_said():
    model = compiled(keras.optimizers.SGD(0.0))
    with pytest.warns(UserWarning, match=r"12 ffn with \d\d % .*`start`, `stop`.*`strength`"):
        fit(model, GroupLasso(["ffn"], target=HALF, check_every=1, verbose=0))


def test_a_plateau_that_does_not_come_leaves_the_target_met():
    model = compiled()
    lasso = GroupLasso(target=HALF, start=Plateau("loss", -1e9), stop=0.75, verbose=0)
    with pytest.warns(UserWarning, match="did not stop improving"):
        fit(model, lasso, epochs=3)
    assert left(model) == {"attention": 1, "ffn_in": 12}


def test_weights_that_are_no_longer_finite_are_said():
    model = compiled()

    class Break(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            self.model  # noqa: B018  # On JAX this brings the weights up to date.
            if batch == 2:
                find_structures(model)["ffn_in"].scale(np.full(24, np.nan, "float32"))

    with pytest.raises(ValueError, match="'ffn_in' are no longer finite"):
        fit(model, Break(), GroupLasso(["ffn"], target=HALF, check_every=1, verbose=0))


class Killed(Exception):
    pass


@pytest.mark.parametrize("step", ["gradient", "proximal"])
def test_killed_and_resumed_is_not_killed(tmp_path, step):
    def run(folder, kill_after=None):
        class Kill(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                if epoch == kill_after:
                    raise Killed

        model = compiled()
        lasso = GroupLasso(
            strength=1e-3, target=HALF, start=2, stop=26, step=step, check_every=3, verbose=0
        )
        backup = keras.callbacks.BackupAndRestore(str(folder), delete_checkpoint=False)
        fit(model, lasso, backup, Kill(), epochs=8)
        return model, lasso

    whole, lasso = run(tmp_path / "whole")
    with pytest.raises(Killed):
        run(tmp_path / "resumed", kill_after=5)
    resumed, again = run(tmp_path / "resumed")
    assert left(whole)["ffn_in"] == 12
    assert again.strengths_reached == lasso.strengths_reached
    assert lasso.strengths_reached["ffn_in"] != 1e-3
    for a, b in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"target": 0.5}, "`target` must be a target"),
        ({"target": lambda step: 0.5}, "`target` must be a target.*Received: a function"),
        ({"target": HALF, "strength": lambda step: 0.1}, "`strength` must be what λ is at `start`"),
        ({"target": HALF, "strength": 0.0}, "`strength` must be what λ is at `start`"),
        ({"target": HALF, "strength": {"ffn": 0}}, "`strength` must be what λ is at `start`"),
        ({"target": HALF, "within": "head"}, "`within` must be"),
        ({"target": HALF, "penalized": "some"}, "`penalized` must be"),
        ({"penalized": "lowest"}, "`penalized='lowest'` needs a `target`"),
        ({"round_to": {"ffn": 8}}, "`round_to` needs a `target`"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        GroupLasso(**options)


def test_bad_targets_and_spans_are_errors_before_training():
    model = compiled()
    before = model.get_weights()
    with pytest.raises(ValueError, match="`target` cannot be reached"):
        fit(model, GroupLasso(target=tfprune.Parameters(0.01), verbose=0))
    with pytest.raises(ValueError, match="`stop` must be a moment that is known"):
        fit(model, GroupLasso(target=HALF, stop=Plateau("loss"), verbose=0))
    with pytest.raises(ValueError, match="`stop` .*how many batches"):
        batches = ((X, Y) for _ in range(3))
        model.fit(batches, verbose=0, callbacks=[GroupLasso(target=HALF, stop=None)])
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
