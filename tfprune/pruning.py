"""`tfprune.prune`: a smaller model in one call, without training."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from tfprune import criteria
from tfprune.arguments import boolean, built_model, integer, one_of
from tfprune.budgets.choosing import choose, default_within
from tfprune.budgets.targets import Flops, Target
from tfprune.budgets.two_criteria import choose_by_two
from tfprune.criteria.by_default import by_default
from tfprune.criteria.examples import EXAMPLES, FirstExamples
from tfprune.rebuild import rebuild
from tfprune.repair import Repairs
from tfprune.repair import repair as repaired
from tfprune.repair.repairing import HOW
from tfprune.repair.restoring import readers_restored
from tfprune.reports.comparison import compare
from tfprune.structures import Structures, find_structures
from tfprune.tables import significant, wrapped
from tfprune.user_warnings import warn


def prune(
    model: keras.Model,
    target: Target,
    data: Any,
    structures: Any = None,
    criterion: str | criteria.Criterion | Callable | None = None,
    repair: str | None = "least_squares",
    within: str | None = None,
    per_cost: bool = False,
    round_to: Mapping[str, int] | None = None,
    examples: int = EXAMPLES,
    in_place: bool = False,
    verbose: int = 1,
) -> keras.Model:
    """Makes a model smaller in one call, without training it.

    Groups are scored on `data`, those that score lowest are chosen until `target` is met, the
    layers that have read them are fitted to what is left, and the smaller model is made. Training
    it afterwards, for an epoch or more, wins back most of what is still lost.

    Args:
        model: A built model. It is left as it was, unless `in_place`.
        target: How far: `tfprune.Sparsity(0.5)`, `Parameters`, `Flops` or `Latency`.
        data: What `fit` takes: a dataset, arrays or `(x, y)`. Labels are needed where the criterion
            needs them; without labels x is enough. Sample weights count for the loss of
            `"gradient_importance"` alone: which positions are padding is known from masks.
        structures: Kinds (`"ffn"`, `"heads"`, `"channels"`, `"recurrent"`), names or regular
            expressions; `None` means all but `"width"`, the channels of a residual stream.
        criterion: As in `tfprune.callbacks.ImportancePruning`. `None`: `"reconstruction"`, which
            has kept most in our benchmark, with `repair="least_squares"` and structures whose
            groups are the inputs of other layers, such as units and heads; else
            `"gradient_importance"` where the model is compiled with a loss and `data` have labels;
            else `"activation"`. Where some structures are not of that kind, such as units whose
            weights a layer holds itself, and there are no labels, those are scored by
            `"magnitude"` and the rest as said; each of those loses the share that it would lose
            if all lost the same, unless `within` asks to rank all: then all are scored by
            `"magnitude"`. A warning says so.
        repair: `"least_squares"`: the kernels and biases that read the groups are fitted so that
            their layers give what they gave, as nearly as the groups that stay allow; `"bias"`:
            only what the groups emit on average is put into the biases; `None`: nothing.
        within: As in `ImportancePruning`: `"kind"` and `"layer"` remove the same share from each;
            `"model"` ranks all groups together; `"error"` lets each structure lose as many groups
            as make the sum of the errors of all least while the target is met, by dynamic
            programming over the cost. The error of a structure is the sum of the scores of what
            goes; for `"reconstruction"`, the loss of the best fit without all that goes. For
            `"reconstruction"`, `"activation"` and `"wanda"` it is multiplied by what such an error
            does to the outputs of the model. By default `"error"` for
            `"reconstruction"`, and for a `Latency` and the `Flops` of channels if scores are errors
            or changes of the loss;
            `"kind"` for gradient importance, whose scores are changes of the loss; and `"layer"`
            for all others: their scores say little about one layer beside another, so that a layer
            with small weights, such as the hidden layer of a classification head, would lose all of
            its groups. Never `"error"` with `per_cost`, nor for `"reconstruction"` with another
            `repair` than least squares, which the errors that it gives presuppose.
        per_cost: As in `ImportancePruning`; not with `within="error"`.
        round_to: As in `ImportancePruning`.
        examples: How many examples of `data` to use, from its beginning. All of them are in memory
            at once with what the layers make of them.
        in_place: As in `tfprune.rebuild`.
        verbose: 1 shows progress, what was asked and what came out.

    Returns:
        The smaller model, as `tfprune.rebuild` makes it.

    Raises:
        ValueError: If an argument is out of range, `data` cannot be used or leads to numbers that
            are not finite, the target cannot be reached, there is nothing to prune, and as
            `tfprune.rebuild`. The model is then as it was.

    Source: Kwon et al., "A Fast Post-Training Pruning Framework for Transformers", 2022; Frantar et
    al., "ZipLM: Inference-Aware Structured Pruning of Language Models", 2023.

    Example:

    >>> import keras, numpy as np, tfprune
    >>> model = keras.Sequential([
    ...     keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(1)])
    >>> model.compile("adam", "mse")
    >>> x = np.random.default_rng(0).normal(size=(64, 4))
    >>> history = model.fit(x, x[:, :1], epochs=2, verbose=0)
    >>> small = tfprune.prune(model, tfprune.Sparsity(0.5), (x, x[:, :1]), verbose=0)
    >>> tfprune.find_structures(small)[0].groups
    4
    """
    small = pruned(
        model,
        target,
        data,
        structures=structures,
        criterion=criterion,
        repair=repair,
        within=within,
        per_cost=per_cost,
        round_to=round_to,
        examples=examples,
        in_place=in_place,
        verbose=verbose,
    )
    if verbose and not in_place:
        # The FLOPs of the table are those that the target counts.
        length: dict[str, Any] = {}
        if isinstance(target, Flops):
            length = {"sequence_length": target.sequence_length}
        print(compare(model, small, latency=False, **length))
    return small


def pruned(
    model: keras.Model,
    target: Target,
    data: Any,
    *,
    structures: Any = None,
    criterion: str | criteria.Criterion | Callable | None = None,
    repair: str | None = "least_squares",
    within: str | None = None,
    per_cost: bool = False,
    round_to: Mapping[str, int] | None = None,
    examples: int = EXAMPLES,
    in_place: bool = False,
    verbose: int = 1,
) -> keras.Model:
    """What `prune` does, but for the comparison at its end; arguments, result and errors alike."""
    built_model("model", model)
    if not isinstance(target, Target):
        raise ValueError(
            "`target` must be a target such as tfprune.Sparsity(0.5). Received: "
            f"target={reprlib.repr(target)}"
        )
    one_of("repair", repair, (None, *HOW))
    boolean("in_place", in_place)
    one_of("verbose", verbose, (0, 1, False, True))
    integer("examples", examples)
    scored_by = None if criterion is None else criteria.get(criterion, data)
    found = find_structures(model).select_any(structures, by="`prune`")
    batches = FirstExamples(model, data, examples)
    say = _say if verbose else _silent
    scored, others = found, Structures([])
    if scored_by is None:
        chosen = by_default(
            model, found, batches[0], repair == "least_squares", within in (None, "layer")
        )
        others = chosen.others
        scored = Structures([s for s in found if s.name not in others])
        scored_by = criteria.get(chosen.name, data)
        if chosen.note:
            say(f"prune: {chosen.note}")
            warn(f"`prune`: {chosen.note}")
    scored_by.check_structures(model, scored)
    scored_by.try_data(model, model, batches, None)
    say(
        f"prune: {batches.examples} examples, {len(found)} structures; scoring groups by "
        f"{scored_by.name or 'a function'}{' and magnitude' * bool(others)} …"
    )
    scores = scored_by.scores(model, model, scored, batches, None)
    cost = target.cost(model, found)
    if within is None:
        is_fitted = repair == "least_squares"
        within = default_within(target, scored_by, per_cost, is_fitted, found.kinds)
    if others:
        keep = choose_by_two(
            target,
            found,
            scores,
            others,
            criteria.magnitude,
            within,
            per_cost,
            round_to,
            cost,
        )
    else:
        keep = choose(target, model, found, scores, within, per_cost, round_to, cost)
    keep = _without_zeros(found, keep, round_to or {})
    del scores  # They may hold copies of weights, for effects.
    with readers_restored(found, always=not in_place):
        if repair is not None:
            say("prune: fitting what is left …")
            done = repaired(
                model,
                found,
                keep,
                batches.inputs(),
                repair,
                undo_on_error=False,
                verbose=int(verbose),
            )
            say(_summary(done))
        small = rebuild(model, keep, in_place=in_place)
    if verbose:
        counts = {name: int(np.sum(stays)) for name, stays in keep.items()}
        reached = target.describe(cost(counts))
        say(f"prune: {reached}; the target is {target.describe(target.limit)}.{target.note}")
    return small


def _without_zeros(
    structures: Structures, keep: dict[str, np.ndarray], round_to: Mapping[str, int]
) -> dict[str, np.ndarray]:
    """Removes what is zero already as well: after a fit with a callback that may be more.

    Kinds whose groups are to be a multiple of a number keep what makes them one.
    """
    found = dict(keep)
    for structure in structures:
        stays = keep[structure.name] & (structure.norms() > 0)
        if structure.kind not in round_to and np.count_nonzero(stays) >= structure.least:
            found[structure.name] = stays
    return found


def _say(text: str) -> None:
    """Prints it."""
    print(wrapped(text))


def _silent(text: str) -> None:
    """Says nothing."""


def _summary(done: Repairs) -> str:
    errors = np.array(list(done.errors.values())) if done.errors else np.zeros((1, 3))
    without, fitted = (significant(float(errors[:, i].mean())) for i in (0, 2))
    text = (
        f"prune: {len(done.errors)} layers fitted; mean error of what they emit, as a share of its "
        f"variance: {without} without, {fitted} fitted."
    )
    skipped = [f"{name} ({why})" for name, why in list(done.skipped.items())[:3]]
    return text + (f" Not fitted: {', '.join(skipped)}." if skipped else "")
