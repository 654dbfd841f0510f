"""Callbacks on heads and units of layers that nobody has described."""

import keras
import pytest

from tests.attentions import WIDTH, Alibi, Fused, Grouped
from tests.models import assert_same, compile_and_build, noise, outputs
from tfprune.budgets.targets import Sparsity
from tfprune.callbacks import GroupLasso, HardConcreteGates, ImportancePruning, MovementPruning
from tfprune.rebuild import rebuild
from tfprune.structures import find_structures

pytestmark = pytest.mark.sampled

X, Y = noise(48, 5, WIDTH), noise(48, 5, 2, seed=2)
HALF = Sparsity(0.5)
CALLBACKS = {
    "lasso": lambda: GroupLasso(
        strength=0.05, heads="rowcol", relative_threshold=0.95, check_every=2, verbose=0
    ),
    "gates": lambda: HardConcreteGates(target=HALF, verbose=0),
    "movement": lambda: MovementPruning(target=HALF, verbose=0),
    "blocks": lambda: MovementPruning("hybrid", block=(2, 2), target=HALF, verbose=0),
    "importance": lambda: ImportancePruning(target=HALF, data=(X, Y), verbose=0),
}


def model():
    keras.utils.set_random_seed(0)
    x = keras.Input((5, WIDTH))
    y = x + Fused(name="fused")(x)
    y = y + Grouped(name="grouped")(y)
    y = y + Alibi(name="alibi")(y)
    return keras.Model(x, keras.layers.Dense(2)(y))


@pytest.mark.parametrize("name", CALLBACKS)
def test_what_is_pruned_is_cut_exactly(name):
    subject = compile_and_build(model(), keras.optimizers.Adam(0.02), "mse")
    assert [(s.name, s.groups) for s in find_structures(subject)] == [
        ("fused", 4),
        ("grouped", 2),
        ("alibi", 4),
    ]
    before = [tuple(v.shape) for v in subject.weights]
    subject.fit(X, Y, epochs=6, batch_size=8, verbose=0, callbacks=[CALLBACKS[name]()])
    assert [tuple(v.shape) for v in subject.weights] == before
    expected = outputs(subject, X)
    small = rebuild(subject)
    assert_same(expected, outputs(small, X))
    assert small.count_params() < 0.8 * subject.count_params()
