"""Penalties on gates, against NumPy."""

import keras
import numpy as np
import pytest
from keras import ops

import tfprune
from tests.models import noise, randomize, transformer
from tfprune.gates import DynamicGate, HardConcrete, MovementScores, Size, Subnetworks, attach
from tfprune.gates.attaching import PenaltyValues
from tfprune.gates.gate_penalties import (
    Diversity,
    ScorePenalty,
    SizeGap,
    SizePenalty,
    prior_over_pairs,
)

NAMES = ["en", "de", "es"]


def chance_of_being_open(alpha):
    return 1 / (1 + np.exp(-(alpha - 2 / 3 * np.log(0.1 / 1.1))))


def drawn_gates(subnetworks=None):
    """Gates with random α; the penalty's numbers; the expected share of the weights."""
    model = randomize(transformer(units=24), 0)
    structures = tfprune.find_structures(model)
    gates = attach(model, [HardConcrete(s, subnetworks=subnetworks) for s in structures])
    draw = np.random.default_rng(0)
    total = weights = 0.0
    for gate in gates:
        alpha = draw.normal(size=gate.shape)
        gate.scores.assign(alpha)
        total = total + gate.structure.group_size * chance_of_being_open(alpha).sum(axis=-1)
        weights += gate.structure.weights
    return gates, tfprune.Sparsity(0.0).cost(model, structures), total / weights


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("kind", ["size", "l1", "lagrangian"])
def test_the_size_is_that_of_the_equation(kind, apart):
    gates, cost, size = drawn_gates(Subnetworks(NAMES) if apart else None)
    limit, multiplier, strength = 0.8 if apart else 0.3, 1.7, 4.0
    gates.set_penalty_values(PenaltyValues(strength, limit, multiplier))
    expected = {
        "size": strength * size,
        "l1": strength * np.abs(size - limit),
        "lagrangian": multiplier * (size - limit) + strength / 2 * (size - limit) ** 2,
    }
    got = float(ops.convert_to_numpy(SizePenalty(gates, cost, kind)()))
    # Distances are taken one by one, then added up: one too large does not make good another.
    assert got == pytest.approx(np.sum(expected[kind]), rel=1e-5)
    assert not apart or min(size) < limit < max(size)


def test_scores_are_pressed_as_in_the_equation():
    (structure,) = tfprune.find_structures(randomize(transformer())).select(["ffn"])
    gate = MovementScores(structure, score_scale=3.0)
    raw = noise(12)
    gate.scores.assign(raw)
    strengths = keras.Variable([0.0, 0.7])
    got = float(ops.convert_to_numpy(ScorePenalty(gate, strengths, 1, share=0.25)()))
    assert got == pytest.approx(0.7 * 0.25 * np.sum(1 / (1 + np.exp(-3 * raw))) / 12, rel=1e-5)


def test_the_gap_is_taken_for_each_subnetwork():
    model, size = randomize(transformer()), Size()
    structures = tfprune.find_structures(model)
    names = Subnetworks(NAMES)
    gates = attach(model, [DynamicGate(s, size, True, subnetworks=names) for s in structures])
    draw = np.random.default_rng(1)
    for gate in gates:
        gate.rank(draw.random(gate.shape), np.full(gate.shape, 0.1))
    size.size.assign(0.4)
    gates.set_penalty_values(PenaltyValues(3.0))
    total = sum(s.weights for s in structures)
    each = sum(
        g.structure.group_size * ops.convert_to_numpy(g.expected()).sum(axis=-1) for g in gates
    )
    share = tfprune.Sparsity(0.0).cost(model, structures)
    got = float(ops.convert_to_numpy(SizeGap(gates, size, share)()))
    assert got == pytest.approx(3.0 * np.abs(each / total - 0.4).sum(), rel=1e-4)


def test_diversity_is_that_of_the_equation():
    model = transformer()
    structures = [*tfprune.find_structures(model)]
    names = Subnetworks(NAMES)
    gates = attach(model, [HardConcrete(s, subnetworks=names) for s in structures])
    rng = np.random.default_rng(0)
    for gate in gates:
        gate.scores.assign(rng.normal(size=gate.shape))
    gates.set_penalty_values(PenaltyValues(diversity=2.5))
    prior = prior_over_pairs(NAMES, [["en", "es"]])
    np.testing.assert_array_equal(prior, [[0, 1, 0], [1, 0, 1], [0, 1, 0]])
    total = 0.0
    weights = sum(s.weights for s in structures)
    for i in range(3):
        for j in range(3):
            common = 0.0
            for gate in gates:
                chance = chance_of_being_open(ops.convert_to_numpy(gate.scores))
                common += np.sum(chance[i] * chance[j]) * gate.structure.group_size / weights
            total += (prior[i, j] * common) ** 2
    penalty = float(ops.convert_to_numpy(Diversity(gates, prior)()))
    assert penalty == pytest.approx(2.5 * np.sqrt(total), rel=1e-5)


def test_the_distance_is_hammings_and_ends_the_penalty():
    model = transformer(heads=2, units=4)
    structures = [*tfprune.find_structures(model)]
    names = Subnetworks(NAMES)
    gates = attach(model, [HardConcrete(s, subnetworks=names) for s in structures])
    by_kind = {gate.structure.kind: gate for gate in gates}
    by_kind["heads"].scores.assign(np.full((3, 2), 9.0))
    shut = [[9, 9, -9, -9], [9, -9, 9, -9], [9, 9, 9, -9]]
    by_kind["ffn"].scores.assign(np.array(shut, "float32"))
    units = by_kind["ffn"].structure.group_size / sum(s.weights for s in structures)
    # Units in which en and de, en and es, de and es differ: 2, 1 and 1.
    everyone = Diversity(gates, prior_over_pairs(NAMES, None), wanted=8 * units)
    assert everyone.distance() == pytest.approx(4 / 3 * units)
    assert everyone.strength(3.0) == pytest.approx(3.0 * (1 - 4 / 3 / 8))
    by_family = prior_over_pairs(NAMES, [["en", "de"]])
    assert Diversity(gates, by_family).distance() == pytest.approx(units)
    assert Diversity(gates, by_family, wanted=0.9 * units).strength(3.0) == 0.0
    assert Diversity(gates, by_family).strength(3.0) == 3.0
