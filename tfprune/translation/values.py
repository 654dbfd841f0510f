"""Values of the tensors of a graph, position by position or as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import ops


class Values:
    """The values of symbolic tensors, each as it is, `(batch, length, …)`, or as rows.

    Rows are all positions of all sentences one below the other, `(batch · length, …)`. What treats
    each position alone computes the same on them, and for a dense layer they are one product:
    LiteRT needs nine operations less. A value is brought from one form to the other where it is
    read.

    Args:
        batch: The number of sentences, -1 if the length is known.
        length: The number of positions, -1 if the number of sentences is known.
    """

    def __init__(self, batch: Any, length: Any):
        self.batch, self.length = batch, length
        self._whole: dict[int, Any] = {}
        self._rows: dict[int, Any] = {}
        self._made: dict[Any, Any] = {}

    def copy(self) -> Values:
        """Other values that begin with these."""
        other = Values(self.batch, self.length)
        other._whole.update(self._whole)
        other._rows.update(self._rows)
        return other

    def set_whole(self, tensor: Any, value: Any) -> None:
        """Sets the value of a symbolic tensor as it is, `(batch, length, …)`."""
        self._rows.pop(id(tensor), None)
        self._whole[id(tensor)] = value

    def set_rows(self, tensor: Any, value: Any) -> None:
        """Sets the value of a symbolic tensor as rows, `(batch · length, …)`."""
        self._whole.pop(id(tensor), None)
        self._rows[id(tensor)] = value

    def whole(self, tensor: Any) -> Any:
        """The value of a symbolic tensor as it is; what is no known tensor is given back."""
        key = id(tensor)
        if key not in self._whole and key in self._rows:
            rows = self._rows[key]
            self._whole[key] = ops.reshape(rows, (self.batch, self.length, *_sizes(rows, 1)))
        return self._whole.get(key, tensor)

    def rows(self, tensor: Any) -> Any:
        """The value of a symbolic tensor as rows; what is no known tensor is given back."""
        key = id(tensor)
        if key not in self._rows and key in self._whole:
            whole = self._whole[key]
            self._rows[key] = ops.reshape(whole, (-1, *_sizes(whole, 2)))
        return self._rows.get(key, tensor)

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """What a function returns, which is called once for a key."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


def _sizes(value: Any, first: int) -> list[Any]:
    """The sizes of the axes from one on; where they are not known, tensors."""
    known = value.shape[first:]
    return [ops.shape(value)[first + i] if n is None else n for i, n in enumerate(known)]
