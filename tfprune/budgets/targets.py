"""How far to prune: targets such as half the weights or 8 ms.

A target knows what a model costs with so many groups left in each structure, and how much it may
cost. `tfprune.budgets.choosing` removes the groups with the lowest scores until that is met.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import keras
import numpy as np

from tfprune.arguments import integer, is_number
from tfprune.budgets.kernel_flops import kernel_flops
from tfprune.budgets.latency_check import LatencyCheck
from tfprune.budgets.latency_table import LatencyTable
from tfprune.configurable import Configurable
from tfprune.structures import LeftOver, Structure, Structures
from tfprune.structures.cut_variables import amounts_of

Counts = Mapping[str, int]
Cost = Callable[[Counts], float]
"""What a model costs with so many groups left in each structure.

The costs of `Sparsity`, `Parameters` and `Flops` also take tensors of expected numbers.
"""


class Target(Configurable):
    """Base of the targets."""

    def cost(self, model: keras.Model | None, structures: Structures) -> Cost:
        """The cost as a function of the groups left, in the unit of `limit`."""
        raise NotImplementedError

    @property
    def limit(self) -> float:
        """What the model may cost."""
        raise NotImplementedError

    def smooth(self, cost: Cost, structures: Structures) -> Cost:
        """The cost as a function that also takes tensors of expected numbers of groups."""
        return cost

    def describe(self, cost: float) -> str:
        """A cost in words."""
        return f"{cost:.1%}"

    @property
    def note(self) -> str:
        """What must be said about a cost that was reached; begins with a space if anything."""
        return ""


@dataclass(frozen=True)
class Sparsity(Target):
    """Removes a share of the weights of the structures that are pruned.

    Args:
        share: 0.5 or `"50%"` removes half of the weights in all groups of the structures that the
            callback is given; other weights do not count.

    Raises:
        ValueError: If it does not lie in [0, 1].

    Example:

    >>> import tfprune
    >>> from tfprune.translation import student
    >>> structures = tfprune.find_structures(
    ...     student(300, 2, 1, model_dim=16, feed_forward_dim=24)).select(["ffn"])
    >>> from tfprune import criteria
    >>> from tfprune.budgets.choosing import choose
    >>> keep = choose(Sparsity(0.5), None, structures, criteria.magnitude)
    >>> sum(int(mask.sum()) for mask in keep.values()), sum(s.groups for s in structures)
    (36, 72)
    """

    share: float | str

    def __post_init__(self):
        self.limit  # noqa: B018  # raises

    def cost(self, model: keras.Model | None, structures: Structures) -> Cost:
        """The share of weights left."""
        return _share_left(structures, structures.weights_left, structures.weights)

    @property
    def limit(self) -> float:
        """`1 - share`."""
        return 1.0 - _share("Sparsity", self.share)

    def describe(self, cost: float) -> str:
        """The sparsity."""
        return f"sparsity {1 - cost:.1%}"


@dataclass(frozen=True)
class _Left(Target):
    """Base of the targets that say which share stays."""

    left: float | str

    def __post_init__(self):
        self.limit  # noqa: B018  # raises

    @property
    def limit(self) -> float:
        """The share."""
        return _share(type(self).__name__, self.left)


@dataclass(frozen=True)
class Parameters(_Left):
    """A share of all the model's parameters stays, embeddings and the like counted.

    Args:
        left: 0.4 or `"40%"` keeps that share.

    Raises:
        ValueError: If it does not lie in [0, 1].
    """

    def cost(self, model: keras.Model | None, structures: Structures) -> Cost:
        """The share of parameters left."""
        from tfprune.measuring.counting import count_parameters

        return _share_left(structures, structures.weights_left, count_parameters(model))

    def describe(self, cost: float) -> str:
        """The share of the parameters."""
        return f"{cost:.1%} of the parameters"


@dataclass(frozen=True)
class Flops(_Left):
    """A share of the floating-point operations of one call stays.

    Args:
        left: 0.6 or `"60%"` keeps that share.
        sequence_length: Size of open axes: the longer, the more attention counts.

    Raises:
        ValueError: If it does not lie in [0, 1], or the length is not a positive integer. When the
            cost is worked out: as `tfprune.count_flops`, such as for a model that reads strings.
    """

    sequence_length: int = 128

    def __post_init__(self):
        super().__post_init__()
        integer("sequence_length", self.sequence_length)

    def cost(self, model: keras.Model | None, structures: Structures) -> Cost:
        """The share of operations left.

        What kernels cost is their size times how often each weight is used. Where groups also take
        part in other products, as heads do, their structure is halved once to see what it costs.
        So is each pair of such structures that cut the same kernel, since what a kernel costs is
        the product of its inputs and outputs.
        """
        from tfprune.measuring.counting import count_flops, traceable
        from tfprune.rebuild.rebuilding import rebuild

        def count(keep):
            # `keep` names every structure, so that weights that are zero now change nothing.
            masks = {n: np.arange(structures[n].groups) < k for n, k in keep.items()}
            small = rebuild(model, keep=masks, check=False)
            return count_flops(small, sequence_length=self.sequence_length)

        full = {s.name: s.groups for s in structures}
        pairs = _meeting(structures)
        of_kernels = _by_kernels_alone(structures, pairs)
        # Before calls are noted: this calls a subclassed model on sizes that are not known.
        whole = traceable(model)
        with kernel_flops(of_kernels) as of_weight:
            total = count_flops(whole, sequence_length=self.sequence_length)
        amounts = amounts_of(of_kernels, of_weight)
        names = {s.name for s in of_kernels}
        half = {s.name: s.groups // 2 for s in structures if s.name not in names}
        saved = {n: total - count({**full, n: half[n]}) for n in half}
        of_halved: dict[tuple[str, ...], float] = {}
        for one, other in pairs:
            if one in names:
                continue
            both = total - count({**full, one: half[one], other: half[other]})
            # Halves of both save less than the sum by a quarter of the kernels in which they meet.
            share = (1 - half[one] / full[one]) * (1 - half[other] / full[other])
            of_halved[one, other] = (saved[one] + saved[other] - both) / share
        for n in half:
            shared = sum(a for pair, a in of_halved.items() if n in pair and len(pair) > 1)
            of_halved[n,] = saved[n] / (1 - half[n] / full[n]) - shared
        amounts.update(of_halved)
        return _share_left(structures, LeftOver(structures, amounts), total)

    def describe(self, cost: float) -> str:
        """The share of the operations."""
        return f"{cost:.1%} of the FLOPs"


@dataclass(frozen=True)
class Latency(Target):
    """A LiteRT call takes no longer than so many milliseconds.

    Args:
        milliseconds: `"8 ms"`, or a number of milliseconds.
        on: A `LatencyTable` measured on the machine that counts, on the model or on another one
            that the same function has made. The table predicts; `check` measures what came out.

    Raises:
        ValueError: If it is not a positive time, or `on` is no table.
    """

    milliseconds: float | str
    on: LatencyTable | None = None

    def __post_init__(self):
        if not isinstance(self.on, LatencyTable):
            raise ValueError(
                "`on` must be a `LatencyTable`; `LatencyTable.measure(model)` makes one. "
                f"Received: on={self.on!r}"
            )
        self.limit  # noqa: B018  # raises

    @property
    def _table(self) -> LatencyTable:
        assert self.on is not None  # `__post_init__` has looked.
        return self.on

    def cost(self, model: keras.Model | None, structures: Structures) -> Cost:
        """Milliseconds by the table."""
        if model is None:
            return self._table.milliseconds
        names = self._table.names_in(model, structures)
        return lambda counts: self._table.milliseconds({names[n]: k for n, k in counts.items()})

    def check(
        self, small: keras.Model, before: keras.Model | None = None, **options: Any
    ) -> LatencyCheck:
        """Measures a rebuilt model, beside what was asked and what the table predicts.

        Args:
            small: As in `LatencyTable.check`.
            before: As in `LatencyTable.check`.
            **options: As in `LatencyTable.check`.

        Returns:
            A `LatencyCheck`: `print` it, or use its numbers.

        Raises:
            ValueError: If a model cannot be timed.
        """
        return self._table.check(small, before, asked=self.limit, **options)

    @property
    def note(self) -> str:
        """Where the numbers come from."""
        return " So the latency table predicts; `target.check(tfprune.rebuild(model))` measures it."

    def smooth(self, cost: Cost, structures: Structures) -> Cost:
        """Straight lines from no group to all."""
        empty = {s.name: 0 for s in structures}
        full = {s.name: s.groups for s in structures}
        each = {n: (cost(full) - cost({**full, n: 0})) / full[n] for n in full}
        # Savings of single structures need not add up to what all of them save.
        total = sum(each[n] * full[n] for n in full)
        scale = (cost(full) - cost(empty)) / total if total > 0 else 0.0
        each = {n: scale * ms for n, ms in each.items()}
        return lambda counts: cost(empty) + sum(each[n] * left for n, left in counts.items())

    @property
    def limit(self) -> float:
        """Milliseconds."""
        value = self.milliseconds
        value = _number(value, "ms") if isinstance(value, str) else value
        if not is_number(value) or not value > 0:
            raise ValueError(
                f"`Latency` wants milliseconds, such as 8 or '8 ms'. "
                f"Received: {self.milliseconds!r}"
            )
        return float(value)

    def describe(self, cost: float) -> str:
        """Milliseconds."""
        return f"{cost:.3g} ms"


def _share_left(structures: Structures, left: LeftOver, total: float) -> Cost:
    """What is left of a total of which structures are a part."""
    others = total - left({s.name: s.groups for s in structures})

    def cost(counts):
        return (others + left(counts)) / total

    return cost


def _by_kernels_alone(structures: Structures, pairs: list[tuple[str, str]]) -> list[Structure]:
    """Those whose products are all of kernels, and which others do not meet, nor by way of some."""
    left = {s.name for s in structures if s.works_by_kernels}
    while True:
        outside = {n for pair in pairs for n in pair if n in left and not left.issuperset(pair)}
        if not outside:
            return [s for s in structures if s.name in left]
        left -= outside


def _meeting(structures: Structures) -> list[tuple[str, str]]:
    """The pairs of structures that cut the same variable."""
    pairs = {
        (min(one.name, other.name), max(one.name, other.name))
        for cut in structures.by_variable
        for (one, _), (other, _) in combinations(cut.shares, 2)
        if one is not other
    }
    return sorted(pairs)


def _share(name: str, value: float | str) -> float:
    share = _number(value, "%") / 100 if isinstance(value, str) else value
    if not is_number(share) or not 0 <= share <= 1:
        raise ValueError(
            f"`{name}` wants a share from 0 to 1, such as 0.6 or '60%'. Received: {value!r}"
        )
    return float(share)


def _number(text: str, unit: str) -> float:
    """What stands before a unit; NaN where that is no number."""
    match = re.fullmatch(rf"\s*(\d+\.?\d*|\.\d+)\s*{unit}\s*", text)
    return float(match[1]) if match else math.nan
