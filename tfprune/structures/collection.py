"""The structures of a model, and the layers that were skipped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from keras import ops

from tfprune.structures.cut_variables import CutVariable, LeftOver, by_variable, weights_left
from tfprune.structures.skipped import Skipped
from tfprune.structures.structure import Structure
from tfprune.tables import table


class Structures(Sequence):
    """The structures found in a model, in the order of its layers; prints as a table.

    Args:
        found: The structures.
        skipped: The layers that cannot be pruned, each with the reason.

    Example:

    >>> from tfprune import find_structures
    >>> from tfprune.translation import student
    >>> structures = find_structures(student(300, 2, 1, model_dim=16, feed_forward_dim=24))
    >>> len(structures), structures.kinds
    (6, ('heads', 'ffn'))
    >>> [s.name for s in structures.select(["ffn"])]
    ['encoder_0_ffn_in', 'encoder_1_ffn_in', 'decoder_0_ffn_in']
    >>> structures.select([r"encoder_[01]_attention"])["encoder_0_attention"].groups
    8
    """

    def __init__(self, found: Sequence[Structure], skipped: Sequence[Skipped] = ()):
        self._found = tuple(found)
        self.skipped = tuple(skipped)

    def __getitem__(self, index):
        if isinstance(index, str):
            for structure in self._found:
                if structure.name == index:
                    return structure
            raise KeyError(f"There is no structure {index!r}. The names are: {self._names}.")
        try:
            return self._found[index]
        except IndexError:
            raise IndexError(
                f"There is no structure number {index}, there are {len(self)}: {self._names}."
            ) from None
        except TypeError:
            raise TypeError(
                "Structures are numbered, or named by strings. "
                f"Received: {index!r}. The names are: {self._names}."
            ) from None

    @property
    def _names(self) -> str:
        return ", ".join(s.name for s in self._found) or "none"

    def __len__(self) -> int:
        return len(self._found)

    def __iter__(self) -> Iterator[Structure]:
        return iter(self._found)

    def __contains__(self, item) -> bool:
        return any(item is s or item == s.name for s in self._found)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds that occur, in order of appearance."""
        return tuple(dict.fromkeys(s.kind for s in self._found))

    @cached_property
    def by_variable(self) -> tuple[CutVariable, ...]:
        """The variables that can be cut, each once, with all structures that have groups in it.

        Raises:
            ValueError: If two structures have their groups along the same axis of a variable.
        """
        return by_variable(self._found)

    @cached_property
    def weights_left(self) -> LeftOver:
        """How many weights are left: a function of the numbers of groups left by structure name.

        A weight that lies in groups of two structures, as in a chain of dense layers, counts once.
        The numbers may be tensors.
        """
        return weights_left(self._found)

    @property
    def weights(self) -> int:
        """Weights in all groups of all structures, each counted once."""
        return round(self.weights_left({s.name: s.groups for s in self._found}))

    @property
    def nonzero_weights(self) -> int:
        """Weights in all groups that are not zero now, each counted once."""
        values = (ops.convert_to_numpy(cut.variable) for cut in self.by_variable)
        return sum(int(np.count_nonzero(value)) for value in values)

    def select(self, patterns: str | Sequence[str] | None = None) -> Structures:
        """The structures that a list of kinds, names or regular expressions picks.

        Args:
            patterns: Each is a kind (`"ffn"`, `"heads"`), a name, or a regular expression that
                matches a whole name. `None` picks all.

        Returns:
            `Structures`, in the model's order.

        Raises:
            ValueError: If no pattern is given, or one matches nothing or is no regular expression.
        """
        patterns = checked_patterns(patterns)
        if patterns is None:
            return self
        picked: set[str] = set()
        for pattern in patterns:
            matched = {s.name for s in self._found if _matches(pattern, s)}
            if not matched:
                raise ValueError(
                    "`structures` holds a pattern that matches no structure of the model. "
                    f"Received: {pattern!r}. It can be a kind ({', '.join(self.kinds) or 'none'}), "
                    "a name or a regular expression over whole names; the names are: "
                    f"{self._names}."
                )
            picked |= matched
        return Structures([s for s in self._found if s.name in picked], self.skipped)

    def select_any(self, patterns: str | Sequence[str] | None, by: str) -> Structures:
        """As `select`, but there must be at least one, and the width is only picked by name.

        Args:
            patterns: As in `select`; `None` picks all but those of the kind `"width"`.
            by: What is to prune them, for the error.

        Raises:
            ValueError: As `select`; if the model has none, with the reasons.
        """
        chosen = self.select(patterns)
        if patterns is None:
            chosen = Structures([s for s in chosen if s.kind != "width"], self.skipped)
        if not len(chosen) and len(self):
            raise ValueError(
                f"`structures` must name the width for {by} to prune it, since there is nothing "
                "else in `model`: structures=['width']. Received: structures=None"
            )
        if not len(chosen):
            reasons = "; ".join(f"{s.name}: {s.explained}" for s in self.skipped[:5])
            raise ValueError(
                f"`model` has nothing that {by} could prune. "
                f"Skipped: {reasons or 'nothing, as it has no layers with groups'}. What makes its "
                "file smaller without pruning is to quantize it: tfprune.export(model, "
                "'model.tflite', quantize='dynamic_int8')."
            )
        return chosen

    def __str__(self) -> str:
        rows = [(s.name, s.kind, s.groups, s.weights) for s in self._found]
        parts = ["No structure that can be removed was found."]
        if rows:
            parts = [
                table(["layer", "kind", "groups", "weights"], rows, "Structures", 2, paths=True)
            ]
        if self.skipped:
            parts.append(skipped_table(self.skipped))
        return "\n".join(parts)


def skipped_table(skipped: Iterable[Skipped]) -> str:
    """A table of skipped layers, one row for each reason."""
    alike: dict[str, list[Skipped]] = {}
    for s in skipped:
        alike.setdefault(s.reason, []).append(s)
    listed = [(_in_brief([s.name for s in group]), group[0].explained) for group in alike.values()]
    return table(["layer", "reason"], listed, "Skipped", 2, paths=True)


def checked_patterns(patterns: Any) -> list[str] | None:
    """Kinds, names or regular expressions, as `Structures.select` takes them.

    Raises:
        ValueError: If they are anything else, or none.
    """
    if patterns is None:
        return None
    if isinstance(patterns, str):
        return [patterns]
    is_some = isinstance(patterns, Iterable) and not isinstance(patterns, (bytes, Mapping))
    checked = list(patterns) if is_some else []
    if not checked or not all(isinstance(pattern, str) for pattern in checked):
        as_target = " To prune so far, write `target=`." if hasattr(patterns, "limit") else ""
        raise ValueError(
            "`structures` must be a kind, a name or a regular expression, or a list of them; None "
            f"means all. Received: structures={patterns!r}.{as_target}"
        )
    return checked


def _in_brief(names: Sequence[str]) -> str:
    """Names in one cell of a table: the first two, and how many there are."""
    more = [f"… ({len(names)} in all)"] if len(names) > 2 else []
    return "\n".join([*names[:2], *more])


def _matches(pattern: str, structure: Structure) -> bool:
    if pattern in (structure.kind, structure.name):
        return True
    try:
        return re.fullmatch(pattern, structure.name) is not None
    except re.error as error:
        raise ValueError(
            "`structures` must hold kinds, names or regular expressions. "
            f"Received: {pattern!r}, which is no regular expression: {error}."
        ) from error
