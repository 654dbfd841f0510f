"""The steps of a fit are counted by the fit, not by the optimizer."""

import keras
import numpy as np
import pytest

import tfprune
from tests.fit.methods import HALF, METHODS, X, Y, compiled, fit, left, values
from tests.models import Killed
from tfprune.callbacks import ImportancePruning
from tfprune.fit.clock import FitClock

pytestmark = pytest.mark.sampled


class Look(keras.callbacks.Callback):
    """Notes after each step how many units are left."""

    def on_train_begin(self, logs=None):
        self.units = []

    def on_train_batch_end(self, batch, logs=None):
        structure = tfprune.find_structures(self.model)["ffn_in"]
        self.units.append(int(np.count_nonzero(structure.norms())))


def halving(**options):
    return ImportancePruning(
        **{"structures": "ffn", "target": HALF, "criterion": "magnitude", "start": 0.5}
        | {"check_every": 1, "verbose": 0}
        | options
    )


def lottery(**options):
    return METHODS["lottery"](structures="heads", **options)


@pytest.mark.parametrize("lottery_first", [True, False])
def test_a_search_that_rewinds_leaves_others_their_time_and_what_they_pruned(lottery_first):
    look = Look()
    callbacks = [halving(), lottery()]
    fit(compiled(), *callbacks[:: -1 if lottery_first else 1], look, epochs=5)
    assert look.units == [6] * 9 + [3] * 11  # Four steps an epoch: half of the fit are ten.


def test_killed_and_resumed_beside_a_search_is_not_killed(tmp_path):
    def trained(folder, *more):
        model = compiled()
        backup = keras.callbacks.BackupAndRestore(folder, delete_checkpoint=False)
        fit(model, halving(start=0.25), lottery(round_length=4), backup, *more, epochs=5)
        return model

    whole = trained(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "killed", Killed(3))
    for a, b in zip(values(whole), values(trained(tmp_path / "killed")), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_gates_beside_a_search_stay_decided():
    """What a gate has become since the checkpoint is not turned back."""
    model = compiled()
    gates = METHODS["movement"](structures="ffn", stop=0.3)
    fit(model, gates, lottery(start=3, round_length=3), epochs=5)
    assert gates.reached == pytest.approx(0.5)
    assert tfprune.find_structures(tfprune.rebuild(model))["ffn_in"].groups == 3


@pytest.mark.parametrize("steps", [None, 2])
def test_batches_are_counted_where_gradients_are_accumulated(steps):
    optimizer = keras.optimizers.SGD(0.01, gradient_accumulation_steps=steps)
    look = Look()
    fit(compiled(optimizer), halving(), look, epochs=2)
    assert look.units == [6] * 3 + [3] * 5


@pytest.mark.tensorflow_only
def test_batches_are_counted_where_a_train_step_updates_twice():
    class Twice(keras.Model):
        def train_step(self, data):
            super().train_step(data)
            return super().train_step(data)

    plain = compiled()
    model = Twice(plain.inputs, plain.outputs)
    model.compile("sgd", "mse")
    look = Look()
    fit(model, halving(), look, epochs=2)
    assert look.units == [6] * 3 + [3] * 5


@pytest.mark.tensorflow_only
def test_a_resumed_fit_of_unknown_length_goes_on_counting(tmp_path):
    import tensorflow as tf

    def batches():
        for start in range(0, 16, 4):
            yield X[start : start + 4], Y[start : start + 4]

    shapes = tf.TensorSpec((4, 3, 8)), tf.TensorSpec((4, 3, 3))
    data = tf.data.Dataset.from_generator(batches, output_signature=shapes)

    def trained(*more):
        look = Look()
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup", delete_checkpoint=False)
        callbacks = [halving(start=10), backup, look, *more]
        compiled().fit(data, epochs=3, verbose=0, callbacks=callbacks)
        return look.units

    with pytest.raises(KeyboardInterrupt):
        trained(Killed(1))
    assert trained() == [6, 6, 6, 6, 6, 3, 3, 3]  # The fifth to the twelfth step.


def test_the_clock():
    clock = FitClock()
    assert not clock.has_begun
    clock.begin_epoch(2, 5)
    assert clock.has_begun and clock.steps == clock.epoch_start == 10
    for batch in (0, 0, 1, 3):  # Told more than once; two steps at once.
        clock.end_step(batch)
    assert clock.steps == 14 and clock.epoch_start == 10
    clock.begin_epoch(3, 5)
    clock.begin_epoch(3, 5)
    assert clock.steps == clock.epoch_start == 14
    clock.save()
    again = FitClock()
    again.set_weights(clock.get_weights())
    again.begin_epoch(3, None)
    assert again.steps == 14
    fresh = FitClock()
    fresh.begin_epoch(0, None)
    assert fresh.steps == 0


@pytest.mark.parametrize(
    "method, options",
    [
        ("hard concrete", {}),
        ("hard concrete", {"target": None, "strength": 1.0}),
        ("dynamic", {"train_gates": True, "start": 0}),
    ],
)
def test_a_resumed_fit_draws_on(method, options, tmp_path):
    """Keras does not save how far a seed generator is; the same draws would come twice."""

    def trained(folder, *more):
        model, pruning = compiled(), METHODS[method](**options)
        backup = keras.callbacks.BackupAndRestore(tmp_path / folder, delete_checkpoint=False)
        fit(model, pruning, backup, *more, epochs=4)
        return model

    whole = trained("whole")
    with pytest.raises(KeyboardInterrupt):
        trained("killed", Killed(1))
    for a, b in zip(values(whole), values(trained("killed")), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["hard concrete", "movement", "importance"])
def test_a_fit_of_a_loaded_model_that_begins_after_stop_prunes_no_further(method, tmp_path):
    """The scores of its gates are fresh, and what they say of the groups means nothing."""
    model = compiled()
    fit(model, METHODS[method](), epochs=4)
    counts = left(model)
    model.save(tmp_path / "model.keras")
    model = keras.models.load_model(tmp_path / "model.keras")
    fit(model, METHODS[method](), initial_epoch=3, epochs=4)
    assert left(model) == counts and 0 < counts["ffn_in"] < 6


def test_a_file_without_draws_is_loaded():
    """Such as one that an earlier version of this package wrote."""
    gate = tfprune.gates.HardConcrete(tfprune.find_structures(compiled())[0], seed=3)
    store = {}
    gate.save_own_variables(store)
    assert "draws" in store
    gate.draws.next()
    moved = keras.ops.convert_to_numpy(gate.draws.state).copy()
    gate.load_own_variables({k: v for k, v in store.items() if k != "draws"})
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(gate.draws.state), moved)
    gate.load_own_variables(store)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(gate.draws.state), [3, 0])


@pytest.mark.tensorflow_only
def test_steps_at_once_that_do_not_divide_an_epoch(tmp_path):
    """Three and one of the four steps: Keras says that the last one is the sixth."""
    model, pruning = compiled(steps_per_execution=3), halving(start=16)
    look = Look()
    fit(model, pruning, look, epochs=5)
    assert pruning.owner.clock.steps == 20
    assert look.units == [6] * 7 + [3] * 3

    def trained(folder, *more):
        model = compiled(steps_per_execution=3)
        backup = keras.callbacks.BackupAndRestore(tmp_path / folder, delete_checkpoint=False)
        fit(model, METHODS["movement"](structures="ffn"), backup, *more, epochs=5)
        return model

    whole = trained("whole")
    with pytest.raises(KeyboardInterrupt):
        trained("killed", Killed(1))
    for a, b in zip(values(whole), values(trained("killed")), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
