import keras
import numpy as np
import pytest

import tfprune
from tests.models import assert_same, noise, outputs, randomize, transformer
from tfprune.callbacks import (
    DynamicSparsity,
    GroupLasso,
    HardConcreteGates,
    HeadLottery,
    ImportancePruning,
    MovementPruning,
)
from tfprune.gates import gates_of

pytestmark = pytest.mark.sampled

X, Y = noise(32, 3, 8), noise(32, 3, 3, seed=2)


def distiller(optimizer=None, loss_weight=0.5):
    model = keras.distillation.Distiller(
        teacher=randomize(transformer(units=24), 1),
        student=randomize(transformer(units=24), 2),
        distillation_losses=keras.distillation.LogitsDistillation(temperature=2.0, loss="mse"),
        student_loss_weight=loss_weight,
    )
    model.compile(optimizer or keras.optimizers.Adam(1e-3), loss="mse")
    return model


HALF = {"target": tfprune.Sparsity(0.5), "verbose": 0}


@pytest.mark.parametrize(
    "callback",
    [
        lambda: GroupLasso(strength=0.1, stop=None, verbose=0, relative_threshold=0.9),
        lambda: HardConcreteGates(**HALF),
        lambda: MovementPruning("hybrid", block=(4, 2), **HALF),
        lambda: ImportancePruning(data=(X, Y), **HALF),
        lambda: HeadLottery(data=X, start=0, round_length=4, **HALF),
    ],
)
def test_the_student_is_pruned_and_the_teacher_is_not(callback):
    model = distiller()
    teacher = outputs(model.teacher, X)
    model.fit(X, Y, batch_size=8, epochs=4, verbose=0, callbacks=[callback()])
    assert_same(teacher, outputs(model.teacher, X), 0)
    assert not gates_of(model.student) and "compute_loss" not in vars(model)
    small = tfprune.rebuild(model.student)
    assert small.count_params() < model.teacher.count_params()
    assert_same(outputs(model.student, X), outputs(small, X))


def test_a_student_of_every_size():
    model = distiller()
    teacher = outputs(model.teacher, X)
    every = DynamicSparsity([1.0, 0.5], data=(X, Y), train_gates=True, verbose=0)
    model.fit(X, Y, batch_size=8, epochs=4, verbose=0, callbacks=[every])
    assert_same(teacher, outputs(model.teacher, X), 0)
    small = tfprune.rebuild(model.student, size=0.5)
    left = [sum(s.weights for s in tfprune.find_structures(m)) for m in (small, model.student)]
    assert left[0] / left[1] == pytest.approx(0.5, abs=0.05)


def test_the_teachers_loss_in_our_examples_is_that_of_softened_probabilities():
    def softened(logits):
        shares = np.exp(logits / 2.0)
        return shares / shares.sum(-1, keepdims=True)

    teacher, student = noise(4, 3, seed=3), noise(4, 3, seed=4)
    loss = keras.distillation.LogitsDistillation(2.0, loss=keras.losses.KLDivergence())
    p, q = softened(teacher), softened(student)
    expected = 2.0**2 * np.mean(np.sum(p * np.log(p / q), axis=-1))
    found = float(keras.ops.convert_to_numpy(loss.compute_loss(teacher, student)))
    assert found == pytest.approx(expected, rel=1e-5)


def test_scoring_leaves_the_losses_of_the_epoch_alone():
    def history(*callbacks):
        model = distiller(keras.optimizers.SGD(0.0))
        return model.fit(X, Y, batch_size=8, verbose=0, callbacks=list(callbacks)).history

    class Score(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 1:  # On targets that would be seen in the losses.
                tfprune.criteria.gradient_importance(self.model, (X, 9 * Y))

    plain, scored = history(), history(Score())
    assert plain.keys() == scored.keys()
    for name, (value,) in plain.items():
        assert scored[name] == [pytest.approx(value, rel=1e-5)]


def test_the_penalty_is_in_the_loss():
    model = distiller(keras.optimizers.SGD(0.0))
    plain = model.fit(X, Y, batch_size=32, verbose=0).history["loss"][0]
    # The fit has one step, all of it under the penalty.
    lasso = GroupLasso(
        ["ffn"], strength=0.3, stop=None, threshold=0, relative_threshold=0, verbose=0
    )
    pressed = model.fit(X, Y, batch_size=32, verbose=0, callbacks=[lasso]).history["loss"][0]
    (structure,) = tfprune.find_structures(model.student).select(["ffn"])
    penalty = float(keras.ops.convert_to_numpy(tfprune.penalties.penalty(structure)))
    assert pressed - plain == pytest.approx(0.3 * penalty, rel=1e-4)
    again = model.fit(X, Y, batch_size=32, verbose=0).history["loss"][0]
    assert again == pytest.approx(plain, rel=1e-5)
    assert np.isfinite(again)
