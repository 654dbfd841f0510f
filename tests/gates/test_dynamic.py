import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tfprune
from tests.models import assert_same, noise, outputs, randomize, transformer
from tfprune.gates import DynamicGate, Size, attach, detach
from tfprune.gates.dynamic import CLOSED, OPEN, at_size, size_of

pytestmark = pytest.mark.sampled

LEFT, RIGHT = -0.1, 1.1


def f(x):
    """The hard concrete map, in double precision."""
    x = np.clip(np.asarray(x, "float64"), -50, 50)
    return np.clip((RIGHT - LEFT) / (1 + np.exp(-x)) + LEFT, 0, 1)


def gate_of(groups, opens_at, width, **options):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(groups), keras.layers.Dense(2)])
    size = Size()
    gate = DynamicGate(tfprune.find_structures(model)[0], size, **options)
    gate.rank(np.asarray(opens_at), np.asarray(width))
    return gate, size


def values(gate, size, t):
    size.size.assign(t)
    return keras.ops.convert_to_numpy(gate.values())


def test_where_the_stretched_sigmoid_reaches_its_ends():
    assert f(OPEN) == pytest.approx(1, abs=1e-12) and f(OPEN - 0.1) < 1
    assert f(CLOSED) == pytest.approx(0, abs=1e-12) and f(CLOSED + 0.1) > 0


def test_alpha_and_beta_are_the_closed_form_of_the_paper():
    opens_at, width = np.array([0.3, 0.7, 1.0]), np.array([0.1, 0.2, 0.25])
    gate, _ = gate_of(3, opens_at, width)
    alpha = (1 - opens_at / width) * OPEN + opens_at / width * CLOSED  # Equation 16.
    beta = (OPEN - CLOSED) / width
    np.testing.assert_allclose(keras.ops.convert_to_numpy(gate.alpha), alpha, rtol=1e-5)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(gate.beta), beta, rtol=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_the_gate_is_the_formula_in_double_precision(data):
    width = np.array(data.draw(st.lists(st.floats(1e-5, 0.5), min_size=3, max_size=3)))
    opens_at = np.array(data.draw(st.lists(st.floats(0.05, 1.0), min_size=3, max_size=3)))
    # In the middle of its width a gate is 1/2, at its ends 1 and 0, however narrow it is.
    gate, size = gate_of(3, opens_at, width)
    opens_at = keras.ops.convert_to_numpy(gate.opens_at).astype("float64")
    width = keras.ops.convert_to_numpy(gate.width).astype("float64")
    t = data.draw(st.floats(0.0, 1.0, width=32))
    alpha = (1 - opens_at / width) * OPEN + opens_at / width * CLOSED
    expected = f(alpha + t * (OPEN - CLOSED) / width)
    # One rounding of t - t̂, by the slope of the gate.
    tolerance = 1e-4 + 1e-6 / width
    assert np.all(np.abs(values(gate, size, t) - expected) <= tolerance)


def test_scores_move_alpha_and_stretch_beta():
    gate, size = gate_of(2, [0.5, 0.5], [0.2, 0.2], trained=True)
    gate.scores.assign(np.array([[0.3, 0.0], [0.0, np.log(2.0)]], "float32"))
    x = CLOSED + (0.4 - 0.3) * (OPEN - CLOSED) / 0.2 * np.array([1.0, 2.0]) + [0.3, 0.0]
    np.testing.assert_allclose(values(gate, size, 0.4), f(x), atol=1e-5)


def test_drawn_gates_are_open_as_often_as_expected():
    gate, size = gate_of(3, [0.5, 0.6, 0.7], [0.2, 0.3, 0.4], trained=True, seed=0)
    size.size.assign(0.45)
    draws = np.stack([keras.ops.convert_to_numpy(gate.free(True)) for _ in range(3000)])
    expected = keras.ops.convert_to_numpy(gate.expected())
    np.testing.assert_allclose((draws > 0).mean(0), expected, atol=0.03)
    assert np.all(np.diff(expected) < 0)


def test_gates_that_are_not_trained_are_no_trainable_weights():
    gate, _ = gate_of(3, [0.3, 0.6, 1.0], [0.3, 0.3, 0.4])
    assert not gate.trainable_variables
    trained, _ = gate_of(3, [0.3, 0.6, 1.0], [0.3, 0.3, 0.4], trained=True)
    assert [v.shape for v in trained.trainable_variables] == [(2, 3)]


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_rebuilt_at_a_size_is_the_gated_model_at_that_size(policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = randomize(transformer(heads=4, units=16, activation="gelu"))
        plain = outputs(model, noise(2, 5, 8))
        size = Size()
        structures = tfprune.find_structures(model)
        gates = attach(model, [DynamicGate(s, size) for s in structures])
        assert_same(plain, outputs(model, noise(2, 5, 8)), 0)
        draw = np.random.default_rng(0)
        for gate in gates:
            groups = gate.structure.groups
            opens_at = draw.permutation(np.arange(1, groups + 1)) / groups
            gate.rank(opens_at - 0.01, np.full(groups, 0.01))
        tolerance = 1e-5 if policy == "float32" else 3e-2
        for t in (1.0, 0.75, 0.5, 0.25):
            small = tfprune.rebuild(model, size=t)
            with at_size(model, t):
                assert_same(
                    outputs(model, noise(2, 5, 8)), outputs(small, noise(2, 5, 8)), tolerance
                )
            assert [s.groups for s in tfprune.find_structures(small)] == [4 * t, 16 * t]
        assert_same(plain, outputs(model, noise(2, 5, 8)), 0)  # The size is as it was.
    finally:
        keras.config.set_dtype_policy("float32")


def test_bad_sizes_are_refused():
    model = randomize(transformer())
    with pytest.raises(ValueError, match="`size` needs a model"):
        tfprune.rebuild(model, size=0.5)
    assert size_of(model) is None
    size = Size()
    gates = attach(model, [DynamicGate(s, size) for s in tfprune.find_structures(model)])
    assert size_of(model) is size
    for bad in (0.0, -1, 1.5):
        with pytest.raises(ValueError, match="`size` must be a finite number"):
            tfprune.rebuild(model, size=bad)
    with pytest.raises(ValueError, match="`width` positive"):
        gates[0].rank(np.ones(2), np.zeros(2))
    detach(model)
    with pytest.raises(ValueError, match="carry its gates"):
        tfprune.sizes(model)
