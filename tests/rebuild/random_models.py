"""Random small models, drawn by Hypothesis, with the inputs to compare them on.

A model is a row of parts. A part is plain data, from which its layers are made, so that the same
parts can stand in a Functional model, in a layer made of layers and in a subclassed model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from hypothesis import strategies as st
from keras import layers

from tests.models import randomize
from tfprune.embeddings.factorized_embedding import FactorizedEmbedding

LENGTH, WORDS, UNITS = 3, 7, 4

# Of some of them the value at 0 is not 0, so that units which are gone still emit something.
ACTIVATIONS = st.sampled_from(["relu", "gelu", "softplus", "tanh", "sigmoid"])
MERGES = {m.__name__: m for m in (layers.Multiply, layers.Maximum, layers.Minimum, layers.Add)}


@dataclass
class Case:
    """A model and what it is given.

    Args:
        model: The model, with random weights.
        inputs: Arrays, in the structure that the model takes.
        uncopyable: Whether a layer in it does not say in `get_config()` what it was made with.
    """

    model: keras.Model
    inputs: Any
    uncopyable: bool = False


# -- parts: what is drawn, the layers made of it, and how they are called ------------------------


@st.composite
def parts(draw, memory=False, masks=False):
    """One part: its kind, and what its kind needs to know.

    Args:
        draw: Given by Hypothesis.
        memory: Whether there is another sequence to attend to.
        masks: Whether there is an attention mask.
    """
    kinds = ["attention", "grouped", "pair", "gated", "chain", "einsum", "tied", "norm"]
    kind = draw(st.sampled_from(kinds))
    part = {"kind": kind, "bias": draw(st.booleans()), "residual": draw(st.booleans())}
    if kind in ("attention", "grouped"):
        part["by_name"] = draw(st.booleans())
        part["cross"] = memory and draw(st.booleans())
        part["mask"] = masks and not part["cross"] and draw(st.booleans())
        part["causal"] = not part["cross"] and draw(st.booleans())
        part["dropout"] = draw(st.sampled_from([0.0, 0.1]))
        part["heads"] = draw(st.integers(1, 3))
    elif kind == "chain":
        part["activations"] = draw(st.lists(ACTIVATIONS, min_size=2, max_size=3))
    elif kind == "gated":
        part["merge"] = draw(st.sampled_from(sorted(MERGES)))
        part["activations"] = [draw(ACTIVATIONS), draw(ACTIVATIONS)]
    elif kind != "norm":
        part["activations"] = [draw(ACTIVATIONS)]
        part["out_bias"] = draw(st.booleans())
        part["dropout"] = draw(st.booleans())
    return part


def made(part, width) -> list[tuple[keras.Layer, int]]:
    """The layers of a part, each with the width of what it reads."""
    kind, bias = part["kind"], part["bias"]
    if kind == "attention":
        # Without dropout Keras on JAX wants values of the size of the keys.
        size = 3 if part["dropout"] else 2
        options = {"value_dim": size, "use_bias": bias, "dropout": part["dropout"]}
        return [(layers.MultiHeadAttention(part["heads"], 2, **options), width)]
    if kind == "grouped":
        options = {"use_bias": bias, "dropout": part["dropout"]}
        return [(layers.GroupQueryAttention(2, 4, 2, **options), width)]
    if kind == "norm":
        return [(layers.LayerNormalization(), width)]
    if kind == "chain":
        activations = [*part["activations"], None]
        units = [UNITS] * (len(activations) - 1) + [width]
        reads = [width, *units]
        return [
            (layers.Dense(n, a, use_bias=bias), r)
            for n, a, r in zip(units, activations, reads, strict=False)
        ]
    if kind == "gated":
        first, second = part["activations"]
        return [
            (layers.Dense(UNITS, first, use_bias=bias), width),
            (layers.Dense(UNITS, second, use_bias=bias), width),
            (MERGES[part["merge"]](), UNITS),
            (layers.Dense(width), UNITS),
        ]
    (activation,) = part["activations"]
    if kind == "einsum":
        axes = "d" if bias else None
        equation = "abc,cd->abd"
        first = layers.EinsumDense(equation, (None, UNITS), activation=activation, bias_axes=axes)
        second = layers.EinsumDense(equation, (None, width), bias_axes="d")
    else:
        first = layers.Dense(UNITS, activation, use_bias=bias)
        second = layers.Dense(width, use_bias=part["out_bias"])
    between = [(layers.Dropout(0.1), UNITS)] if part["dropout"] else []
    return [(first, width), *between, (second, UNITS)]


def called(part, own, x, memory=None, mask=None):
    """What a part makes of a tensor; `own` are its layers."""
    kind = part["kind"]
    if kind in ("attention", "grouped"):
        other = memory if part["cross"] else x
        options = {"use_causal_mask": True} if part["causal"] else {}
        if part["mask"]:
            options["attention_mask"] = mask
        if part["by_name"]:
            y = own[0](value=other, key=other, query=x, **options)
        else:
            y = own[0](x, other, **options)
    elif kind == "gated":
        y = own[3](own[2]([own[0](x), own[1](x)]))
    else:
        y = x
        for _ in range(2 if kind == "tied" else 1):
            for layer in own:
                y = layer(y)
    return x + y if part["residual"] else y


# -- layers and models made of parts --------------------------------------------------------------


class OfParts:
    """Makes its layers of parts and calls them; mixed into layers and models."""

    def make(self, parts, width):
        self.parts, self.width = parts, width
        self.own = [[layer for layer, _ in made(part, width)] for part in parts]
        self.supports_masking = True

    def call(self, x):
        for part, own in zip(self.parts, self.own, strict=True):
            x = called(part, own, x)
        return x


@keras.saving.register_keras_serializable("random_models")
class Block(OfParts, layers.Layer):
    """A layer made of layers, which are built when it is called."""

    def __init__(self, parts, width, **kwargs):
        super().__init__(**kwargs)
        self.make(parts, width)

    def get_config(self):
        return {**super().get_config(), "parts": self.parts, "width": self.width}


@keras.saving.register_keras_serializable("random_models")
class BuiltBlock(Block):
    """A layer made of layers, with a `build` that builds them."""

    def build(self, input_shape):
        for part, own in zip(self.parts, self.own, strict=True):
            for layer, (_, reads) in zip(own, made(part, self.width), strict=True):
                shape = (*input_shape[:-1], reads)
                if part["kind"] in ("attention", "grouped"):
                    layer.build(shape, shape)
                elif not isinstance(layer, tuple(MERGES.values())):
                    layer.build(shape)
        self.built = True

    def compute_output_shape(self, input_shape):
        """That of the input; a layer without `build` must be called for its layers to be built."""
        return input_shape


@keras.saving.register_keras_serializable("random_models")
class Uncopyable(Block):
    """A layer made of layers that does not say what it was made with."""

    def get_config(self):
        return layers.Layer.get_config(self)


@keras.saving.register_keras_serializable("random_models")
class Subclassed(OfParts, keras.Model):
    """A subclassed model; its parts stand between an embedding, if there is one, and an end."""

    def __init__(self, parts, width, ids, **kwargs):
        super().__init__(**kwargs)
        self.make(parts, width)
        self.ids = ids
        self.embedding = embedding_of(ids, width) if ids else None
        self.end = layers.Dense(2)

    def call(self, x):
        return self.end(super().call(self.embedding(x) if self.ids else x))

    def compute_output_shape(self, shape):
        return (*shape[:2], 2)

    def get_config(self):
        own = {"parts": self.parts, "width": self.width, "ids": self.ids}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("random_models")
class AddIfGiven(layers.Layer):
    """Adds a tensor that may be missing."""

    def call(self, x, other=None):
        return x if other is None else x + other

    def compute_output_shape(self, x_shape, other_shape=None):
        return x_shape


# -- whole models ---------------------------------------------------------------------------------


@st.composite
def embeddings(draw):
    """An embedding as plain data: its kind, and whether it makes a mask."""
    kinds = ["plain", "reversible", "untied", "factorized"]
    return {"kind": draw(st.sampled_from(kinds)), "mask_zero": draw(st.booleans())}


def embedding_of(ids, width):
    """The layer."""
    mask_zero = ids["mask_zero"]
    if ids["kind"] == "plain":
        return layers.Embedding(WORDS, width, mask_zero=mask_zero)
    if ids["kind"] == "factorized":
        return FactorizedEmbedding(WORDS, width, rank=2, mask_zero=mask_zero)
    tied = ids["kind"] == "reversible"
    return layers.ReversibleEmbedding(WORDS, width, tie_weights=tied, mask_zero=mask_zero)


class _Given:
    """Makes symbolic inputs and the arrays for them."""

    def __init__(self, seed):
        self.draw = np.random.default_rng(seed)
        self.symbols: list[Any] = []
        self.arrays: list[Any] = []

    def _name(self):
        return f"in_{len(self.symbols)}"

    def ids(self):
        self.symbols.append(keras.Input((LENGTH,), dtype="int32", name=self._name()))
        ids = self.draw.integers(1, WORDS, (2, LENGTH))
        ids[self.draw.random(ids.shape) < 0.4] = 0  # Padding, in places also of a whole row.
        self.arrays.append(ids.astype("int32"))
        return self.symbols[-1]

    def vectors(self, width, missing=None):
        self.symbols.append(
            keras.Input((LENGTH, width), optional=missing is not None, name=self._name())
        )
        vectors = self.draw.normal(size=(2, LENGTH, width)).astype("float32")
        vectors[self.draw.random(vectors.shape[:2]) < 0.3] = 0
        self.arrays.append(None if missing else vectors)
        return self.symbols[-1]

    def attention_mask(self):
        self.symbols.append(keras.Input((LENGTH, LENGTH), dtype="bool", name=self._name()))
        self.arrays.append(self.draw.random((2, LENGTH, LENGTH)) < 0.6)
        return self.symbols[-1]


def functional(draw, seed, width):
    """A Functional model of parts, some of them in layers and models of their own."""
    given = _Given(seed)
    embedding, uncopyable = None, False
    if draw(st.booleans()):
        embedding = embedding_of(draw(embeddings()), width)
        x = embedding(given.ids())
    else:
        x = given.vectors(width)
        if draw(st.booleans()):
            x = layers.Masking()(x)
    memory = mask = None
    if draw(st.booleans()):
        memory = embedding(given.ids()) if embedding is not None else given.vectors(width)
    if draw(st.booleans()):
        mask = given.attention_mask()
    if draw(st.integers(0, 4)) == 0:
        x = AddIfGiven()(x, given.vectors(width, missing=draw(st.booleans())))
    shared = layers.Dense(width)
    for _ in range(draw(st.integers(1, 3))):
        if draw(st.integers(0, 3)) == 0:
            x = shared(x)  # It may be called in front of several parts.
        form = draw(st.sampled_from(["plain"] * 5 + ["layer", "built", "model", "sequential"]))
        if form == "plain":
            part = draw(parts(memory is not None, mask is not None))
            x = called(part, [layer for layer, _ in made(part, width)], x, memory, mask)
            continue
        inner = inside(draw, form, width)
        uncopyable = uncopyable or isinstance(inner, Uncopyable)
        for _ in range(draw(st.sampled_from([1, 1, 2]))):
            x = inner(x)
    ends = [layers.Dense(2)(x)]
    if draw(st.booleans()):
        ends.append(layers.GlobalAveragePooling1D()(x))
    if isinstance(embedding, layers.ReversibleEmbedding) and draw(st.booleans()):
        ends.append(embedding(x, reverse=True))
    symbols, arrays = structured(draw, given)
    return Case(keras.Model(symbols, structured_ends(draw, ends)), arrays, uncopyable)


def inside(draw, form, width):
    """A layer or model of one or two parts, to be called in another model."""
    if form == "sequential":
        return keras.Sequential([layer for layer, _ in row(draw, width)])
    own = draw(st.lists(parts(), min_size=1, max_size=2))
    if form == "built":
        return BuiltBlock(own, width)
    if form == "layer":
        return (Uncopyable if draw(st.integers(0, 3)) == 0 else Block)(own, width)
    inputs = x = keras.Input((LENGTH, width))
    for part in own:
        x = called(part, [layer for layer, _ in made(part, width)], x)
    return keras.Model(inputs, x)


def row(draw, width):
    """Layers that can stand in a row, each with the width of what it reads."""
    kinds = ["pair", "chain", "einsum", "norm"]
    found = []
    for part in draw(st.lists(parts(), min_size=1, max_size=2)):
        if part["kind"] in kinds:
            found += made(part, width)
    return [*found, (layers.Dense(UNITS, draw(ACTIVATIONS)), width), (layers.Dense(width), UNITS)]


def structured(draw, given):
    """The inputs alone, as a list or as a dictionary."""
    if len(given.symbols) == 1 and draw(st.booleans()):
        return given.symbols[0], given.arrays[0]
    if draw(st.booleans()):
        return given.symbols, given.arrays
    names = [f"in_{number}" for number in range(len(given.symbols))]
    return tuple(dict(zip(names, x, strict=True)) for x in (given.symbols, given.arrays))


def structured_ends(draw, ends):
    """The outputs alone, as a list, or in a dictionary."""
    form = draw(st.sampled_from(["list", "dict", "nested"]))
    if len(ends) == 1 and form == "list":
        return ends[0]
    if form == "list":
        return ends
    if form == "dict":
        return {f"out_{number}": end for number, end in enumerate(ends)}
    return {"first": ends[0], "rest": ends[1:]} if len(ends) > 1 else {"first": ends}


def random_case(draw) -> Case:
    """A Functional, Sequential or subclassed model.

    Args:
        draw: Draws from a strategy: `data.draw` of `st.data()`. Within a strategy Hypothesis would
            not let Keras draw numbers of its own.
    """
    seed = draw(st.integers(0, 10_000))
    width = draw(st.sampled_from([4, 6]))
    form = draw(st.sampled_from(["functional"] * 4 + ["sequential", "subclassed"]))
    if form == "functional":
        case = functional(draw, seed, width)
    else:
        given = _Given(seed)
        ids = draw(st.one_of(st.none(), embeddings()))
        symbol = given.ids() if ids else given.vectors(width)
        if form == "sequential":
            first = [embedding_of(ids, width)] if ids else []
            rest = [layer for layer, _ in row(draw, width)]
            model = keras.Sequential([keras.Input(batch_shape=symbol.shape, dtype=symbol.dtype)])
            for layer in [*first, *rest]:
                model.add(layer)
        else:
            own = draw(st.lists(parts(), min_size=1, max_size=3))
            model = Subclassed(own, width, ids)
            model(given.arrays[0])
        case = Case(model, given.arrays[0])
    randomize(case.model, seed)
    return case
