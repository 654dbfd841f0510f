import keras
import numpy as np
import pytest
from keras import layers, ops

from tests.models import noise
from tfprune.structures.by_shape.padding import AtPositions, picked, spread_out

pytestmark = pytest.mark.sampled


def test_zeros_stand_where_nothing_was_left():
    x = np.arange(6.0).reshape(1, 2, 3)
    spread = ops.convert_to_numpy(spread_out(x, -1, [0, 3, 4], 6))
    assert spread.tolist() == [[[0, 0, 0, 1, 2, 0], [3, 0, 0, 4, 5, 0]]]
    assert ops.convert_to_numpy(spread_out(x, -2, [1, 2], 3))[0, 0].tolist() == [0, 0, 0]
    assert np.array_equal(picked(spread, -1, [0, 3, 4]), x)


@pytest.mark.parametrize(
    ("make", "changes", "axis", "of"),
    [
        (lambda: layers.Dense(6), {"units": 2}, -1, "outputs"),
        (lambda: layers.Dense(3, use_bias=False), {}, -1, "inputs"),
        (
            lambda: layers.EinsumDense("btm,mhd->bthd", (None, 4, 3)),
            {"output_shape": (None, 2, 3)},
            -2,
            "outputs",
        ),
        (lambda: layers.EinsumDense("bthm,hmd->btd", (None, 5)), {}, -2, "inputs"),
    ],
)
def test_what_is_left_computes_what_the_whole_does_with_the_rest_silent(make, changes, axis, of):
    whole = make()
    x = noise(2, 5, 4, 3) if axis == -2 and of == "inputs" else noise(2, 5, 6)
    whole(x)
    kept = [1, 3]
    small = type(whole).from_config({**whole.get_config(), **changes})
    length = x.shape[axis] if of == "inputs" else whole(x).shape[axis]
    layer = AtPositions(small, axis, kept, length, of)
    layer.build(x.shape)
    along = {
        ("Dense", "outputs"): 1,
        ("Dense", "inputs"): 0,
        ("EinsumDense", "outputs"): 1,
        ("EinsumDense", "inputs"): 0,
    }[type(whole).__name__, of]
    kernel = np.array(whole.kernel)
    dead = np.setdiff1d(np.arange(kernel.shape[along]), kept)
    small.kernel.assign(np.take(kernel, kept, along))
    kernel[(slice(None),) * along + (dead,)] = 0
    whole.kernel.assign(kernel)
    if whole.bias is not None:
        whole.bias.assign(np.zeros(whole.bias.shape))
    assert np.allclose(layer(x), whole(x), atol=1e-6)
    assert layer.compute_output_shape(x.shape) == whole.compute_output_shape(x.shape)
    again = AtPositions.from_config(layer.get_config())
    again.build(x.shape)
    again.set_weights(layer.get_weights())
    assert np.allclose(again(x), layer(x))
    assert keras.saving.get_registered_name(AtPositions) == "tfprune>AtPositions"
