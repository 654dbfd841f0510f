"""What the matrix says about one model: what is found, and whether rebuilding it is exact.

A model is made anew for each question, with the same weights, since pruning changes it in place.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

import tfprune
from tests.matrix.answers import EXACT, NOT_ALIKE
from tests.matrix.case import Case
from tfprune.keras_private.layers import layer_and_inner_layers, own_variables

# Numbers of this size stand for minus infinity in masks of scores. They are not compared.
HUGE = 1e8


def check(make: Callable[[], Case], exported: bool = True) -> dict:
    """Finds, prunes, rebuilds, saves and exports one model.

    Args:
        make: Makes the model and its inputs.
        exported: Whether it is exported too, which takes most of the time.

    Returns:
        Questions and answers:

        - `"weights"`: how many there are, without embeddings.
        - `"kinds"`: kind to how many of them are in its structures.
        - `"left"`: reason to how many weights are in layers that were skipped for it.
        - `"found"`: the message, only where `find_structures` raises.
        - `"how"`: `"copy"` or `"in place"`.
        - `"small"`: the share of all parameters that is left with half of the groups.
        - `"changed"`: how much removing these changes the outputs; 0 would say little.
        - `"half"`, `"whole"`: the relative error of the rebuilt model after half or all groups were
          removed, or why there is none.
        - `"saved"`: likewise after saving and loading; `"not"` where the model itself does neither.
        - `"again"`: likewise after the rebuilt model was pruned once more. Only what makes the
          groups is zeroed then, so that constants have to be folded.
        - `"exported"`: `"ok"` or why not.
        - `"seconds"`.
    """
    started = time.perf_counter()
    case = fresh(make)
    result = found_in(case.model)
    pruned, parameters = bool(result["kinds"]), case.model.count_params()
    if pruned:
        before = outputs(case)
        silence(case.model, share=0.5)
        expected = outputs(case)
        result["changed"] = figure(error(before, expected))
        small = rebuilt(make, case, 0.5, expected, result, "half")
    else:
        expected, small = outputs(case), case
    if small is not None:
        result["saved"] = saved(small, expected, make) if pruned else "nothing pruned"
        if exported and keras.backend.backend() == "tensorflow":
            result["exported"] = export(small)
    if small is not None and pruned:
        result["small"] = round(small.model.count_params() / parameters, 3)
        silence(small.model, share=0.5, seed=1, producers_only=True)
        rebuilt(None, small, None, outputs(small), result, "again")
        case = fresh(make)
        silence(case.model, share=1.0)
        rebuilt(make, case, 1.0, outputs(case), result, "whole")
    result["seconds"] = round(time.perf_counter() - started, 1)
    return result


def fresh(make) -> Case:
    """Makes a case; its weights are the same each time."""
    keras.utils.set_random_seed(0)
    case = make()
    randomize(case.model)
    return case


def randomize(model) -> None:
    """Gives every weight a value of its own, such that outputs stay of moderate size.

    What a layer begins with as ones, such as the scale of a normalisation, stays around one.
    """
    draw = np.random.default_rng(0)
    for variable in model.trainable_variables:
        shape = tuple(variable.shape)
        if max(shape, default=1) < np.prod(shape):
            width = np.prod(shape[:-1])
            value = draw.normal(scale=max(0.05, width**-0.5), size=shape)
        else:
            around = float(np.mean(keras.ops.convert_to_numpy(variable)) > 0.5)
            value = draw.normal(around, 0.15, size=shape)
        variable.assign(value.astype(variable.dtype))
    for variable in model.non_trainable_variables:
        if variable.path.endswith("moving_mean"):
            variable.assign(draw.normal(scale=0.3, size=variable.shape))
        elif variable.path.endswith("moving_variance"):
            variable.assign(draw.uniform(0.5, 1.5, size=variable.shape))


def found_in(model) -> dict:
    """Weights in all, by kind and by the reason why they are left."""
    weights = {}
    for layer in layer_and_inner_layers(model):
        for variable in own_variables(layer):
            is_state = "int" in variable.dtype  # Such as the state of a random generator.
            if not (
                is_state or "Embedding" in type(layer).__name__ or "embedding" in variable.name
            ):
                weights[id(variable)] = int(np.prod(variable.shape))
    total = sum(weights.values())
    try:
        structures = tfprune.find_structures(model)
    except Exception as failure:
        return {"weights": total, "kinds": {}, "left": {}, "found": line(failure)}
    kinds: Counter[str] = Counter()
    for structure in structures:
        for share in structure.slices:
            # Those that two structures cut, as in a chain of dense layers, count once.
            kinds[structure.kind] += weights.pop(id(share.variable), 0)
    left: Counter[str] = Counter()
    layers = by_path(model)
    for skipped in structures.skipped:
        inside = layers.get(skipped.name)
        variables = () if inside is None else inside.weights
        # Of a layer inside a layer that is skipped too, the weights count for one of them.
        left[in_general(skipped.reason)] += sum(weights.pop(id(v), 0) for v in variables)
    return {
        "weights": total,
        "kinds": {kind: count for kind, count in kinds.items() if count},
        "left": dict(left.most_common(4)),
    }


def by_path(model) -> dict[str, keras.Layer]:
    """Layers by the paths that `find_structures` names them by."""
    paths: dict[str, keras.Layer] = {}

    def add(layer, prefix):
        for inner in layer._flatten_layers(include_self=False, recursive=False):
            paths.setdefault(prefix + inner.name, inner)
            add(inner, f"{prefix}{inner.name}/")

    add(model, "")
    return paths


def in_general(reason: str) -> str:
    """A reason without the names of layers and the numbers in it."""
    reason = re.sub(r"['\"`][^'\"`]*['\"`]", "…", reason.splitlines()[0])
    return re.sub(r"\b[\w/]+_\d[\w/]*|\b\d+\b", "…", reason)[:120]


def silence(model, share: float, seed: int = 0, producers_only: bool = False) -> None:
    """Zeroes a share of the groups of every structure, at least one where there are several."""
    draw = np.random.default_rng(seed)
    for structure in tfprune.find_structures(model):
        groups = structure.groups
        gone = groups if share == 1 else max(int(groups * share), min(groups - 1, 1))
        alive = np.ones(groups, "float32")
        alive[draw.permutation(groups)[:gone]] = 0
        if not producers_only:
            structure.scale(alive)
            continue
        for silencer in structure.silencers:
            variable = silencer.variable
            variable.assign(variable * structure.spread(alive, silencer))


def rebuilt(make, case, share, expected, result, question) -> Case | None:
    """Rebuilds a pruned model and notes how exact the result is.

    Args:
        make: Makes the model anew, to cut it in place where it cannot be copied; `None` where what
            `result` says of the model is done.
        case: The pruned model. Cutting in place changes it.
        share: Of the groups that were removed.
        expected: Its outputs.
        result: Where it is noted.
        question: Under which name.

    Returns:
        The small model, or `None` if there is none.
    """
    try:
        if result.get("how") == "in place":
            small = tfprune.rebuild(case.model, in_place=True)
        else:
            small = tfprune.rebuild(case.model)
            result["how"] = "copy"
    except Exception as refusal:
        if isinstance(refusal, ValueError) and "how" not in result:
            result["how"] = "in place"
            return rebuilt(make, case, share, expected, result, question)
        result[question] = line(refusal)
        return None
    small = Case(small, case.inputs, case.sequence_length)
    result[question] = figure(error(expected, outputs(small)))
    return small


def saved(small: Case, expected, make) -> float | str:
    """The error after saving and loading; `"not"` where the model itself does not save and load."""
    try:
        return figure(error(expected, outputs(through_file(small))))
    except Exception as failure:
        try:
            whole = fresh(make)
            same = error(outputs(whole), outputs(through_file(whole))) < EXACT
        except Exception:
            same = False
        return line(failure) if same else "not"


def through_file(case: Case) -> Case:
    """A model that was saved and loaded."""
    # The class of a pruned layer has the name of the user's class, which is one of its bases.
    bases = {base for layer in layer_and_inner_layers(case.model) for base in type(layer).__mro__}
    custom = {
        base.__name__: base
        for base in bases
        if base.__module__.startswith("tests.")
        and not any(other.__module__.startswith("tfprune") for other in base.__mro__)
    }
    with tempfile.TemporaryDirectory() as folder:
        case.model.save(Path(folder) / "small.keras")
        loaded = keras.saving.load_model(Path(folder) / "small.keras", custom_objects=custom)
    return Case(loaded, case.inputs)


def export(case: Case) -> str:
    """Exports to LiteRT with fixed sizes: `"ok"` or why not."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            tfprune.export(
                case.model,
                Path(folder) / "small.tflite",
                batch_size=1,
                sequence_length=case.sequence_length,
            )
        except Exception as failure:
            return line(failure)
    return "ok"


def outputs(case: Case) -> list[np.ndarray]:
    """The outputs of a model in inference, flattened."""
    return [
        np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(y, "float32")))
        for y in keras.tree.flatten(case.model(case.inputs, training=False))
    ]


def error(expected, found) -> float:
    """The largest difference, relative to the largest number of the output; NaN where not alike."""
    if [a.shape for a in expected] != [b.shape for b in found]:
        return float("nan")
    worst = 0.0
    for a, b in zip(expected, found, strict=True):
        plain = np.isfinite(a) & (np.abs(a) < HUGE)
        if not np.array_equal(plain, np.isfinite(b) & (np.abs(b) < HUGE)):
            return float("nan")
        if plain.any():
            difference = np.max(np.abs(a[plain] - b[plain]))
            worst = max(worst, float(difference / max(1e-6, np.max(np.abs(a[plain])))))
    return worst


def figure(value: float) -> float | str:
    """A number of two digits; what is no number as text, which JSON can hold."""
    return float(f"{value:.1e}") if np.isfinite(value) else NOT_ALIKE


def line(failure: Exception) -> str:
    """The beginning of an exception in one line; files go without their folders."""
    text = re.sub(r'"/[^"]*/', '"', " ".join(str(failure).split()))
    return f"{type(failure).__name__}: {text}"[:200]
