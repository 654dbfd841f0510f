"""What must hold of every model that is pruned and rebuilt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from hypothesis import strategies as st
from keras import tree

from tests.models import assert_same, kill
from tests.rebuild.random_models import Case
from tfprune.gates import HardConcrete, Mask, attach
from tfprune.keras_private.layers import layer_and_inner_layers
from tfprune.rebuild import rebuild
from tfprune.structures import find_structures


@dataclass
class Pruning:
    """How a model is pruned.

    Args:
        seed: Of the numbers that choose the groups.
        share: Of the groups that go.
        producers_only: Whether what makes the groups is silenced, and what reads them stays.
        gates: `"mask"` or `"hard_concrete"` for gates that are attached, with values between 0 and
            1 and some of them 0; `None` for weights that are zero.
        over: Which weights those gates are over.
    """

    seed: int
    share: float
    producers_only: bool
    gates: str | None
    over: str


def prunings():
    """Draws a `Pruning`."""
    return st.builds(
        Pruning,
        seed=st.integers(0, 10_000),
        share=st.sampled_from([0.0, 0.3, 0.7, 1.0]),
        producers_only=st.booleans(),
        gates=st.sampled_from([None, None, "mask", "hard_concrete"]),
        over=st.sampled_from(["consumers", "all", "producers"]),
    )


def check(case: Case, pruning: Pruning, folder: Path) -> str:
    """Rebuilds a model and compares: outputs, weights of the old model, saved and rebuilt again.

    And cut in place, whether it can be copied or not.

    Args:
        case: The model and its inputs. The model is pruned in place.
        pruning: How.
        folder: An empty folder.

    Returns:
        What became of it: `"rebuilt"`; `"rebuilt, and once more"` where rebuilding the result made
        it smaller still; or `"refused: "` and the reason.

    Raises:
        AssertionError: If something does not hold.
    """
    model, x = case.model, case.inputs
    prune(model, pruning)
    expected = traced(model, x)
    before = [np.array(keras.ops.convert_to_numpy(w)) for w in model.weights]
    try:
        small = rebuild(model)
    except ValueError as refusal:
        named = [n for n in (y.name for y in layer_and_inner_layers(model)) if n in str(refusal)]
        assert case.uncopyable and named, f"refused without naming a layer: {refusal}"
        same(expected, traced(rebuild(model, in_place=True), x))
        return "refused: a layer's configuration does not say what it was made with"
    assert not case.uncopyable or small is not model
    same(expected, traced(small, x))
    for old, variable in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, variable)
    path = folder / "small.keras"
    small.save(path)
    loaded = keras.saving.load_model(path)
    same(expected, traced(loaded, x))
    again = rebuild(loaded)
    same(expected, traced(again, x))
    # Last, since nothing is left of the model then.
    same(expected, traced(rebuild(model, in_place=True), x))
    # What one rebuild leaves may be a constant behind which a second one finds more to remove.
    return "rebuilt" if shapes(again) == shapes(small) else "rebuilt, and once more"


def shapes(model) -> list[tuple]:
    """The shapes of all weights."""
    return [tuple(v.shape) for v in model.weights]


def same(expected, found) -> None:
    """Asserts that outputs are equal; the mean of a row that is all padding is NaN in both."""
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
    assert_same([np.nan_to_num(a) for a in expected], [np.nan_to_num(b) for b in found])


def prune(model, pruning: Pruning) -> None:
    """Prunes a model in place."""
    draw = np.random.default_rng(pruning.seed)
    structures = find_structures(model)
    dead = {s.name: draw.random(s.groups) < pruning.share for s in structures}
    if pruning.gates is None:
        kill(model, dead, pruning.producers_only)
        return
    kind = Mask if pruning.gates == "mask" else HardConcrete
    if not len(structures):
        return
    for gate in attach(model, [kind(s, over=pruning.over) for s in structures]):
        groups = gate.structure.groups
        gone = dead[gate.structure.name]
        if pruning.gates == "mask":
            gate.fix(np.where(gone, 0, draw.uniform(0.2, 1.0, groups)).astype("float32"))
        else:
            gate.scores.assign(np.where(gone, -9.0, draw.uniform(-1.5, 4.0, groups)))


def traced(model, x) -> list[np.ndarray]:
    """The outputs of a model in inference, flattened, as a compiled step computes them.

    Keras on JAX keeps the masks of eager arrays beside them, by their `id`; those of the tensors
    in a step are on the tensors. So on JAX the model is traced, and what was traced is run.
    """
    given = [a for a in tree.flatten(x) if a is not None]

    def call(*arrays):
        fresh = iter(arrays)
        filled = _map(lambda a: None if a is None else next(fresh), x)
        return tree.flatten(model(filled, training=False))

    if keras.backend.backend() == "jax":
        import jax

        closed = jax.make_jaxpr(call)(*given)
        results = jax.core.eval_jaxpr(closed.jaxpr, closed.consts, *given)
    else:
        results = call(*map(keras.ops.convert_to_tensor, given))
    return [keras.ops.convert_to_numpy(r) for r in results]


def _map(function, x):
    """Maps arrays, also those that are `None`, in the order in which `tree.flatten` has them."""
    if isinstance(x, dict):
        return {key: _map(function, x[key]) for key in sorted(x)}
    return [_map(function, y) for y in x] if isinstance(x, list) else function(x)
