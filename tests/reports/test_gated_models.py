"""Wrong calls of what needs a model with gates of several sizes or subnetworks."""

import numpy as np
import pytest

import tfprune
from tests.models import transformer
from tfprune.gates import DynamicGate, Size, Subnetworks, attach
from tfprune.reports.inspection import inspect

pytestmark = pytest.mark.sampled


def gated(*names):
    model = transformer()
    size = Size()
    subnetworks = Subnetworks(names) if names else None
    structures = tfprune.find_structures(model)
    gates = attach(model, [DynamicGate(s, size, subnetworks=subnetworks) for s in structures])
    for gate in gates:
        opens = np.linspace(0.2, 0.9, gate.structure.groups)
        gate.rank(np.broadcast_to(opens, gate.shape), np.full(gate.shape, 0.1))
    return model


def test_gates_are_no_bytes_of_weights():
    """Nor are they parameters: what a callback keeps is no part of the model that was given."""
    result = tfprune.compare(gated(), gated(), latency=False)
    parameters, _ = result.figures["parameters"]
    assert parameters == transformer().count_params()
    assert result.figures["bytes of weights"] == (4 * parameters, 4 * parameters)


@pytest.mark.parametrize("sizes", [0.5, "abc", None, {"a": 1}, ["abc"], [2], [0], [True], [np.nan]])
def test_wrong_sizes(sizes):
    with pytest.raises(ValueError, match="`sizes` must be"):
        tfprune.sizes(gated(), sizes=sizes, latency=False, verbose=0)


@pytest.mark.parametrize("name", ["batch_size", "sequence_length", "threads"])
def test_wrong_conditions(name):
    with pytest.raises(ValueError, match=f"`{name}` must be a positive integer"):
        tfprune.sizes(gated(), **{name: 0}, verbose=0)


@pytest.mark.parametrize("size", ["abc", True, 0, 5, np.nan, [0.5]])
def test_wrong_size(size):
    with pytest.raises(ValueError, match="`size` must be a finite number, at most 1 and above 0"):
        tfprune.rebuild(gated(), size=size)
    with pytest.raises(ValueError, match="`size` must be a finite number, at most 1 and above 0"):
        tfprune.sharing(gated("en", "de"), size=size)


@pytest.mark.parametrize("subnetwork", [99, "fr", ["en"], True])
def test_wrong_subnetwork(subnetwork):
    with pytest.raises(ValueError, match="`subnetwork` must be one of 'en', 'de'"):
        tfprune.rebuild(gated("en", "de"), subnetwork=subnetwork)


def test_what_is_no_model():
    for call in (tfprune.sizes, tfprune.sharing):
        with pytest.raises(ValueError, match="`model` must be a Keras model"):
            call(None)


def test_numbers_of_numpy_are_sizes():
    rows = tfprune.sizes(gated(), sizes=np.array([1.0, 0.5]), latency=False, verbose=0).rows
    assert [row["size"] for row in rows] == [1.0, 0.5]
    small = tfprune.rebuild(gated(), size=np.float32(0.5))
    assert small.count_params() == rows[1]["parameters"]


def test_what_is_zero_is_not_told_of_several_subnetworks():
    found = inspect(gated("en", "de"))
    assert found.zero is None and "differs between its subnetworks" in str(found)
    # Of one network it is: those that the size closes, which stands at the largest.
    assert inspect(gated()).zero == {"attention": 0, "ffn_in": 0}
