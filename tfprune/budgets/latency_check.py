"""What was asked of a model, what a table predicted of it, and what was measured."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from tfprune.tables import wrapped


@dataclass(frozen=True)
class LatencyCheck:
    """Milliseconds of one call, side by side; prints as a text.

    Args:
        measured: What LiteRT takes now.
        predicted: What the table says; `None` if the structures of the model are not in it.
        asked: What was asked for; `None` if nothing was.
        before: What the whole model takes now, timed in turn; `None` if it was not given.

    Example:

    >>> print(LatencyCheck(4.2, predicted=3.9, asked=4.0))
    4.2 ms measured; 4 ms were asked for (5% more), the table predicts 3.9 ms
    """

    measured: float
    predicted: float | None = None
    asked: float | None = None
    before: float | None = None

    @property
    def excess(self) -> float | None:
        """By which share more was measured than was asked for; negative if less."""
        return None if self.asked is None else self.measured / self.asked - 1

    def to_dict(self) -> dict[str, Any]:
        """All numbers, as JSON knows them."""
        return asdict(self)

    def __str__(self) -> str:
        parts = []
        if self.excess is not None:
            way = "more" if self.excess > 0 else "less"
            parts.append(f"{self.asked:.3g} ms were asked for ({abs(self.excess):.0%} {way})")
        if self.predicted is not None:
            parts.append(f"the table predicts {self.predicted:.3g} ms")
        else:
            parts.append("the table does not know its structures")
        if self.before is not None:
            parts.append(f"the whole model takes {self.before:.3g} ms now")
        return wrapped(f"{self.measured:.3g} ms measured; {', '.join(parts)}")
