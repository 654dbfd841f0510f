import warnings

import keras
import numpy as np
import pytest
from keras import layers

import tfprune
from tests.models import randomize
from tfprune.rebuild.nothing_zero import NothingPruned
from tfprune.wrappers import HardConcreteGroups, MaskedGroups, MovementGroups

pytestmark = pytest.mark.sampled


def small():
    return randomize(
        keras.Sequential([keras.Input((4,)), layers.Dense(6, "relu", name="in"), layers.Dense(2)])
    )


def test_a_model_in_which_nothing_is_zero():
    model = small()
    with pytest.warns(UserWarning, match="no group of `model` is zero") as warned:
        tfprune.rebuild(model)
    assert warned[0].filename == __file__


def test_nothing_is_said_where_groups_go_or_are_named_or_there_are_none():
    half = small()
    tfprune.find_structures(half)[0].scale(np.arange(6) < 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error", NothingPruned)
        assert tfprune.rebuild(half).count_params() < half.count_params()
        tfprune.rebuild(small(), keep={})
        tfprune.rebuild(small(), keep={"in": np.ones(6, bool)})
        tfprune.rebuild(keras.Sequential([keras.Input((4,)), layers.Dense(2)]))


@pytest.mark.parametrize("wrapper", [HardConcreteGroups, MaskedGroups, MovementGroups])
def test_nothing_is_said_where_wrappers_with_open_gates_are_taken_off(wrapper):
    x = keras.Input((4,))
    model = keras.Model(x, layers.Dense(2)(wrapper(layers.Dense(6, "relu"))(x)))
    with warnings.catch_warnings():
        warnings.simplefilter("error", NothingPruned)
        assert tfprune.rebuild(model).count_params() == 4 * 6 + 6 + 6 * 2 + 2
