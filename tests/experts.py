"""A mixture of experts, and its description for tfprune: a layer kind as a user would add it."""

import keras
import numpy as np
from keras import layers, ops

from tests.models import randomize
from tfprune.structures import Remainder, Slices, Structure, register_layer_kind


@keras.saving.register_keras_serializable("tests")
class MixtureOfExperts(layers.Layer):
    """`y = Σₑ σ(x rₑ + sₑ) · (relu(x Wₑ + bₑ) Vₑ) + c`; none of the weights is called `kernel`.

    The router's sigmoids do not sum to one, so an expert can leave without a word to the others.

    Args:
        experts: How many experts.
        hidden: Units of each.
    """

    def __init__(self, experts, hidden, **kwargs):
        super().__init__(**kwargs)
        self.experts = experts
        self.hidden = hidden

    def build(self, input_shape):
        experts, hidden, width = self.experts, self.hidden, input_shape[-1]
        self.router = self.add_weight(shape=(width, experts), name="router")
        self.router_bias = self.add_weight(shape=(experts,), name="router_bias")
        self.kernel_in = self.add_weight(shape=(experts, width, hidden), name="kernel_in")
        self.bias_in = self.add_weight(shape=(experts, hidden), name="bias_in")
        self.kernel_out = self.add_weight(shape=(experts, hidden, width), name="kernel_out")
        self.bias_out = self.add_weight(shape=(width,), name="bias_out")

    def call(self, x):
        units = ops.relu(ops.einsum("...w,ewh->...eh", x, self.kernel_in) + self.bias_in)
        share = ops.sigmoid(ops.matmul(x, self.router) + self.router_bias)
        units = units * share[..., None]
        return ops.einsum("...eh,ehw->...w", units, self.kernel_out) + self.bias_out

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, dtype=self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "experts": self.experts, "hidden": self.hidden}


class Experts(Structure):
    """The experts of one `MixtureOfExperts`, each with its column of the router."""

    kind = "experts"

    def __init__(self, name, layer):
        self.layer = layer
        slices = (
            Slices(layer, "router", 1, "producer"),
            Slices(layer, "router_bias", 0, "producer"),
            Slices(layer, "kernel_in", 0, "producer", within=2),
            Slices(layer, "bias_in", 0, "producer", within=1),
            Slices(layer, "kernel_out", 0, "consumer", within=1, bias="bias_out"),
        )
        super().__init__(name, layer.experts, slices)

    def emitted(self, consumer, read):
        units = np.maximum(read(self.layer.bias_in), 0)
        return units / (1 + np.exp(-read(self.layer.router_bias)[:, None]))

    def resized_config(self, layer, groups):
        return {"experts": groups}

    def remainders(self):
        bias = self.layer.bias_out
        return [Remainder(self.layer, bias, tuple(bias.shape))]


@register_layer_kind(MixtureOfExperts)
def describe_mixture_of_experts(layer, name):
    return Experts(name, layer)


def mixture(experts=4, width=6, hidden=5, residual=True, final=3):
    """A mixture of experts in a residual stream, a feed-forward pair and a classifier."""
    x = keras.Input((None, width), name="x")
    y = layers.LayerNormalization(name="norm")(x)
    y = MixtureOfExperts(experts, hidden, name="experts")(y)
    y = layers.Add(name="add")([x, y]) if residual else y
    y = layers.Dense(7, "gelu", name="ffn_in")(y)
    y = layers.Dense(width, name="ffn_out")(y)
    return randomize(keras.Model(x, layers.Dense(final, name="out")(y), name="mixture"))
