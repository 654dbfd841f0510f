"""What convolutions read."""

import numpy as np
import pytest
from keras import layers, ops

from tests.models import noise, randomize
from tfprune.overlay.windows import windows
from tfprune.structures.convolutions import reads_windows

CONVOLUTIONS = {
    "valid": lambda: layers.Conv2D(5, 3),
    "same, stride": lambda: layers.Conv2D(5, (3, 2), strides=2, padding="same"),
    "dilated": lambda: layers.Conv2D(5, 3, dilation_rate=2, padding="same"),
    "pointwise": lambda: layers.Conv2D(5, 1, strides=3),
    "one dimension": lambda: layers.Conv1D(5, 3, dilation_rate=2, padding="causal"),
    "three dimensions": lambda: layers.Conv3D(5, 2, padding="same"),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_windows_times_kernel_is_the_output(name):
    layer = CONVOLUTIONS[name]()
    rank = len(layer.kernel_size)
    x = noise(2, *[7, 6, 5][:rank], 4)
    layer(x)
    randomize(layer)
    assert reads_windows(layer)
    expected = ops.convert_to_numpy(layer(x)).reshape(-1, 5)
    kernel = ops.convert_to_numpy(layer.kernel).reshape(-1, 5)
    found = windows(layer, x) @ kernel + ops.convert_to_numpy(layer.bias)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_some_positions_are_drawn():
    layer = layers.Conv2D(2, 3)
    x = noise(3, 9, 9, 2)
    layer(x)
    every, some = windows(layer, x), windows(layer, x, most=20)
    assert every.shape == (3 * 7 * 7, 18) and some.shape == (20, 18)
    assert {tuple(row) for row in some} <= {tuple(row) for row in every}
    np.testing.assert_array_equal(some, windows(layer, x, most=20))
