import subprocess
import sys

import keras
import numpy as np
import pytest

from tests.models import assert_same, compile_and_build, noise, outputs, randomize, transformer
from tfprune import penalties
from tfprune.callbacks import GroupLasso
from tfprune.rebuild import rebuild
from tfprune.schedules import Epoch, Plateau
from tfprune.structures import find_structures

pytestmark = pytest.mark.sampled

X, Y = noise(32, 3, 8), noise(32, 3, 3, seed=2)


def compiled(optimizer=None, seed=0, **options):
    model = randomize(transformer(), seed)
    return compile_and_build(model, optimizer or keras.optimizers.Adam(1e-2), "mse", **options)


def fit(model, *callbacks, epochs=3, **options):
    return model.fit(
        X,
        Y,
        batch_size=8,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
        **options,
    )


def left(model):
    return {s.name: int(np.count_nonzero(s.norms())) for s in find_structures(model)}


class Record(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.losses = []

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(logs["loss"])


@pytest.mark.parametrize("groups", ["joint", "rowcol"])
def test_penalty_is_in_the_loss(groups):
    model = compiled(keras.optimizers.SGD(0.0))
    plain = float(model.evaluate(X, Y, verbose=0))
    penalty = sum(
        float(keras.ops.convert_to_numpy(penalties.penalty(s, groups)))
        for s in find_structures(model)
    )
    lasso = GroupLasso(
        strength=0.6,
        words_per_batch=10,
        stop=None,
        verbose=0,
        groups=groups,
        heads="rowcol" if groups == "rowcol" else "head",
    )
    history = fit(model, lasso, epochs=1).history
    np.testing.assert_allclose(history["loss"][0], plain + 0.06 * penalty, rtol=1e-4)


@pytest.mark.parametrize("removal", ["at_stop", "during"])
def test_groups_fall_and_rebuild_cuts_them(removal):
    model = compiled()
    model.compile(keras.optimizers.Adam(1e-2), "mse")  # Its variables are made by the first step.
    lasso = GroupLasso(strength=0.05, stop=96, removal=removal, check_every=2, verbose=0)
    history = fit(model, lasso, epochs=25).history
    last = left(model)
    assert 0 < last["ffn_in"] < 12
    assert history["groups/ffn"][-1] == last["ffn_in"]
    assert lasso.history[-1] == last
    small = rebuild(model)
    assert small.get_layer("ffn_in").units == last["ffn_in"]
    assert_same(outputs(model, X), outputs(small, X))


def test_groups_are_removed_once_at_stop():
    """Four steps an epoch: pressure until step 20, then twelve steps without it."""
    model, strengths = compiled(), []

    class Spy(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            strengths.append(float(keras.ops.max(lasso.state.strengths)))

    lasso = GroupLasso(
        strength=0.05, stop=20, check_every=3, relative_threshold=0.5, threshold=0, verbose=0
    )
    history = fit(model, Spy(), lasso, epochs=8).history["groups/ffn"]
    assert history[:4] == [12] * 4
    assert history[4] < 12 and history[4:] == [history[4]] * 4
    assert strengths[-4:] == [0.0] * 4
    assert history[-1] == left(model)["ffn_in"]


def test_what_is_removed_at_stop_is_what_the_thresholds_say():
    """With the weights standing still, these are known beforehand."""
    for options in ({"relative_threshold": 0}, {"relative_threshold": 0.95}):
        model = compiled(keras.optimizers.SGD(0.0))
        structure = find_structures(model)["ffn_in"]
        columns, bias, rows = (keras.ops.convert_to_numpy(s.variable) for s in structure.slices)
        both = np.concatenate([columns, bias[None], rows.T])
        if options["relative_threshold"] == 0:
            sums = np.abs(both).sum(axis=0)
            options["threshold"] = float(np.sort(sums)[4:6].mean())
            stays = sums >= options["threshold"]
        else:
            rms = np.sqrt((both**2).mean(axis=0))
            stays = rms > 0.95 * np.median(rms)
        assert 0 < stays.sum() < 12
        fit(model, GroupLasso(["ffn"], strength=0.1, verbose=0, **options), epochs=2)
        np.testing.assert_array_equal(structure.norms() > 0, stays)


def test_a_fit_that_ends_before_stop_removes_then():
    model = compiled()
    lasso = GroupLasso(strength=0.05, stop=100, relative_threshold=0.95, verbose=0)
    with pytest.warns(UserWarning, match="before pruning was over; groups are removed now"):
        model.fit(X, Y, batch_size=8, epochs=30, verbose=0, callbacks=[lasso, Stops(4)])
    assert 0 < left(model)["ffn_in"] < 12


class Stops(keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = epoch == self.epoch


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.Adam(1e-2),
        lambda: keras.optimizers.SGD(1e-2, momentum=0.9),
        lambda: keras.optimizers.AdamW(1e-2),
    ],
)
def test_pruned_groups_stay_at_zero(optimizer):
    model = compiled(optimizer())
    fit(model, epochs=1)  # The optimizer remembers every weight by now.
    structure = find_structures(model)["ffn_in"]
    alive = np.ones(12, "float32")
    alive[:5] = 0

    class Kill(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            structure.scale(alive)

    class Watch(keras.callbacks.Callback):
        zero = True

        def on_train_batch_end(self, batch, logs=None):
            self.model  # noqa: B018  # On JAX this brings the weights up to date.
            self.zero = self.zero and not np.any(structure.norms()[:5])

    watch = Watch()
    fit(model, Kill(), GroupLasso(strength=0.0, verbose=0, check_every=1000), watch, epochs=2)
    assert watch.zero
    assert np.all(structure.norms()[5:] > 0)


def test_proximal_step_reaches_zero_and_leaves_the_loss_alone():
    model = compiled(keras.optimizers.SGD(1e-2))
    plain = float(model.evaluate(X, Y, verbose=0))
    record = Record()
    lasso = GroupLasso(strength=8.0, step="proximal", check_every=1, verbose=0)
    fit(model, record, lasso, epochs=4)
    assert record.losses[0] < plain * 1.5
    assert left(model)["ffn_in"] < 12


def test_strength_changes_without_retracing():
    calls = []

    class Counting(keras.layers.Layer):
        def call(self, x):
            calls.append(1)
            return x

    x = keras.Input((3, 8))
    body = transformer()
    model = keras.Model(x, Counting()(body(x)))
    model.compile("sgd", "mse")
    fit(model, GroupLasso(strength=lambda step: 1e-3 * step, check_every=1, verbose=0), epochs=1)
    once = len(calls)
    calls.clear()
    fit(model, GroupLasso(strength=lambda step: 1e-3 * step, check_every=1, verbose=0), epochs=4)
    assert len(calls) <= once  # Four epochs, twelve strengths more: not one more trace.


def test_strength_follows_the_schedule_and_the_phases():
    model = compiled(keras.optimizers.SGD(0.0))
    seen = []

    class Spy(GroupLasso):
        def on_step(self, step, steps):
            super().on_step(step, steps)
            seen.append((step, keras.ops.convert_to_numpy(self.state.strengths)[0]))

        def on_step_outside(self):
            super().on_step_outside()
            seen.append((None, keras.ops.convert_to_numpy(self.state.strengths)[0]))

    # Four steps an epoch; on from step 4 until step 8.
    fit(
        model,
        Spy(
            ["ffn"],
            strength=lambda step: 0.25 + step,
            start=Epoch(1),
            stop=0.5,
            check_every=1,
            verbose=0,
        ),
        epochs=4,
    )
    active = dict((s, v) for s, v in seen if s is not None)
    assert active == {4: 0.25, 5: 1.25, 6: 2.25, 7: 3.25}
    assert {v for s, v in seen if s is None} == {0.0}


def test_strengths_by_pattern():
    model = compiled(keras.optimizers.SGD(0.0))
    plain = float(model.evaluate(X, Y, verbose=0))
    penalty = float(
        keras.ops.convert_to_numpy(penalties.penalty(find_structures(model)["attention"]))
    )
    history = fit(
        model, GroupLasso(strength={"att.*": 0.1}, stop=None, verbose=0), epochs=1
    ).history
    np.testing.assert_allclose(history["loss"][0], plain + 0.1 * penalty, rtol=1e-4)


def test_plateau_starts_pruning():
    model = compiled(keras.optimizers.SGD(0.0))  # The loss gains nothing after the first epoch.
    lasso = GroupLasso(strength=0.1, start=Plateau("loss", min_delta=0.01), stop=None, verbose=0)
    losses = fit(model, lasso, epochs=4).history["loss"]
    assert losses[0] == pytest.approx(losses[1])
    assert losses[2] > 1.2 * losses[1]
    with pytest.raises(ValueError, match="'val_bleu'.*not in the epoch logs"):
        fit(compiled(), GroupLasso(start=Plateau("val_bleu"), verbose=0), epochs=2)


def test_tfmot_schedules():
    tfmot = pytest.importorskip("tensorflow_model_optimization")
    schedule = tfmot.sparsity.keras.PolynomialDecay(0.0, 0.5, 0, 10, frequency=1)
    model = compiled(keras.optimizers.SGD(0.0))
    losses = fit(model, GroupLasso(strength=schedule, stop=None, check_every=1, verbose=0)).history[
        "loss"
    ]
    assert losses[2] > losses[1] > losses[0]


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy):
    if policy == "mixed_float16" and keras.backend.backend() == "jax":
        pytest.skip("JAX has no float16 products on CPUs")
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = compiled()
    finally:
        keras.config.set_dtype_policy(before)
    fit(model, GroupLasso(strength=0.1, check_every=2, verbose=0), epochs=25)
    assert 0 <= left(model)["ffn_in"] < 12
    assert all(np.all(np.isfinite(w)) for w in model.get_weights())


def test_jit_compile_gives_the_same():
    weights = []
    for jit in (False, True):
        model = compiled(jit_compile=jit)
        fit(model, GroupLasso(strength=0.05, check_every=2, verbose=0), epochs=3)
        weights.append(model.get_weights())
    for a, b in zip(*weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_nothing_is_left_behind():
    model = compiled()
    names = [w.path for w in model.weights]
    fit(model, GroupLasso(strength=0.01, verbose=0))
    assert [w.path for w in model.weights] == names
    assert all(w.regularizer is None for w in model.weights)
    assert model.losses == []
    fit(model, epochs=1)
    fit(model, GroupLasso(strength=0.01, verbose=0), epochs=1)


def test_after_an_interrupted_fit():
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyboardInterrupt

    model = compiled()
    with pytest.raises(KeyboardInterrupt):
        fit(model, GroupLasso(strength=0.01, verbose=0), Stop())
    fit(model, GroupLasso(strength=0.01, verbose=0), epochs=1)
    assert all(w.regularizer is None for w in model.weights)


def test_a_checkpoint_loads_without_tfprune(tmp_path):
    model = compiled()
    path = tmp_path / "during.keras"
    fit(model, GroupLasso(strength=0.01, verbose=0), keras.callbacks.ModelCheckpoint(str(path)))
    np.save(tmp_path / "x.npy", X)
    code = (
        "import sys, keras, numpy as np\n"
        f"m = keras.saving.load_model({str(path)!r})\n"
        f"y = keras.ops.convert_to_numpy(m(np.load({str(tmp_path / 'x.npy')!r})))\n"
        f"np.save({str(tmp_path / 'y.npy')!r}, y)\n"
        "assert not any(n.startswith('tfprune') for n in sys.modules)\n"
        "assert len(m.optimizer.variables) > 20\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert_same(outputs(model, X), [np.load(tmp_path / "y.npy")])


class Killed(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("start", [2, Plateau("loss", min_delta=10.0)])
def test_killed_and_resumed_is_not_killed(tmp_path, start):
    def run(folder, kill_after=None):
        class Kill(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                if epoch == kill_after:
                    raise Killed

        model = compiled()
        lasso = GroupLasso(
            strength=0.05, start=start, stop=None, removal="during", check_every=3, verbose=0
        )
        backup = keras.callbacks.BackupAndRestore(str(folder), delete_checkpoint=False)
        fit(model, lasso, backup, Kill(), epochs=12)
        return model

    whole = run(tmp_path / "whole")
    with pytest.raises(Killed):
        run(tmp_path / "resumed", kill_after=7)
    resumed = run(tmp_path / "resumed")
    assert left(whole) == left(resumed)
    for a, b in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_everything_gone_is_said_and_sane():
    model = compiled()
    with pytest.warns(UserWarning, match="removed every group"):
        fit(
            model,
            GroupLasso(strength=50.0, check_every=1, relative_threshold=0.9, verbose=0),
            epochs=30,
        )
    small = rebuild(model)
    assert_same(outputs(model, X), outputs(small, X))
    assert len(find_structures(small)) == 0


def test_a_strength_that_is_far_off_is_said(monkeypatch):
    model = compiled(keras.optimizers.SGD(0.0))
    with pytest.warns(UserWarning, match="nothing was removed: of 14 groups .* Raise `strength`"):
        fit(model, GroupLasso(strength=1e-6, verbose=0))
    assert left(model) == {"attention": 2, "ffn_in": 12}
    small = np.full(12, 1e-3, "float32")
    small[0] = 1.0
    model = compiled(keras.optimizers.SGD(0.0))
    find_structures(model)["ffn_in"].scale(small)
    sums = penalties.connection_sums(find_structures(model)["ffn_in"])
    biggest = sum(float(keras.ops.max(each)) for each in sums)
    lasso = GroupLasso(["ffn"], strength=1.0, threshold=biggest / 2, verbose=0)
    monkeypatch.setattr("tfprune.callbacks.group_lasso_warnings.ALMOST_NOTHING", 0.1)
    with pytest.warns(UserWarning, match="1 of 12 groups, 8.3 % .* Lower `strength`"):
        fit(model, lasso)


def test_no_strength_is_not_said_to_be_too_low(recwarn):
    fit(compiled(), GroupLasso(strength=0.0, verbose=0))
    assert not [w for w in recwarn if "GroupLasso" in str(w.message)]


def test_bad_arguments():
    for options, name in (
        ({"strength": -1.0}, "strength"),
        ({"strength": float("nan")}, "strength"),
        ({"strength": {"ffn": -1}}, "strength"),
        ({"words_per_batch": 0}, "words_per_batch"),
        ({"step": "jump"}, "step"),
        ({"removal": "never"}, "removal"),
        ({"threshold": -1}, "threshold"),
        ({"heads": "tail"}, "heads"),
        ({"relative_threshold": 2.0}, "relative_threshold"),
        ({"check_every": 0}, "check_every"),
        ({"start": "soon"}, "start"),
        ({"step": "proximal", "heads": "rowcol"}, "step"),
    ):
        with pytest.raises(ValueError, match=f"`{name}"):
            GroupLasso(**options)


def test_bad_models_are_left_as_they_are():
    with pytest.raises(ValueError, match="matches no structure"):
        fit(compiled(), GroupLasso(["embedding"]))
    unbuilt = keras.Sequential([keras.layers.Dense(3)])
    unbuilt.compile("sgd", "mse")
    with pytest.raises(ValueError, match="must be built"):
        GroupLasso().set_model(unbuilt)
    with pytest.raises(ValueError, match="must be compiled"):
        GroupLasso().set_model(transformer())
    model = compiled()
    bias = np.zeros(12, "float32")
    bias[2] = np.nan
    model.get_layer("ffn_in").bias.assign(bias)
    with pytest.raises(ValueError, match="'ffn_in' are not finite"):
        fit(model, GroupLasso())
    assert all(w.regularizer is None for w in model.weights)
    twice = compiled()
    with pytest.raises(ValueError, match="holds two that prune"):
        fit(twice, GroupLasso(verbose=0), GroupLasso(verbose=0))
