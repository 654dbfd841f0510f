"""Layers that stand where a layer has lost all its groups."""

from __future__ import annotations

import keras
from keras import ops, tree


@keras.saving.register_keras_serializable("tfprune")
class ConstantOutput(keras.Layer):
    """Stands for an attention or dense layer that has lost all its groups.

    It returns its bias at every position of its first input, whatever else it is given.

    Args:
        shape: The shape of one position of the output.
        argument: The name of the first input, if it is given by name.
        passes_masks: Whether the output has the Keras mask of the first input.
    """

    def __init__(self, shape, argument="query", passes_masks=True, **kwargs):
        super().__init__(**kwargs)
        self.shape = tuple(shape)
        self.argument = argument
        self.supports_masking = passes_masks

    def build(self, *_, **__):
        """Makes the bias."""
        self.bias = self.add_weight(name="bias", shape=self.shape, initializer="zeros")

    def __call__(self, *args, **kwargs):
        """Takes what the layer took; Keras must not see all of it, since it mixes no kinds."""
        query = args[0] if args else kwargs[self.argument]
        if kwargs.get("return_attention_scores"):
            raise ValueError(
                f"`return_attention_scores` must be false for {self.name!r}, which has lost all "
                "its heads. Received: return_attention_scores=True. Take the scores from the model "
                "as it was before it was rebuilt."
            )
        cache = {"cache": kwargs["cache"]} if kwargs.get("cache") is not None else {}
        return super().__call__(tree.flatten(query)[0], **cache)

    def call(self, query=None, *args, **kwargs):
        """The bias at every position of `query`."""
        query = tree.flatten(kwargs[self.argument] if query is None else query)[0]
        positions = ops.shape(query)[:-1]
        output = ops.broadcast_to(
            ops.cast(self.bias, self.compute_dtype), (*positions, *self.shape)
        )
        # KerasHub's cached attention returns its cache too, when it is given one.
        cache = kwargs.get("cache")
        return output if cache is None else (output, cache)

    def get_config(self):
        """The configuration."""
        own = {
            "shape": list(self.shape),
            "argument": self.argument,
            "passes_masks": self.supports_masking,
        }
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("tfprune")
class Passed(keras.layers.Identity):
    """Stands for a dense layer whose units are all gone; nothing reads what it passes on.

    It takes whatever that layer took, such as `training`, and returns the first of the tensors.

    Args:
        passes_masks: Whether the Keras mask of that tensor goes on. If not, zeros of its shape are
            returned, since a mask is part of its tensor.
    """

    def __init__(self, passes_masks=True, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = passes_masks

    def call(self, inputs):
        """The tensor."""
        return inputs if self.supports_masking else ops.zeros_like(inputs)

    def get_config(self):
        """The configuration, which Keras does not write by itself where there is a dtype policy."""
        return {**super().get_config(), "passes_masks": self.supports_masking}

    def __call__(self, *args, **kwargs):
        """The first tensor that is given."""
        return super().__call__(_first_tensor(args, kwargs))

    def compute_output_spec(self, *args, **kwargs):
        """The shape and the dtype of the first tensor that is given."""
        return super().compute_output_spec(_first_tensor(args, kwargs))


def _first_tensor(args, kwargs):
    return next(x for x in tree.flatten((args, list(kwargs.values()))) if hasattr(x, "shape"))
