"""What the commands of the command line do, given their options.

Each returns what is to be printed: as it prints itself, or with `--json` as its `to_dict()` gives
it.
"""

from __future__ import annotations

import importlib
import sys
from argparse import Namespace
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfprune.measuring.timing import LatencyComparison
    from tfprune.reports.comparison import Comparison
    from tfprune.reports.inspection import Inspection


def import_all(modules: Iterable[str]) -> None:
    """Imports what defines the layers of a user's model, so that Keras can load it.

    Args:
        modules: Names of modules, looked for in the working directory too, or `.py` files.

    Raises:
        ValueError: If there is no such module or file, or it raises an error.
    """
    for module in modules:
        path = Path(module)
        name, folder = (path.stem, path.parent) if path.suffix == ".py" else (module, Path())
        sys.path.insert(0, str(folder.resolve()))
        try:
            importlib.import_module(name)
        except Exception as error:  # Whatever user code raises.
            raise ValueError(
                f"`--import` must be a module that can be imported, or a .py file. Received: "
                f"{module!r}: {type(error).__name__}: {error}"
            ) from error
        finally:
            sys.path.pop(0)


def _load(path):
    from tfprune.files import load_keras

    return load_keras(path)


def inspect(options: Namespace) -> Inspection:
    """What can be removed from a model, what is zero already, and what cannot be removed."""
    from tfprune.reports.inspection import inspect

    return inspect(_load(options.model))


def prune(options: Namespace) -> Comparison:
    """Prunes a model without training, writes the smaller one, and compares them."""
    import tfprune
    from tfprune.budgets.reading import target_in_words
    from tfprune.budgets.targets import Flops
    from tfprune.files import atomic_write, load_arrays
    from tfprune.pruning import pruned

    _check_output(options.output)
    target = target_in_words(options.target)
    arrays = load_arrays(options.data)
    model = _load_compiled(options.model)
    data = _as_fit_takes_it(arrays, x := _x_of(arrays, _names_of_inputs(model)))
    length = options.sequence_length or _length(model, x)
    if isinstance(target, Flops):
        target = replace(target, sequence_length=length)
    small = pruned(
        model,
        target,
        data,
        criterion=options.criterion,
        repair=None if options.repair == "nothing" else options.repair,
        within=options.within,
        examples=options.examples,
    )
    with atomic_write(options.output) as temporary:
        small.save(temporary)
    return tfprune.compare(model, small, sequence_length=length, latency=False)


def _length(model, x):
    """What the open axes of the inputs have in the data, the largest; 128 where it is not told."""
    inputs = getattr(model, "inputs", None) or []
    arrays = x if isinstance(x, dict) else {tensor.name: x for tensor in inputs[:1]}
    return max(
        (
            size
            for tensor in inputs
            if tensor.name in arrays
            for axis, size in zip(tensor.shape[1:], arrays[tensor.name].shape[1:], strict=False)
            if axis is None
        ),
        default=128,
    )


def _check_output(path):
    """Says before anything is computed that `save` would refuse the name."""
    if not path.endswith(".keras"):
        raise ValueError(f"The output must end in '.keras'. Received: {path!r}")


def _load_compiled(path):
    """A model, compiled if that can be done: a loss of one's own may be unknown here."""
    from tfprune.files import load_keras

    try:
        return load_keras(path, compiled=True)
    except ValueError:
        return load_keras(path)


def _as_fit_takes_it(arrays, x):
    return (x, arrays["y"], arrays.get("sample_weight")) if "y" in arrays else x


def _x_of(arrays, names=None):
    """Inputs alone; one that is called x is no dictionary.

    Args:
        arrays: All arrays of a file, by name.
        names: The names that inputs must have, where they are known.
    """
    x = {name: array for name, array in arrays.items() if name not in ("y", "sample_weight")}
    one = names is None or len(names) == 1
    if set(x) == {"x"} and one:
        return x["x"]
    if names is not None and set(x) != set(names):
        either = " or ".join(map(repr, sorted({"x", *names})))
        want = f"an array {either}" if one else f"the arrays {_quoted(names)}"
        raise ValueError(
            f"`--data` must hold {want}, as the model has inputs; 'y' and 'sample_weight' may be "
            f"there too. Received: {_quoted(arrays)}"
        )
    return x


def _quoted(names):
    return ", ".join(map(repr, names)) or "none"


def _names_of_inputs(model):
    """How the arrays of a model's inputs are called, `None` if that cannot be told."""
    from tfprune.export.inputs import input_names

    # What a task of KerasHub takes is not what its layers take.
    if hasattr(model, "preprocess_samples") or not getattr(model, "inputs", None):
        return None
    return input_names(model)


def rebuild(options: Namespace) -> Comparison | str:
    """Cuts what is zero out of a model; what that changed."""
    import warnings

    import tfprune
    from tfprune.files import atomic_write
    from tfprune.rebuild.nothing_zero import NothingPruned

    _check_output(options.output)
    before = _load(options.model)
    with warnings.catch_warnings():  # It is said below.
        warnings.simplefilter("ignore", NothingPruned)
        after = tfprune.rebuild(before)
    with atomic_write(options.output) as temporary:
        after.save(temporary)
    if after.count_params() == before.count_params():
        return "Nothing was zero: the model has been written as it was. Prune it first."
    return tfprune.compare(before, after, latency=False)


def export(options: Namespace) -> str:
    """Writes a SavedModel or a LiteRT file."""
    import tfprune
    from tfprune.files import load_arrays

    data = None if options.data is None else _x_of(load_arrays(options.data))
    path = tfprune.export(
        _load(options.model),
        options.output,
        options.quantize,
        representative_data=data,
        batch_size=options.batch_size,
        sequence_length=options.sequence_length,
        integer_io=options.integer_io,
        strict=options.strict,
    )
    return f"{path} written and checked"


def measure(options: Namespace) -> LatencyComparison:
    """The times of models in LiteRT."""
    import tfprune

    models = [_load(m) if m.endswith(".keras") else m for m in options.models]
    timed = tfprune.compare_latency(
        models,
        batch_size=options.batch_size,
        sequence_length=options.sequence_length,
        threads=options.threads,
        runs=options.runs,
        quantize=options.quantize,
    )
    return replace(timed, names=options.models)


def demo(options: Namespace) -> None:
    """Trains, prunes and exports a translator."""
    from tfprune.demo import demo

    demo(options.folder, options.fast)


def translate(options: Namespace) -> str | None:
    """Translations, one a line."""
    from tfprune.translation.loading import load_translator

    sentences = options.text or [line.rstrip("\n") for line in sys.stdin]
    return "\n".join(load_translator(options.model).translate(sentences)) if sentences else None


def compare(options: Namespace) -> Comparison:
    """What one model has become in another."""
    import tfprune

    return tfprune.compare(
        _load(options.before),
        _load(options.after),
        batch_size=options.batch_size,
        sequence_length=options.sequence_length,
        threads=options.threads,
        latency=not options.no_latency,
        quantize=options.quantize,
    )
