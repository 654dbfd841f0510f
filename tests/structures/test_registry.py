"""Kinds that users add: a mixture of experts as a layer kind, channels in a graph."""

import keras
import numpy as np
import pytest
from keras import layers

from tests.experts import MixtureOfExperts, mixture
from tests.models import assert_same, kill, noise, outputs, randomize
from tfprune.gates import HardConcrete, attach
from tfprune.rebuild import rebuild
from tfprune.structures import (
    SkippedLayer,
    Slices,
    Structure,
    find_structures,
    register_graph_kind,
    register_layer_kind,
)

pytestmark = pytest.mark.sampled

DEAD = np.array([False, True, False, True])


def check(model, expected, tmp_path):
    """A rebuilt model computes what is expected, saved and loaded too; returns it."""
    x = noise(2, 3, 6)
    small = rebuild(model)
    assert_same(expected, outputs(small, x))
    small.save(tmp_path / "small.keras")
    loaded = keras.saving.load_model(tmp_path / "small.keras")
    assert_same(expected, outputs(loaded, x))
    return small


def test_experts_are_found():
    structure = find_structures(mixture())["experts"]
    assert (structure.kind, structure.groups) == ("experts", 4)
    assert structure.group_size == 6 + 1 + 6 * 5 + 5 + 5 * 6
    assert [s.attribute for s in structure.silencers] == ["router", "kernel_in"]
    assert not structure.read_as_input and structure.consumers[0].is_matrix
    layer = structure.layer
    assert structure.consumers[0].bias_variable is layer.bias_out
    for expert in range(4):
        parts = [layer.router[:, expert], layer.router_bias[expert], layer.kernel_in[expert]]
        parts += [layer.bias_in[expert], layer.kernel_out[expert]]
        norm = np.sqrt(sum(np.sum(np.square(np.asarray(part))) for part in parts))
        np.testing.assert_allclose(structure.norms()[expert], norm, rtol=1e-6)


@pytest.mark.parametrize("producers_only", [True, False])
@pytest.mark.parametrize("residual", [True, False])
def test_dead_experts_leave(tmp_path, producers_only, residual):
    model = mixture(residual=residual)
    kill(model, {"experts": DEAD}, producers_only)
    small = check(model, outputs(model, noise(2, 3, 6)), tmp_path)
    assert small.get_layer("experts").experts == 2
    assert model.count_params() - small.count_params() == 2 * 72


def test_an_expert_that_is_silent_for_some_only_stays():
    # Its units are the same for all, but the router lets more or less of them through.
    model = mixture()
    layer = model.get_layer("experts")
    layer.kernel_in.assign(layer.kernel_in * np.array([0.0, 1, 1, 1])[:, None, None])
    assert rebuild(model).get_layer("experts").experts == 4


@pytest.mark.parametrize("residual", [True, False])
def test_no_expert_is_left(tmp_path, residual):
    model = mixture(residual=residual)
    kill(model, {"experts": np.ones(4, bool)}, producers_only=True)
    small = check(model, outputs(model, noise(2, 3, 6)), tmp_path)
    assert not any(isinstance(layer, MixtureOfExperts) for layer in small.layers)


def test_experts_go_by_hand(tmp_path):
    model = mixture()
    small = rebuild(model, keep={"experts": ~DEAD})
    assert small.get_layer("experts").experts == 2
    kill(model, {"experts": DEAD})
    x = noise(2, 3, 6)
    assert_same(outputs(model, x), outputs(small, x))


def test_gates_over_experts_are_folded(tmp_path):
    model = mixture()
    (gate,) = attach(model, [HardConcrete(find_structures(model)["experts"])])
    before = outputs(model, noise(2, 3, 6))
    gate.fix(np.array([0.5, 0.0, 1.0, 0.25]))
    gated = outputs(model, noise(2, 3, 6))
    assert np.max(np.abs(gated[0] - before[0])) > 0.1
    small = check(model, gated, tmp_path)
    assert small.get_layer("experts").experts == 3


def test_experts_in_a_subclassed_model(tmp_path):
    @keras.saving.register_keras_serializable("tests_registry")
    class Net(keras.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.experts = MixtureOfExperts(4, 5, name="experts")
            self.out = layers.Dense(3, name="out")

        def call(self, x):
            return self.out(x + self.experts(x))

    model = Net()
    model(noise(2, 3, 6))
    kill(randomize(model), {"experts": DEAD}, producers_only=True)
    small = check(model, outputs(model, noise(2, 3, 6)), tmp_path)
    assert small.experts.experts == 2 and type(small).__name__ == "Net"


class Taken(layers.Conv1D):
    pass


@pytest.fixture
def kinds(monkeypatch):
    """What is registered in a test is forgotten after it."""
    from tfprune.structures import registry

    monkeypatch.setattr(registry, "_GRAPH_KINDS", dict(registry._GRAPH_KINDS))
    monkeypatch.setattr(registry, "_LAYER_KINDS", dict(registry._LAYER_KINDS))


@pytest.mark.parametrize("end, listed", [("", {"second", "b"}), ("residual", {"second"})])
def test_a_graph_kind_of_ones_own(kinds, end, listed):
    class Channels(Structure):
        kind = "channels"

    @register_graph_kind(Taken)
    def find(graph, name_of):
        convolutions = [node for node in graph.nodes if isinstance(node.operation, Taken)]
        for node in convolutions:
            readers = graph.consumers(node.outputs[0])
            if any(reader not in convolutions for reader in readers) or not readers:
                yield SkippedLayer(node.operation, "its channels leave", end=end)
                continue
            slices = [Slices(node.operation, "kernel", 2, "producer")]
            slices += [Slices(r.operation, "kernel", 1, "consumer") for r in readers]
            name = name_of(node.operation)
            yield Channels(name, node.operation.filters, tuple(slices))

    x = keras.Input((8, 3))
    y = layers.Dense(4, name="second")(layers.Dense(5, "relu", name="first")(x))
    y = Taken(7, 2, name="b")(Taken(6, 3, name="a")(y))
    found = find_structures(keras.Model(x, y))
    assert [(s.name, s.kind, s.groups) for s in found] == [
        ("first", "ffn", 5),
        ("a", "channels", 6),
    ]
    # That the second of a pair ends in a residual stream is usual, and not listed.
    assert {s.name for s in found.skipped} == listed


def test_what_belongs_to_one_structure_is_not_given_to_another(kinds):
    @register_graph_kind(layers.Dense)
    def twice(graph, name_of):
        for node in graph.nodes:
            if isinstance(node.operation, layers.Dense):
                slices = (Slices(node.operation, "kernel", 1, "producer"),)
                yield Structure(name_of(node.operation) + "_again", node.operation.units, slices)

    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(5, name="a"), layers.Dense(2, name="b")]
    )
    found = find_structures(model)
    assert [s.name for s in found] == ["a", "b_again"]
    assert "groups of a" in {s.name: s.reason for s in found.skipped}["a_again"]


@pytest.mark.parametrize(
    "register, name",
    [
        (lambda: register_layer_kind("Dense"), "layer_class"),
        (lambda: register_graph_kind(), "layer_classes"),
        (lambda: register_graph_kind(layers.Dense, "Dense"), "layer_classes"),
    ],
)
def test_bad_input(register, name):
    with pytest.raises(ValueError, match=f"`{name}`"):
        register()
