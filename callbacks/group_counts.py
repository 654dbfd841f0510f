"""The groups that a pruning callback has left, and a table of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfprune.structures import Structures
from tfprune.tables import table


class GroupCounts:
    """Mixed into `PruningCallback`: counts the groups that are left, by structure and by kind.

    Attributes:
        history: Epoch by epoch, structure name to the number of groups left.
    """

    # `None` until `fit` has found them; what runs in a fit need not ask.
    structures: Structures | Any
    verbose: int
    history: list[dict[str, int]]

    def groups_left(self) -> dict[str, dict[str, int]]:
        """Title of a column to the number of groups left in each structure.

        Raises:
            ValueError: If there was no `fit` yet.
        """
        if self.structures is None:
            raise ValueError(
                "There are no groups to count yet: give the callback to `fit` first. Received: "
                f"a {type(self).__name__} that no `fit` was given"
            )
        return {"left": self._left_in_weights()}

    def report(self) -> None:
        """Prints what is left."""
        if self.verbose:
            self._print_summary()

    def _left_in_weights(self):
        return {s.name: int(np.count_nonzero(s.norms())) for s in self.structures}

    def _print_summary(self):
        self._print_table("groups left", self.groups_left())

    def _print_table(self, title, columns):
        rows = [
            [s.name, s.kind, *(column[s.name] for column in columns.values()), s.groups]
            for s in self.structures
        ]
        heads = ["layer", "kind", *columns, "of"]
        print(table(heads, rows, f"{type(self).__name__}: {title}", text_columns=2, paths=True))
