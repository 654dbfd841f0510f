"""Nothing raises, and whatever holds a tenth of the weights is in a structure or has a reason."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from tfprune.keras_private.layers import own_variables
from tfprune.model_parts import own_children
from tfprune.structures import find_structures

pytestmark = pytest.mark.sampled

SIZES = {"num_layers": 1, "hidden_dim": 8, "intermediate_dim": 24, "vocabulary_size": 20}
GROUPED = {**SIZES, "num_query_heads": 4, "num_key_value_heads": 2}


def by_name(name, **arguments):
    keras_hub = pytest.importorskip("keras_hub")
    return getattr(keras_hub.models, f"{name}Backbone")(**arguments)


def gemma3n():
    return by_name(
        "Gemma3n",
        text_vocab_size=20,
        text_hidden_size=8,
        num_hidden_layers=1,
        pad_token_id=0,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=4,
        intermediate_size=[24],
        hidden_activation="gelu_approximate",
        layer_types=["full_attention"],
        sliding_window=4,
        rope_theta=10000.0,
        max_position_embeddings=16,
        vocab_size_per_layer_input=20,
        hidden_size_per_layer_input=4,
        altup_num_inputs=2,
        laurel_rank=2,
    )


def gemma4():
    return by_name("Gemma4", **GROUPED, head_dim=4, image_size=16, layer_types=["full_attention"])


def t5():
    return by_name("T5", **SIZES, num_heads=2)


def albert():
    return by_name("Albert", **SIZES, num_heads=2, embedding_dim=8, max_sequence_length=8)


def deit():
    return by_name(
        "DeiT",
        image_shape=(16, 16, 3),
        patch_size=8,
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=24,
    )


class WithoutCall(layers.Layer):
    def __init__(self):
        super().__init__(name="parts")
        self.first, self.second = layers.Dense(9, name="first"), layers.Dense(4, name="second")

    def build(self, shape):
        self.first.build(shape)
        self.second.build((*shape[:-1], 9))


class UsesParts(keras.Model):
    """A layer whose layers are called one by one, and one whose `call` makes something else."""

    def __init__(self):
        super().__init__()
        self.parts = WithoutCall()

    def build(self, shape):
        self.parts.build(shape)

    def call(self, x):
        return self.parts.second(ops.relu(self.parts.first(x)))


class UsesWeights(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden, self.spare = layers.Dense(6, name="hidden"), layers.Dense(5, name="spare")

    def build(self, shape):
        self.hidden.build(shape)
        self.spare.build(shape)

    def call(self, x):
        return ops.matmul(x, self.hidden.kernel)


class OfShapes(layers.Layer):
    """What it was built with is no shape."""

    def __init__(self):
        super().__init__(name="odd")
        self.inner = layers.Dense(7, name="inner")

    def build(self, shape):
        self.inner.build((None, 4))
        self._build_shapes_dict = {"input_shape": None}

    def call(self, x):
        return self.inner(x)


class Raises(keras.Model):
    """A call that cannot be traced, around a layer that cannot be either."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x):
        raise RuntimeError("no symbolic call")


def built(model):
    model.build((None, 4))
    return model


def models():
    yield from (gemma3n, gemma4, t5, albert, deit)
    yield lambda: built(UsesParts())
    yield lambda: built(UsesWeights())
    yield lambda: built(Raises(OfShapes()))
    yield lambda: built(Raises(WithoutCall()))
    yield lambda: built(Raises(layers.Dense(3)))
    yield lambda: built(WithoutCall())


@pytest.mark.parametrize("make", models())
def test_what_holds_a_tenth_of_the_weights_has_a_reason(make):
    model = make()
    found = find_structures(model)
    in_groups = {id(share.variable) for s in found for share in s.slices}
    said = {skip.name for skip in found.skipped} | {s.name for s in found if s.is_cut_by_shape}
    holders = []

    def walk(layer, path, has_reason):
        has_reason = has_reason or path in said
        own = [v for v in own_variables(layer) if len(v.shape) > 1]
        if own and not isinstance(layer, layers.Embedding) and "embedding" not in own[0].path:
            holders.append((path, own, has_reason))
        for inner in own_children(layer):
            walk(inner, f"{path}/{inner.name}" if path else inner.name, has_reason)

    walk(model, "", model.name in said)
    total = sum(int(np.prod(v.shape)) for _, own, _ in holders for v in own)
    assert holders
    for path, own, has_reason in holders:
        size = sum(int(np.prod(v.shape)) for v in own)
        if size >= total / 10:
            assert has_reason or all(id(v) in in_groups for v in own), path


def test_weights_that_are_used_without_a_call():
    found = find_structures(built(UsesWeights()))
    assert {s.name: s.reason for s in found.skipped} == {
        "hidden": "UsesWeights uses its weights without calling it",
        "spare": "no call of it is seen",
    }


def test_layers_of_a_layer_that_has_no_call():
    assert {s.name: s.groups for s in find_structures(built(UsesParts()))} == {"first": 9}
