"""What the commands of the command line do, given their options."""

from __future__ import annotations

import sys
from argparse import Namespace


def _load(path):
    from tfprune.files import load_keras

    return load_keras(path)


def inspect(options: Namespace) -> None:
    """Prints what can be removed from a model, and what not."""
    import tfprune

    print(tfprune.find_structures(_load(options.model)))


def prune(options: Namespace) -> None:
    """Prunes a model without training, and writes the smaller one."""
    import tfprune
    from tfprune.budgets.reading import target_in_words
    from tfprune.files import atomic_write, load_arrays

    target = target_in_words(options.target)
    data = _as_fit_takes_it(load_arrays(options.data))
    small = tfprune.prune(
        _load_compiled(options.model),
        target,
        data,
        criterion=options.criterion,
        repair=None if options.repair == "nothing" else options.repair,
        within=options.within,
        examples=options.examples,
    )
    with atomic_write(options.output) as temporary:
        small.save(temporary)


def _load_compiled(path):
    """A model, compiled if that can be done: a loss of one's own may be unknown here."""
    from tfprune.files import load_keras

    try:
        return load_keras(path, compiled=True)
    except ValueError:
        return load_keras(path)


def _as_fit_takes_it(arrays):
    x = _x_of(arrays)
    return (x, arrays["y"], arrays.get("sample_weight")) if "y" in arrays else x


def _x_of(arrays):
    """Inputs alone; one that is called x is no dictionary."""
    if arrays is None:
        return None
    x = {name: array for name, array in arrays.items() if name not in ("y", "sample_weight")}
    return x["x"] if set(x) == {"x"} else x


def rebuild(options: Namespace) -> None:
    """Cuts what is zero out of a model, and prints what that changed."""
    import tfprune
    from tfprune.files import atomic_write

    before = _load(options.model)
    after = tfprune.rebuild(before)
    with atomic_write(options.output) as temporary:
        after.save(temporary)
    if after.count_params() == before.count_params():
        print("Nothing was zero: the model has been written as it was. Prune it first.")
        return
    print(tfprune.compare(before, after, latency=False))


def export(options: Namespace) -> None:
    """Writes a SavedModel or a LiteRT file."""
    import tfprune
    from tfprune.files import load_arrays

    data = None if options.data is None else load_arrays(options.data)
    path = tfprune.export(
        _load(options.model),
        options.output,
        options.quantize,
        representative_data=_x_of(data),
        batch_size=options.batch_size,
        sequence_length=options.sequence_length,
    )
    print(f"{path} written and checked")


def measure(options: Namespace) -> None:
    """Prints the time of models in LiteRT."""
    import tfprune

    models = [_load(m) if m.endswith(".keras") else m for m in options.models]
    timed = tfprune.compare_latency(
        models,
        batch_size=options.batch_size,
        sequence_length=options.sequence_length,
        threads=options.threads,
        runs=options.runs,
    )
    for name, latency, ratio in zip(options.models, timed.latencies, timed.ratios, strict=True):
        print(f"{name}: {latency}; {ratio:.2f} of the first")


def demo(options: Namespace) -> None:
    """Trains, prunes and exports a translator."""
    from tfprune.demo import demo

    demo(options.folder, options.fast)


def translate(options: Namespace) -> None:
    """Prints translations."""
    from tfprune.translation.loading import load_translator

    sentences = options.text or [line.rstrip("\n") for line in sys.stdin]
    for translation in load_translator(options.model).translate(sentences):
        print(translation)


def compare(options: Namespace) -> None:
    """Prints what one model has become in another."""
    import json

    import tfprune

    found = tfprune.compare(
        _load(options.before),
        _load(options.after),
        batch_size=options.batch_size,
        sequence_length=options.sequence_length,
        threads=options.threads,
        latency=not options.no_latency,
    )
    print(json.dumps(found.to_dict(), indent=1) if options.json else found)
