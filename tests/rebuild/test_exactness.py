"""Rebuilt equals masked, on random masks over random architectures.

How many of them is said by the profile of Hypothesis: a few, or many in `make test-slow`.
"""

import keras
import numpy as np
import pytest
from hypothesis import event, example, given
from hypothesis import strategies as st
from keras import layers

from tests.models import assert_same, kill, noise, outputs, randomize
from tests.rebuild.checking import check, prunings
from tests.rebuild.random_convolutions import random_convolutions
from tests.rebuild.random_models import random_case
from tfprune.rebuild import rebuild

pytestmark = pytest.mark.sampled


@given(data=st.data(), pruning=prunings())
def test_rebuilt_equals_masked(data, pruning, tmp_path_factory):
    event(check(random_case(data.draw), pruning, tmp_path_factory.mktemp("saved")))


@given(data=st.data(), pruning=prunings())
def test_rebuilt_convolutions_equals_masked(data, pruning, tmp_path_factory):
    event(check(random_convolutions(data.draw), pruning, tmp_path_factory.mktemp("saved")))


@example(seed=762)  # Nothing is left of the dense pair.
@given(seed=st.integers(0, 1000))
def test_mixed_precision_within_its_own_error(seed):
    policy = keras.dtype_policies.DTypePolicy("mixed_bfloat16")
    inputs = keras.Input((4, 8))
    y = layers.MultiHeadAttention(4, 2, dtype=policy)(inputs, inputs)
    y = layers.Dense(6, "gelu", dtype=policy)(y)
    model = randomize(keras.Model(inputs, layers.Dense(3, dtype=policy)(y)), seed)
    draw = np.random.default_rng(seed)
    kill(model, lambda s: draw.random(s.groups) < 0.5)
    x = noise(2, 4, 8, seed=seed)
    small = rebuild(model)
    assert [v.dtype for v in small.weights] == ["float32"] * len(small.weights)
    assert small.layers[-1].dtype_policy.name == "mixed_bfloat16"
    assert_same(outputs(model, x), outputs(small, x), tolerance=3e-2)
