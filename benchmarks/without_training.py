"""Runs of `tfprune.prune` for benchmarks: how the layers behind are repaired, and names."""

from itertools import product

REPAIRS = {"nothing": None, "bias": "bias", "least squares": "least_squares"}


def name_of(criterion, repair, sparsity, epochs=0):
    """The name of a run's file."""
    trained = f"-{epochs}-epochs" if epochs else ""
    return f"{criterion}-{repair.replace(' ', '_')}-{sparsity:g}{trained}"


def runs(criteria, repairs, sparsities, epochs=()):
    """Name to criterion, repair, sparsity and, where some are given, epochs of training."""
    options = product(sparsities, criteria, repairs, *([epochs] if epochs else []))
    settings = [
        (criterion, repair, sparsity, *rest) for sparsity, criterion, repair, *rest in options
    ]
    return {name_of(*each): each for each in settings}
