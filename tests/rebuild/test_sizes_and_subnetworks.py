"""Each size of each group, cut out, equals the gated model; over random architectures."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models import assert_same, noise, outputs, randomize
from tests.rebuild.random_encoders import models
from tfprune.budgets.opening_sizes import binned, opening_sizes
from tfprune.gates import DynamicGate, Size, Subnetworks, attach
from tfprune.gates.chosen_subnetwork import at_subnetwork
from tfprune.gates.dynamic import at_size
from tfprune.gates.subnetworks import input_names
from tfprune.rebuild import rebuild
from tfprune.structures import find_structures

pytestmark = pytest.mark.sampled

NAMES = ("en", "de")
SIZES = (1.0, 0.6, 0.3)


def gated(model, draw, subnetworks):
    structures = find_structures(model)
    size = Size()
    gates = attach(model, [DynamicGate(s, size, subnetworks=subnetworks) for s in structures])
    ranked = []
    for _ in subnetworks.names if subnetworks else [None]:
        scores = {s.name: draw.random(s.groups) for s in structures}
        opens_at, width = opening_sizes(structures, scores)
        ranked.append({n: np.stack(binned(opens_at[n], width[n], SIZES)) for n in opens_at})
    for gate in gates:
        each = np.stack([one[gate.structure.name] for one in ranked], axis=1)
        gate.rank(*(each if subnetworks else each[:, 0]))
    return size


# Each model is compiled for several sizes; JAX takes five seconds for one.
@settings(max_examples=max(4, settings().max_examples // 4))
@given(data=st.data())
def test_a_cut_network_equals_the_gated_one(data):
    model, ids, width = data.draw(models())
    if not len(find_structures(model)):
        return
    seed = data.draw(st.integers(0, 10_000))
    randomize(model, seed)
    draw = np.random.default_rng(seed)
    subnetworks = Subnetworks(NAMES) if data.draw(st.booleans()) else None
    x = draw.integers(0, 9, (4, 5)) if ids else noise(4, 5, width, seed=seed)
    size = gated(model, draw, subnetworks)
    for t in SIZES:
        for name in NAMES if subnetworks else [None]:
            with at_size(model, t), at_subnetwork(model, name):
                expected = outputs(model, x)
            assert_same(expected, outputs(rebuild(model, size=t, subnetwork=name), x))
            if subnetworks:
                # The same, in a batch where others go elsewhere.
                size.size.assign(t)
                mine = np.array([0, 1, 1, 0]) == NAMES.index(name)
                mixed = outputs(model, {input_names(model)[0]: x, "language": [0, 1, 1, 0]})
                assert_same([e[mine] for e in expected], [m[mine] for m in mixed])
