"""A pruned group stays exactly zero, whatever the optimizer does."""

import keras
import numpy as np
import pytest

import tfprune
from tests.fit.methods import METHODS, X, Y, compiled, each_mostly_slow, fit
from tests.models import assert_same, outputs
from tfprune.keras_private.optimizers import AddedVariables, slots

pytestmark = pytest.mark.sampled


def adam(**options):
    return keras.optimizers.Adam(1e-2, **options)


def several():
    rules = keras.optimizers.OptimizerMap(
        adam(), {"ffn_in/.*": keras.optimizers.SGD(1e-2, momentum=0.9)}
    )
    return keras.optimizers.MultiOptimizer(rules)


OPTIMIZERS = {
    "a function as learning rate": lambda: keras.optimizers.Adam(lambda: 1e-2),
    "a schedule": lambda: keras.optimizers.Adam(
        keras.optimizers.schedules.ExponentialDecay(1e-2, 10, 0.9)
    ),
    "several optimizers": several,
    "moving average": lambda: adam(use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=3),
    "weight decay": lambda: keras.optimizers.AdamW(1e-2, weight_decay=0.1),
    "momentum": lambda: keras.optimizers.SGD(1e-2, momentum=0.9, nesterov=True),
    "loss scale": lambda: keras.optimizers.LossScaleOptimizer(adam()),
    "accumulation": lambda: adam(gradient_accumulation_steps=2),
    "lion": lambda: keras.optimizers.Lion(1e-3),
    "nadam": lambda: keras.optimizers.Nadam(1e-2),
    "adafactor": lambda: keras.optimizers.Adafactor(1e-2),
    "muon": lambda: keras.optimizers.Muon(1e-2),
}


def fit_again(model, name):
    # Keras on JAX cannot fit twice with averaged weights: the average becomes the weight itself.
    if not (name == "moving average" and keras.backend.backend() == "jax"):
        fit(model, epochs=1)


FAST = ("several optimizers", "moving average", "loss scale", "accumulation")
every_optimizer = pytest.mark.parametrize(
    "name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in OPTIMIZERS]
)


class Watch(keras.callbacks.Callback):
    """Looks at pruned groups after every step that Keras shows."""

    def __init__(self, pruning):
        super().__init__()
        self.pruning = pruning
        self.largest = 0.0
        self.seen = 0

    def on_train_batch_end(self, batch, logs=None):
        self.model  # noqa: B018  # On JAX this brings the weights up to date.
        for structure in self.pruning.structures:
            norms = structure.norms()[self.pruning.pruned(structure)]
            self.seen += len(norms)
            self.largest = max([self.largest, *norms])


@every_optimizer
def test_a_pruned_group_stays_zero(name):
    optimizer = OPTIMIZERS[name]()
    model = compiled(optimizer)
    pruning = METHODS["importance"](start=0.25, check_every=1000)
    watch = Watch(pruning)
    fit(model, pruning, watch, epochs=4)
    assert watch.seen > 0 and watch.largest == 0.0
    assert model.optimizer is optimizer
    assert [s.groups for s in tfprune.find_structures(tfprune.rebuild(model))] == [1, 3]
    assert_same(outputs(model, X), outputs(tfprune.rebuild(model), X))
    fit_again(model, name)  # The optimizer goes on as it was.


@every_optimizer
def test_gates_train_with_any_optimizer(name):
    optimizer = OPTIMIZERS[name]()
    model = compiled(optimizer)
    before = [v.path for v in optimizer.variables]
    gates = METHODS["hard concrete"]()
    moved = []

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model  # noqa: B018
            moved.append([keras.ops.convert_to_numpy(g.scores).copy() for g in gates.gates])

    fit(model, gates, Look(), epochs=4)
    assert not any(np.array_equal(a, b) for a, b in zip(moved[0], moved[-1], strict=True))
    after = [v.path for v in optimizer.variables]
    assert model.optimizer is optimizer and len(after) >= len(before)
    assert not any("gate" in path or "left" in path for path in after)
    assert [s.groups for s in tfprune.find_structures(tfprune.rebuild(model))] == [1, 3]
    fit_again(model, name)


@each_mostly_slow("hard concrete")
def test_several_steps_in_one_execution(method):
    model = compiled(steps_per_execution=2)
    fit(model, METHODS[method](), epochs=4)
    if method != "dynamic":
        assert_same(outputs(model, X), outputs(tfprune.rebuild(model), X))


def test_constraints_of_ones_own_hold_too():
    model = compiled()
    kernel = model.get_layer("ffn_in").kernel
    kernel.constraint = own = keras.constraints.NonNeg()
    fit(model, METHODS["importance"](), epochs=3)
    assert kernel.constraint is own
    assert np.all(keras.ops.convert_to_numpy(kernel) >= 0)


@every_optimizer
def test_added_variables_come_and_go(name):
    optimizer = OPTIMIZERS[name]()
    model = compiled(optimizer)
    fit(model, epochs=1)
    own = list(model.trainable_variables)

    def state():
        found = [[v.path for v in optimizer.variables]]
        found += [keras.ops.convert_to_numpy(v).copy() for v in optimizer.variables]
        return found

    before = state()
    added = [keras.Variable(np.ones(n, "float32"), name=f"score_{n}") for n in (2, 3)]
    kept = [keras.Variable(np.ones(4, "float32"), trainable=False, name="mask")]
    order = [added[0], *own, added[1]]
    extended = AddedVariables(optimizer, own, added, order, kept)
    variables = optimizer.variables
    assert any(v is kept[0] for v in variables)
    assert len(slots(optimizer, added[0])) == len(slots(optimizer, own[1])) or name == "muon"
    extended.remove()
    for a, b in zip(before, state(), strict=True):
        np.testing.assert_array_equal(a, b)
    extended.apply()
    assert [v.path for v in optimizer.variables] == [v.path for v in variables]
    extended.remove()
    fit_again(model, name)


def test_slots_are_those_of_the_weight():
    model = compiled(keras.optimizers.Adam(1e-2, use_ema=True, gradient_accumulation_steps=2))
    fit(model, epochs=1)
    kernel = model.get_layer("ffn_in").kernel
    names = [slot.name for slot in slots(model.optimizer, kernel)]
    assert len(names) == 4  # Momentum, velocity, average and accumulated gradients.
    assert all("ffn_in" in name for name in names)
    assert slots(model.optimizer, keras.Variable(np.ones(2))) == []


def test_the_loss_of_a_fit_is_unchanged_by_a_callback_that_prunes_nothing():
    losses = []
    for callbacks in ([], [METHODS["importance"](target=tfprune.Sparsity(0.0))]):
        keras.utils.set_random_seed(3)
        model = compiled(keras.optimizers.AdamW(1e-2, weight_decay=0.01))
        losses.append(fit(model, *callbacks, epochs=3).history["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-5)
    assert np.isfinite(model.evaluate(X, Y, verbose=0))
