"""Layers of which no structure is made, and why."""

from __future__ import annotations

from dataclasses import dataclass

import keras

from tfprune.structures.advice import advice


@dataclass(frozen=True)
class Skipped:
    """A layer that was skipped, and why.

    Args:
        name: The path of the layer.
        reason: One clause in plain words, such as `"its output is an output of the model"`.
    """

    name: str
    reason: str

    @property
    def advice(self) -> str:
        """What a user can do about it, a clause; empty where nothing can be done."""
        return advice(self.reason)

    @property
    def explained(self) -> str:
        """The reason, and the advice behind it where there is one."""
        return ": ".join(filter(None, (self.reason, self.advice)))


@dataclass(frozen=True)
class SkippedLayer:
    """A layer that a graph kind skips, and why.

    Args:
        layer: The layer.
        reason: As in `Skipped`.
        end: Where its groups end, if it is a place where those of the second layer of a pair
            usually do: `"residual"` if they are added to others, `"output"` if they leave the
            graph. Such layers are not listed where that is usual.
    """

    layer: keras.Layer
    reason: str
    end: str = ""
