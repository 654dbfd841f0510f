"""Each method prunes the channels of a convolutional network, and what it leaves is exact."""

import keras
import numpy as np
import pytest
from keras import layers

import tfprune
from tests.convolutional import network
from tests.models import assert_same, noise, outputs
from tfprune.callbacks import GroupLasso, HardConcreteGates, ImportancePruning, MovementPruning

pytestmark = pytest.mark.sampled

X = noise(32, 8, 8, 3)
Y = np.random.default_rng(0).integers(0, 3, 32)
HALF = tfprune.Sparsity(0.5)

METHODS = {
    "group_lasso": lambda: GroupLasso(target=HALF, stop=1.0, verbose=0),
    "network_slimming": lambda: GroupLasso(["channels"], target=HALF, removal="during", verbose=0),
    "importance": lambda: ImportancePruning(target=HALF, data=(X, Y), rounds=1, verbose=0),
    "magnitude": lambda: ImportancePruning(target=HALF, criterion="magnitude", verbose=0),
    "hard_concrete": lambda: HardConcreteGates(target=HALF, verbose=0),
    "movement": lambda: MovementPruning(target=HALF, verbose=0),
}


@pytest.mark.parametrize("name", ["residual", "inverted"])
@pytest.mark.parametrize("method", METHODS)
def test_a_fit(name, method):
    keras.utils.set_random_seed(0)
    model = network(name)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss)
    model.fit(X, Y, batch_size=8, epochs=4, verbose=0, callbacks=[METHODS[method]()])
    small = tfprune.rebuild(model)
    assert_same(outputs(model, X), outputs(small, X))
    left = {s.name: s.groups for s in tfprune.find_structures(small)}
    before = {s.name: s.groups for s in tfprune.find_structures(model)}
    assert sum(left.values()) < 0.8 * sum(before.values())
    small.compile("adam", loss)
    small.fit(X, Y, verbose=0)


@pytest.mark.parametrize("target", [tfprune.Flops(0.5), tfprune.Sparsity(0.5)])
@pytest.mark.parametrize(
    "pruning", [tfprune.callbacks.GroupLasso, tfprune.callbacks.MovementPruning]
)
def test_by_flops_each_layer_loses_the_same_share_of_its_channels(pruning, target):
    """The channels of the last layers cost least: all but one of them would go."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((16, 16, 3))])
    for width, strides in ((8, 1), (16, 2), (64, 4)):
        model.add(layers.Conv2D(width, 3, strides, padding="same", activation="relu"))
    model.add(layers.GlobalAveragePooling2D())
    model.add(layers.Dense(2))
    model.compile("adam", "mse")
    callback = pruning(target=target, start=0, stop=3, verbose=0)
    model.fit(noise(16, 16, 16, 3), noise(16, 2), 4, verbose=0, callbacks=[callback])
    by_flops = isinstance(target, tfprune.Flops)
    assert callback.within == ("layer" if by_flops else "kind")
    before, now = (tfprune.find_structures(m) for m in (model, tfprune.rebuild(model)))
    left = [s.groups / t.groups for s, t in zip(now, before, strict=True)]
    assert not by_flops or max(left) - min(left) < 0.15


@pytest.mark.parametrize("pruning", [HardConcreteGates, tfprune.callbacks.HeadLottery])
def test_those_that_compare_in_one_way_only_must_be_told_another(pruning):
    with pytest.raises(ValueError, match="`within`"):
        pruning(target=HALF, within=None)
