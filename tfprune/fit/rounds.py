"""What a search in rounds tells about them."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfprune.arguments import integer
from tfprune.structures import Structures
from tfprune.tables import markdown


class Rounds:
    """Mixed into a callback that removes groups in rounds: a line, a table and a picture of them.

    Attributes:
        rounds: One dictionary for each round: `round`, `left` (structure name to groups), `removed`
            (structure name to the numbers of the groups that left) and `metric`.
        structures: What is searched.
        scores: The criterion's scores; their `kinds`, if any, name the columns of the table.
        monitor: The name of the metric, or `None`.
    """

    rounds: list[dict]
    structures: Structures
    scores: Any
    monitor: str | None

    def line(self, last: dict, over: bool) -> str:
        """One round in a line."""
        left, total = sum(last["left"].values()), sum(s.groups for s in self.structures)
        gone = "; ".join(f"{n} {', '.join(map(str, h))}" for n, h in last["removed"].items())
        metric = "" if last["metric"] is None else f", {self.monitor} {last['metric']:.4g}"
        text = f"round {last['round']}: {left} of {total} heads left{metric}"
        text += f"; gone: {gone}" if gone else "; below the floor, its heads are back"
        return text + (". The search is over." if over else "")

    def keep(self, number: int | None = None) -> dict[str, np.ndarray]:
        """Which heads stay after a round, as `tfprune.rebuild(model, keep=…)` takes it.

        A search passes through all sizes: with the checkpoint in a model of its own, the ticket of
        any round can be cut out of it.

        Args:
            number: The round; the last one by default.

        Returns:
            Structure name to boolean array `(heads,)`.

        Raises:
            ValueError: If there was no such round, or no `fit` yet.
        """
        self._check_begun()
        number = integer("number", len(self.rounds) if number is None else number, least=0)
        if number > len(self.rounds):
            raise ValueError(
                f"`number` must be a round from 0 to {len(self.rounds)}. Received: number={number}"
            )
        masks = {s.name: np.ones(s.groups, bool) for s in self.structures}
        for row in self.rounds[:number]:
            for name, heads in row["removed"].items():
                masks[name][heads] = False
        return masks

    def table(self) -> str:
        """The rounds in Markdown: how many heads each layer has left, as in the paper's table 3."""
        self._check_begun()
        if not self.rounds:
            raise ValueError("There are no rounds yet: `fit` has not come so far.")
        families: dict[str, list] = {}
        for s in self.structures:
            family = getattr(self.scores, "kinds", {}).get(s.name, s.kind)
            families.setdefault(family, []).append(s)
        metric = [self.monitor] if self.monitor else []
        rows = []
        whole = {s.name: s.groups for s in self.structures}
        for row in [{"round": 0, "left": whole, "metric": None}, *self.rounds]:
            gone = 1 - sum(row["left"].values()) / sum(whole.values())
            cells = [str(row["round"]), f"{gone:.0%}"]
            cells += [" ".join(str(row["left"][s.name]) for s in f) for f in families.values()]
            cells += ["" if row["metric"] is None else f"{row['metric']:.4g}"] if metric else []
            rows.append(cells)
        return markdown(["round", "gone", *families, *metric], rows)

    def plot(self, path=None):
        """Draws how many heads each layer has left after each round.

        Args:
            path: Where to write a PNG; `None` writes none.

        Returns:
            The matplotlib `Figure`.

        Raises:
            ValueError: If there was no `fit` yet.
        """
        self._check_begun()
        from tfprune.reports.plots import rounds

        whole = {s.name: s.groups for s in self.structures}
        return rounds([whole, *(row["left"] for row in self.rounds)], path)

    def _check_begun(self):
        if self.structures is None:
            raise ValueError("There are no rounds yet: give the callback to `fit` first.")
