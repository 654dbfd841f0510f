"""The base of the wrappers whose gates are trained."""

from __future__ import annotations

import keras
from keras import ops

from tfprune.arguments import number
from tfprune.model_parts import add_untrained
from tfprune.wrappers.gated_layer import GatedLayer


class PenalisedLayer(GatedLayer):
    """Base of the wrappers whose gates are trained, against a penalty if there is a strength.

    Args:
        layer: As in `GatedLayer`.
        strength: λ of the penalty in `wrapper.losses`.
        **kwargs: As in `GatedLayer`.

    Raises:
        ValueError: If `strength` is negative or not finite, and as `GatedLayer`.
    """

    def __init__(self, layer: keras.Layer, strength: float = 0.0, **kwargs):
        super().__init__(layer, **kwargs)
        self._strength = _checked(strength)

    def penalty(self):
        """What the strength is multiplied by, a scalar tensor."""
        raise NotImplementedError

    def build(self, *args, **kwargs):
        """Builds the layer, the gates and the penalty."""
        super().build(*args, **kwargs)
        self._strength_held = add_untrained(self, "strength", value=self._strength)
        self.gate.scores.regularizer = _Penalty(self)

    @property
    def strength(self) -> float:
        """λ; it may be set at any time, also while a compiled loop runs."""
        return self._strength

    @strength.setter
    def strength(self, strength: float) -> None:
        self._strength = _checked(strength)
        if self.built:
            self._strength_held.assign(self._strength)

    def get_config(self):
        """The configuration."""
        return {**super().get_config(), "strength": self._strength}


class _Penalty(keras.regularizers.Regularizer):
    """Puts a wrapper's penalty into the losses of whatever model it is in."""

    def __init__(self, wrapper):
        self.wrapper = wrapper

    def __call__(self, _):
        return ops.convert_to_tensor(self.wrapper._strength_held) * self.wrapper.penalty()


def _checked(strength):
    return float(number("strength", strength, least=0))
