"""What a fit attaches to a model comes off again, however the fit ends."""

import keras
import numpy as np
import pytest

import tfprune
from tests.fit.methods import METHODS, X, Y, compiled, each, each_mostly_slow, fit, left, values
from tests.models import Killed, assert_same, noise, outputs, transformer
from tfprune.gates import gates_of
from tfprune.structures.places import places

pytestmark = pytest.mark.sampled


class Failing(keras.callbacks.Callback):
    """Fails in one of the methods that Keras calls."""

    def __init__(self, where):
        super().__init__()
        setattr(self, where, self._fail)

    def _fail(self, *args, **kwargs):
        raise RuntimeError("somebody else's mistake")


def is_plain(model, weights=18):
    return (
        len(model.weights) == weights
        and not gates_of(model)
        and not {"call", "fit", "save", "compute_loss"} & set(vars(model))
        and all(w.constraint is None and w.regularizer is None for w in model.weights)
    )


def optimizer_state(model):
    return [v.path for v in model.optimizer.variables], [
        tuple(v.shape) for v in model.optimizer.variables
    ]


@each_mostly_slow("hard concrete")
@pytest.mark.parametrize(
    "where",
    [
        pytest.param("set_model", marks=pytest.mark.slow),
        "on_train_begin",
        pytest.param("on_epoch_begin", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("ours_first", [True, False])
def test_a_callback_that_fails_leaves_everything_as_it_was(method, where, ours_first):
    model = compiled()
    fit(model, epochs=1)
    optimizer, before = model.optimizer, optimizer_state(model)
    callbacks = [METHODS[method](), Failing(where)]
    with pytest.raises(RuntimeError, match="somebody else's"):
        fit(model, *(callbacks if ours_first else callbacks[::-1]))
    fit(model, epochs=1)
    assert model.optimizer is optimizer and optimizer_state(model) == before
    assert is_plain(model)
    fit(model, METHODS[method]())


def test_a_callback_that_refuses_its_structures_leaves_everything_as_it_was():
    model = compiled()
    before = values(model)
    with pytest.raises(ValueError, match="matches no structure"):
        fit(
            model,
            METHODS["hard concrete"](structures=["ffn"]),
            METHODS["group lasso"](structures="x"),
        )
    assert is_plain(model)
    for a, b in zip(before, values(model), strict=True):
        np.testing.assert_array_equal(a, b)
    fit(model, METHODS["group lasso"]())


@each
def test_after_an_interruption_the_model_is_plain(method, tmp_path):
    """Whatever is called first removes what is attached, before it does its work."""
    model = compiled()
    with pytest.raises(KeyboardInterrupt):
        fit(model, METHODS[method](), Killed(2))
    predicted = model.predict(X, verbose=0)
    assert_same(outputs(model, X), [predicted], 1e-5)
    assert model.evaluate(X, Y, verbose=0) == pytest.approx(np.mean((predicted - Y) ** 2), rel=1e-4)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert is_plain(model)
    assert len(loaded.weights) == len(model.weights)
    assert_same([predicted], outputs(loaded, X), 1e-5)


@each_mostly_slow("hard concrete")
@pytest.mark.parametrize(
    "first",
    ["set_weights", "load_weights", "compile", "call", "fit", "find_structures", "count_flops"],
)
def test_after_an_interruption_any_method_works(method, first, tmp_path):
    model = compiled()
    start = model.get_weights()
    model.save_weights(tmp_path / "start.weights.h5")
    with pytest.raises(KeyboardInterrupt):
        fit(model, METHODS[method](), Killed(1))
    if first == "set_weights":
        model.set_weights(start)
    elif first == "load_weights":
        model.load_weights(tmp_path / "start.weights.h5")
    elif first == "compile":
        model.compile("sgd", "mse")
    elif first == "call":
        model(X)
    elif first in ("find_structures", "count_flops"):
        getattr(tfprune, first)(model)
    else:
        loss = fit(model, epochs=1).history["loss"][0]
        assert np.isfinite(loss)
    assert is_plain(model)
    if first in ("set_weights", "load_weights"):
        for a, b in zip(start, model.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_fit_after_an_interruption_has_no_penalty():
    model = compiled(keras.optimizers.SGD(0.0))
    plain = model.evaluate(X, Y, verbose=0)
    with pytest.raises(KeyboardInterrupt):
        fit(model, METHODS["group lasso"](relative_threshold=0.0), Killed(1))
    assert fit(model, epochs=1).history["loss"][0] == pytest.approx(plain, rel=1e-4)


@each_mostly_slow("importance")
def test_weights_that_are_not_finite_are_said_and_can_be_replaced(method):
    model = compiled()
    start = model.get_weights()

    class Poison(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            kernel = self.model.get_layer("ffn_in").kernel
            kernel.assign(keras.ops.full(kernel.shape, float("nan")))
            attention = self.model.get_layer("attention").weights[0]
            attention.assign(keras.ops.full(attention.shape, float("nan")))

    with pytest.raises(ValueError, match="no longer finite|with NaN"):
        fit(model, Poison(), METHODS[method]())
    model.set_weights(start)
    assert np.all(np.isfinite(model.predict(X, verbose=0)))


@pytest.mark.parametrize(
    "first, second",
    [
        ("group lasso", "movement"),
        pytest.param("hard concrete", "lottery", marks=pytest.mark.slow),
        pytest.param("importance", "hard concrete", marks=pytest.mark.slow),
        ("movement", "hard concrete"),
    ],
)
def test_two_callbacks_on_different_structures(first, second):
    kinds = ["heads", "ffn"] if first in ("lottery", "movement") else ["ffn", "heads"]
    model = compiled()
    callbacks = [METHODS[n](structures=[k]) for n, k in zip((first, second), kinds, strict=True)]
    history = fit(model, *callbacks, epochs=6).history
    assert {"groups/ffn", "groups/heads"} <= set(history)
    for callback in callbacks[1:]:
        assert callback.reached == pytest.approx(0.5, abs=0.17)
    assert is_plain(model)
    small = tfprune.rebuild(model)
    assert_same(outputs(model, X), outputs(small, X))
    assert small.count_params() < model.count_params()


@each_mostly_slow("movement")
def test_two_callbacks_on_one_structure_are_refused_before_the_first_step(method):
    model = compiled()
    before = values(model)
    with pytest.raises(ValueError, match="holds two that prune 'attention'"):
        fit(model, METHODS["group lasso"](), METHODS[method]())
    for a, b in zip(before, values(model), strict=True):
        np.testing.assert_array_equal(a, b)
    assert is_plain(model)


@each
def test_a_model_with_nothing_to_prune_is_refused(method):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"nothing that|matches no structure"):
        model.fit(noise(4, 4), noise(4, 2), verbose=0, callbacks=[METHODS[method]()])


class Forgetful(keras.layers.Layer):
    """A layer made of layers whose configuration leaves an argument out."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.inner = keras.layers.Dense(units, "relu")
        self.outer = keras.layers.Dense(8)
        self.attention = keras.layers.MultiHeadAttention(2, 4)

    def build(self, shape):
        self.inner.build(shape)
        self.outer.build((*shape[:-1], self.inner.units))
        self.attention.build(shape, shape)

    def call(self, x):
        return self.outer(self.inner(x)) + self.attention(x, x)

    def get_config(self):
        return super().get_config()


@each_mostly_slow("group lasso")
def test_what_cannot_be_rebuilt_is_said_before_training(method):
    inputs = keras.Input((3, 8))
    model = keras.Model(inputs, keras.layers.Dense(3)(Forgetful(6)(inputs)))
    model.compile("adam", "mse")
    with pytest.warns(UserWarning, match="After this fit `rebuild` cannot copy .*Forgetful"):
        fit(model, METHODS[method]())
    assert_same(outputs(model, X), outputs(tfprune.rebuild(model, in_place=True), X))


def test_what_can_neither_be_copied_nor_be_cut_is_refused_before_training(monkeypatch):
    inputs = keras.Input((3, 8))
    model = keras.Model(inputs, keras.layers.Dense(3)(Forgetful(6)(inputs)))
    model.compile("adam", "mse")
    before = values(model)

    def refuse(*_, **__):
        raise ValueError("it cannot be cut")

    monkeypatch.setattr("tfprune.fit.rehearsal.check_in_place", refuse)
    with pytest.raises(ValueError, match="After this fit the model could not be rebuilt"):
        fit(model, METHODS["group lasso"]())
    for a, b in zip(before, values(model), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("frozen", ["ffn_in", "ffn_out"])
def test_a_frozen_layer_does_not_switch_the_penalty_off(frozen):
    model = randomized = transformer(units=6)
    randomized.get_layer(frozen).trainable = False
    model.compile(keras.optimizers.SGD(0.0), "mse")
    plain = model.evaluate(X, Y, verbose=0)
    lasso = METHODS["group lasso"](structures=["ffn"], strength=0.5, relative_threshold=0.0)
    # The first look sets the strength, before the first step.
    (loss,) = fit(model, lasso, epochs=1).history["loss"]
    structure = tfprune.find_structures(model).select(["ffn"])[0]
    penalty = np.sqrt(structure.group_size) * structure.norms().sum()
    assert loss == pytest.approx(plain + 0.5 * penalty, rel=1e-4)


def test_callbacks_used_by_hand_outside_of_a_list():
    """In a training loop of one's own."""
    model = compiled()
    fit(model, epochs=1)
    importance = METHODS["importance"](start=0)
    importance.set_params({"epochs": 1, "steps": 4})
    importance.set_model(model)
    importance.on_train_begin()
    importance.on_epoch_begin(0)
    for batch in range(4):
        model.train_on_batch(X[batch * 4 : batch * 4 + 4], Y[batch * 4 : batch * 4 + 4])
        importance.on_train_batch_end(batch)
    importance.on_epoch_end(0, {})
    importance.on_train_end()
    assert left(model) == {"attention": 1, "ffn_in": 3}
    assert is_plain(model)


@each_mostly_slow("importance")
def test_a_latency_table_knows_the_model_while_something_is_attached(method):
    if method in ("dynamic", "group lasso", "hard concrete"):
        return  # They take no such target.
    model = compiled()
    structures = tfprune.find_structures(model)
    points = {s.name: [(0, 1.0), (s.groups, 0.0)] for s in structures}
    table = tfprune.LatencyTable(4.0, points, layers=places(model))
    kind = {"lottery": "heads"}.get(method, "ffn")
    callback = METHODS[method](structures=kind, target=tfprune.Latency(3.5, on=table))
    fit(compiled(), callback)
    assert callback.reached == pytest.approx(3.5)
