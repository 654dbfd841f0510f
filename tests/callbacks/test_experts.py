"""A layer kind that a user has added, with weights of other names, through every callback."""

import keras
import numpy as np
import pytest

import tfprune
from tests.experts import mixture
from tests.fit.methods import METHODS
from tests.models import assert_same, noise, outputs

pytestmark = pytest.mark.sampled

X, Y = noise(16, 3, 6), noise(16, 3, 3, seed=2)


def trained(method, **options):
    model = mixture()
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    pruning = METHODS[method](structures=["experts"], **options)
    model.fit(X, Y, batch_size=4, epochs=4, verbose=0, callbacks=[pruning])
    return model


@pytest.mark.parametrize("method", [name for name in METHODS if name != "dynamic"])
def test_experts_are_pruned_and_cut_out(method, tmp_path):
    model = trained(method)
    small = tfprune.rebuild(model)
    assert_same(outputs(model, X), outputs(small, X))
    left = sum(s.groups for s in tfprune.find_structures(small) if s.kind == "experts")
    assert left == 2 if method != "group lasso" else left < 4
    small.save(tmp_path / "small.keras")
    assert_same(outputs(small, X), outputs(keras.saving.load_model(tmp_path / "small.keras"), X))


def test_experts_of_every_size():
    model = trained("dynamic")
    for size, left in ((1.0, 4), (0.5, 2)):
        assert tfprune.rebuild(model, size=size).get_layer("experts").experts == left


def test_experts_by_gradient_importance():
    """The most important expert is the one whose removal changes the loss most."""
    model = mixture()
    model.compile("adam", "mse")
    layer = model.get_layer("experts")
    scale = np.array([1.0, 0.0, 5.0, 0.1], "float32")
    layer.kernel_out.assign(layer.kernel_out * scale[:, None, None])
    structure = tfprune.find_structures(model).select(["experts"])
    scores = tfprune.criteria.gradient_importance(model, (X, Y), structure)["experts"]
    assert np.argmin(scores) == 1 and np.argmax(scores) == 2


def test_gates_by_example_are_refused_where_a_kind_cannot_have_them():
    model = mixture()
    model.compile("adam", "mse")
    gates = METHODS["hard concrete"](structures=["experts"], subnetworks=["en", "de"])
    x = {"x": X, "language": np.arange(16) % 2}
    with pytest.raises(ValueError, match="`subnetworks`.*'experts'"):
        model.fit(x, Y, verbose=0, callbacks=[gates])
