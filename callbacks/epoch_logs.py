"""What a pruning callback writes into the logs of an epoch."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from keras import ops

from tfprune.callbacks.group_counts import GroupCounts
from tfprune.structures import Structures


class EpochLogs(GroupCounts):
    """Mixed into `PruningCallback`, which says what the entries are."""

    log_structures: bool
    owner: Any

    def strengths(self) -> dict[str, float]:
        """Structure name to the strength that works on it now; none by default."""
        return {}

    def distance_to_target(self) -> float | None:
        """How far the target is, in its unit; `None` without one."""
        return None

    def _log_pressure(self, logs: dict[str, Any] | None) -> None:
        """Logs the penalty and the strengths."""
        if logs is None:
            return
        penalty = self.owner.state(self).penalty()
        if penalty is not None:
            name = f"penalty/{self._class_name}"
            logs[name] = logs.get(name, 0.0) + penalty
        strengths = self.strengths()
        for kind, names in self._names_by_kind().items() if strengths else ():
            logs[f"strength/{kind}"] = float(np.mean([strengths[name] for name in names]))
        if self.log_structures:
            logs.update({f"strength/{name}": value for name, value in strengths.items()})

    def _log_left(self, logs: dict[str, Any] | None) -> None:
        """Adds the groups that are left to `history`, and logs them and how far the target is."""
        left = self._left_in_weights()
        self.history.append(left)
        if logs is None:
            return
        for kind, names in self._names_by_kind().items():
            # Another callback may prune structures of this kind too.
            count = sum(left[name] for name in names)
            logs[f"groups/{kind}"] = logs.get(f"groups/{kind}", 0) + count
        if self.log_structures:
            logs.update({f"groups/{name}": count for name, count in left.items()})
        if self is self.owner.callbacks[-1]:  # Of all, now that the others have looked.
            logs["sparsity"] = _sparsity(self.owner.callbacks)
        distance = self.distance_to_target()
        if distance is not None:
            name = f"distance/{self._class_name}"
            logs[name] = max(logs.get(name, -np.inf), float(distance))

    def _by_structure(self, values: Any) -> dict[str, float]:
        """A tensor with a number for each structure as structure name to number."""
        numbers = ops.convert_to_numpy(values).tolist()
        return dict(zip((s.name for s in self.structures), numbers, strict=True))

    def _names_by_kind(self):
        names: dict[str, list[str]] = {kind: [] for kind in self.structures.kinds}
        for structure in self.structures:
            names[structure.kind].append(structure.name)
        return names

    @property
    def _class_name(self):
        return re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__).lower()


def _sparsity(callbacks) -> float:
    """The share of the weights in the groups of several callbacks that is removed."""
    structures = Structures([s for callback in callbacks for s in callback.structures])
    left = {name: n for callback in callbacks for name, n in callback.history[-1].items()}
    return 1.0 - float(structures.weights_left(left)) / structures.weights
