"""The base of the wrappers: a layer with gates over its groups."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from tfprune.gates import Gate
from tfprune.keras_private.layers import give_signatures
from tfprune.structures import Structure
from tfprune.structures.dense import is_dense
from tfprune.structures.registry import describe_of
from tfprune.structures.transparent import Transparent, plain_layer
from tfprune.wrappers.dense_units import DenseUnits


class GatedLayer(Transparent, keras.layers.Wrapper):
    """Base of the layers that hold another one and gates over its groups.

    The groups are the heads of an attention layer, the units of a dense one, or those of whatever
    kind of layer is registered with `tfprune.structures.register_layer_kind`. The wrapper is called
    as the layer inside is, with all its arguments and masks. The gates are those of
    `tfprune.gates`. They scale what reads the groups inside the layer; for a dense layer, which
    has no such weights, they scale its kernel and bias: `W' = W diag(g)`, `b' = b g`.

    The wrapper is saved with the model, gates included; `import tfprune` is enough to load it.
    `tfprune.find_structures` and `tfprune.rebuild` see the layer inside: the rebuilt model has that
    one, smaller, and no wrapper. A callback that makes gates of the same kind drives those of the
    wrapper instead; they stay when the fit is over.

    Args:
        layer: The layer.
        **kwargs: As in `keras.Layer`; the policy of the layer is the default for `dtype`.

    Attributes:
        layer: The layer.
        gates: The gates, a list, once the layer is built.
        groups: The number of groups.

    Raises:
        ValueError: If `layer` is neither a dense layer nor of a registered kind; when it is built,
            if its groups cannot be told apart.
    """

    def __init__(self, layer: keras.Layer, **kwargs: Any):
        inside = plain_layer(layer)
        if not is_dense(inside) and not (
            isinstance(inside, keras.Layer) and describe_of(inside) is not None
        ):
            raise ValueError(
                "`layer` must be a dense layer, an attention layer, or of a kind registered with "
                f"`tfprune.structures.register_layer_kind`. Received: layer={layer!r}"
            )
        give_signatures(self, layer)
        kwargs.setdefault("dtype", layer.dtype_policy)
        super().__init__(layer, **kwargs)
        self.supports_masking = layer.supports_masking

    def make_gates(self, structure: Structure, over: str | None) -> list[Gate]:
        """The gates of the structure; `over` is given where the usual weights are not there."""
        raise NotImplementedError

    @property
    def gate(self) -> Gate:
        """The gate; the first, if there are several.

        Raises:
            ValueError: If the layer is not built yet.
        """
        self._check_built("gate")
        return self.gates[0]

    def _check_built(self, what):
        if getattr(self, "gates", None) is None:
            raise ValueError(
                f"`{what}` of {self.name!r} can be read and set once the layer is built: call it "
                "on data first, or put it into a model."
            )

    @property
    def groups(self) -> int:
        """The number of groups."""
        return self.gate.structure.groups

    def open_groups(self) -> np.ndarray:
        """The groups whose gate is not closed, a boolean array `(groups,)`."""
        return self.gate.open_groups()

    # -- what Keras asks -------------------------------------------------------------------------

    def build(self, *args: Any, **kwargs: Any) -> None:
        """Builds the layer, then the gates."""
        if not self.layer.built:
            self.layer.build(*args, **kwargs)
        layer = plain_layer(self.layer)
        describe = describe_of(layer)
        if describe is None:
            self.gates = self.make_gates(DenseUnits(layer), over="producers")
        else:
            self.gates = self.make_gates(describe(layer, layer.name), over=None)
        for gate in self.gates:
            gate.permanent = True
            gate.apply()

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """What the layer computes with its gates."""
        return self.layer(*args, **kwargs)

    def compute_output_shape(self, *args: Any, **kwargs: Any) -> Any:
        """That of the layer."""
        return self.layer.compute_output_shape(*args, **kwargs)

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """That of the layer."""
        return self.layer.compute_output_spec(*args, **kwargs)

    def compute_mask(self, *args: Any, **kwargs: Any) -> Any:
        """That of the layer."""
        return self.layer.compute_mask(*args, **kwargs)

    def get_build_config(self) -> dict[str, Any] | None:
        """That of the layer."""
        return self.layer.get_build_config()

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Builds the layer as it was built when it was saved, then the gates."""
        if not self.layer.built:
            self.layer.build_from_config(config)
        self.build()
