"""Wrong arguments of gates: an error that names the argument and says what would be right."""

import numpy as np
import pytest

import tfprune
from tests.models import transformer
from tfprune.gates import (
    BlockScores,
    DynamicGate,
    HardConcrete,
    Mask,
    MovementScores,
    Size,
    Subnetworks,
    attach,
    detach,
    gates_of,
    subnetworks_of,
)

pytestmark = pytest.mark.sampled


def units():
    return tfprune.find_structures(transformer(units=8))["ffn_in"]


def ranked(opens_at, width):
    DynamicGate(units(), Size()).rank(opens_at, width)


ONES = np.ones(8)


@pytest.mark.parametrize(
    "name, call",
    [
        ("structure", lambda: Mask(3)),
        ("structure", lambda: HardConcrete(None)),
        ("structure", lambda: MovementScores(transformer())),
        ("over", lambda: Mask(units(), ["all"])),
        ("initial", lambda: HardConcrete(units(), initial="high")),
        ("initial", lambda: HardConcrete(units(), initial=np.nan)),
        ("seed", lambda: HardConcrete(units(), seed="x")),
        ("seed", lambda: DynamicGate(units(), Size(), seed=-1)),
        ("score_scale", lambda: HardConcrete(units(), score_scale=0)),
        ("score_scale", lambda: HardConcrete(units(), score_scale="x")),
        ("score_scale", lambda: MovementScores(units(), None)),
        ("score_scale", lambda: MovementScores(units(), np.inf)),
        ("scale", lambda: HardConcrete(units()).rescale(0)),
        ("subnetworks", lambda: HardConcrete(units(), subnetworks=["en", "de"])),
        ("size", lambda: DynamicGate(units(), 0.5)),
        ("trained", lambda: DynamicGate(units(), Size(), trained="no")),
        ("opens_at", lambda: ranked(np.ones(2), np.ones(2))),
        ("opens_at", lambda: ranked("x", ONES)),
        ("opens_at", lambda: ranked(ONES, ONES * np.inf)),
        ("opens_at", lambda: ranked(ONES, ONES * 0)),
        ("block", lambda: BlockScores(units(), 3, 32)),
        ("share", lambda: BlockScores(units(), 3)),
        ("subnetworks", lambda: Subnetworks(3)),
        ("subnetworks", lambda: Subnetworks([1, 2])),
        ("subnetworks", lambda: Subnetworks([["a"], ["b"]])),
        ("entry", lambda: Subnetworks(["en", "de"], entry=3)),
        ("model", lambda: attach(3, [])),
        ("model", lambda: detach(3)),
        ("model", lambda: gates_of(None)),
        ("model", lambda: subnetworks_of("model")),
        ("gates", lambda: attach(transformer(), None)),
        ("gates", lambda: attach(transformer(), Mask(units()))),
        ("gates", lambda: attach(transformer(), [units()])),
        ("gates", lambda: detach(transformer(), gates=[Mask(units())])),
        ("fold", lambda: detach(transformer(), fold="yes")),
    ],
)
def test_what_is_wrong_is_named(name, call):
    with pytest.raises(ValueError, match=rf"`{name}`.* must be .*Received: {name}="):
        call()


@pytest.mark.parametrize("values", ["x", None, 1.0, [1, 0], [[1], [1, 2]], -ONES, ONES * np.nan])
@pytest.mark.parametrize("kind", [Mask, HardConcrete, MovementScores])
def test_values_that_do_not_fit(kind, values):
    gate = kind(units())
    with pytest.raises(ValueError, match=r"must be 8 .*over 'ffn_in'. Received: (values|mask)="):
        gate.fix(values)
    assert gate.open_groups().all()


def test_gates_of_another_model():
    """A copy has weights of its own, which the gates would not scale."""
    model, other = transformer(), transformer()
    gates = [Mask(s) for s in tfprune.find_structures(other)]
    with pytest.raises(ValueError, match="over structures of `model`.*copy"):
        attach(model, gates)
    held = attach(other, gates)
    with pytest.raises(ValueError, match="`gates` must be those of `model`"):
        detach(model, gates=held)
    detach(other, gates=held)
    detach(other, gates=held)  # They are gone already.


def test_two_gates_over_the_same_weights():
    model = transformer()
    twice = [Mask(s) for _ in range(2) for s in tfprune.find_structures(model)]
    with pytest.raises(ValueError, match="`gates` holds two over 'attention'"):
        attach(model, twice)
    assert not gates_of(model)
