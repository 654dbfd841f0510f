import numpy as np
import pytest
from keras import ops

import tfprune
from tests.models import randomize, transformer
from tfprune.callbacks.soft_movement import SoftMovement
from tfprune.fit.state import State
from tfprune.gates import MovementScores, attach


@pytest.mark.parametrize(
    "strength, expected",
    [
        (8.0, {"attention": 8.0 / 32 / 2, "ffn_in": 8.0 / 2}),
        ({".*": 8.0, "ffn": 4.0}, {"attention": 8.0 / 2, "ffn_in": 4.0 / 2}),
        (lambda step: step + 1.0, {"attention": 4.0 / 32, "ffn_in": 4.0}),
    ],
)
def test_strengths_and_threshold_grow(strength, expected):
    model = randomize(transformer())
    structures = tfprune.find_structures(model)
    gates = attach(model, [MovementScores(s) for s in structures])
    state = State(len(structures), "state")
    soft = SoftMovement(gates, structures, strength, state, grown=lambda step: 0.5)
    state.since_start(2)
    soft.mask(5)
    np.testing.assert_allclose(
        ops.convert_to_numpy(state.strengths), [expected[s.name] for s in structures], rtol=1e-6
    )
    sigmoid = [1 / (1 + np.exp(-ops.convert_to_numpy(gate.threshold))) for gate in gates]
    np.testing.assert_allclose(sigmoid, 0.05, rtol=1e-5)
    soft.end(9)
    sigmoid = [1 / (1 + np.exp(-ops.convert_to_numpy(gate.threshold))) for gate in gates]
    np.testing.assert_allclose(sigmoid, 0.1, rtol=1e-5)
