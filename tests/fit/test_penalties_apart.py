"""A penalty is in the loss of training alone, and logged by itself."""

import keras
import numpy as np
import pytest

import tfprune
from tests.fit.methods import METHODS, X, Y, compiled, fit

pytestmark = pytest.mark.sampled

PENALISED = {
    "group lasso": lambda: METHODS["group lasso"](relative_threshold=0, threshold=0),
    "hard concrete": lambda: METHODS["hard concrete"](penalty="l1", warm_up=0.0, stop=None),
    "movement": lambda: METHODS["movement"](target=None, strength=5.0, start=0, stop=1.0),
    "dynamic": lambda: METHODS["dynamic"](train_gates=True),
}


class Look(keras.callbacks.Callback):
    """Evaluates amid the epochs, as a callback of the user's own may."""

    def __init__(self):
        super().__init__()
        self.errors, self.evaluated, self.on_batch = [], [], []

    def on_epoch_end(self, epoch, logs=None):
        self.evaluated.append(self.model.evaluate(X, Y, batch_size=4, verbose=0))
        self.on_batch.append(float(self.model.test_on_batch(X, Y)))
        predicted = keras.ops.convert_to_numpy(self.model(X, training=False))
        self.errors.append(float(np.mean((predicted - Y) ** 2)))


@pytest.mark.parametrize("method", PENALISED)
def test_what_is_evaluated_in_a_fit_holds_no_penalty(method):
    look = Look()
    history = fit(
        compiled(keras.optimizers.SGD(0.01)),
        look,
        PENALISED[method](),
        validation_data=(X, Y),
        validation_batch_size=4,
    ).history
    np.testing.assert_allclose(look.evaluated, look.errors, rtol=1e-4)
    np.testing.assert_allclose(look.on_batch, look.errors, rtol=1e-4)
    np.testing.assert_allclose(history["val_loss"], look.errors, rtol=1e-4)
    name = "penalty/" + {
        "dynamic": "dynamic_sparsity",
        "hard concrete": "hard_concrete_gates",
        "movement": "movement_pruning",
    }.get(method, "group_lasso")
    assert max(history[name]) > 0.01
    assert f"val_{name}" not in history


def test_the_loss_is_the_error_and_the_penalty():
    history = fit(
        compiled(keras.optimizers.SGD(0.0)),
        METHODS["group lasso"](relative_threshold=0, threshold=0),
        validation_data=(X, Y),
    ).history
    for loss, error, penalty in zip(
        history["loss"], history["val_loss"], history["penalty/group_lasso"], strict=True
    ):
        assert loss == pytest.approx(error + penalty, rel=1e-4)
        assert penalty > 1.0


def test_two_of_a_kind_are_logged_as_one():
    def penalty(*callbacks):
        model = compiled(keras.optimizers.SGD(0.0))
        return fit(model, *callbacks, epochs=1).history["penalty/group_lasso"][0]

    def lasso(structures):
        return METHODS["group lasso"](structures=structures, relative_threshold=0, threshold=0)

    both = penalty(lasso(["ffn"]), lasso(["heads"]))
    assert both == pytest.approx(penalty(lasso(["ffn"])) + penalty(lasso(["heads"])), rel=1e-5)
    assert both == pytest.approx(penalty(lasso(None)), rel=1e-5)


def test_no_penalty_is_logged_where_there_is_none():
    history = fit(compiled(), METHODS["importance"](), epochs=1).history
    assert not any(name.startswith("penalty/") for name in history)


@pytest.mark.parametrize("eager", [False, True])
def test_evaluation_after_the_fit_is_as_before(eager):
    model = compiled(keras.optimizers.SGD(0.0), run_eagerly=eager)
    plain = model.evaluate(X, Y, verbose=0)
    fit(model, METHODS["group lasso"](relative_threshold=0, threshold=0), epochs=1)
    assert "test_step" not in vars(model)
    assert model.evaluate(X, Y, verbose=0) == pytest.approx(plain, rel=1e-6)


def test_the_student_of_a_distiller():
    pytest.importorskip("keras", "3.11")
    teacher, student = compiled(), compiled()
    distiller = keras.distillation.Distiller(
        teacher, student, keras.distillation.LogitsDistillation()
    )
    distiller.compile(keras.optimizers.SGD(0.0), keras.losses.MeanSquaredError())
    lasso = METHODS["group lasso"](relative_threshold=0, threshold=0)
    fit(distiller, epochs=1)
    plain = distiller.evaluate(X, Y, verbose=0, return_dict=True)["loss"]
    history = fit(distiller, lasso, epochs=1, validation_data=(X, Y)).history
    assert history["val_loss"][0] == pytest.approx(plain, rel=1e-4)
    assert history["loss"][0] > plain + 0.5 * history["penalty/group_lasso"][0]
    assert tfprune.find_structures(student)
