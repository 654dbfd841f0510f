"""The output layer on some pieces is the output layer on all, of which those pieces are taken."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from tests.models import randomize
from tfprune.embeddings.factorized_embedding import FactorizedEmbedding
from tfprune.overlay.folding import times
from tfprune.overlay.transforms import remove, transform_weight
from tfprune.structures.graph import graph_of
from tfprune.translation.forms import Step
from tfprune.translation.output_rows import OutputRows
from tfprune.translation.values import Values

IDS = np.array([[3, 19, 3, 0], [7, 8, 1, 2]], "int32")


def reverse(layer):
    layer.build((None, None))
    return lambda x: layer(x, reverse=True)


KNOWN = {
    "dense": lambda: layers.Dense(20),
    "dense without bias": lambda: layers.Dense(20, use_bias=False),
    "tied": lambda: reverse(layers.ReversibleEmbedding(20, 8)),
    "untied": lambda: reverse(layers.ReversibleEmbedding(20, 8, tie_weights=False)),
    "capped": lambda: reverse(layers.ReversibleEmbedding(20, 8, logit_soft_cap=2.0)),
    "factorized": lambda: reverse(FactorizedEmbedding(20, 8, 3, logit_soft_cap=2.0)),
    "half": lambda: layers.Dense(20, dtype="mixed_bfloat16"),
    "half in full": lambda: reverse(
        layers.ReversibleEmbedding(20, 8, dtype="mixed_bfloat16", reverse_dtype="float32")
    ),
    "half factorized": lambda: reverse(FactorizedEmbedding(20, 8, 3, dtype="mixed_bfloat16")),
}


def model_of(make_logits):
    x = keras.Input((None, 8))
    return randomize(keras.Model(x, make_logits(x)))


class Ids:
    """A shortlist whose candidates are the source itself."""

    def candidates(self, source):
        return source


def rows_of(model):
    return OutputRows(graph_of(model).nodes[-1], Ids(), "source")


def assert_alike(model, rows):
    x = np.random.default_rng(1).normal(size=(2, 1, 8)).astype("float32")
    whole = model(x)
    source = Values(2, -1)
    source.set_whole("source", ops.convert_to_tensor(IDS))
    step = Step(0, iter(()), [], iter(rows.keep(source)))
    here = Values(-1, 1)
    here.set_whole(model.inputs[0], ops.convert_to_tensor(x))
    rows.run(here, step)
    got = here.rows(model.outputs[0])
    assert keras.backend.standardize_dtype(got.dtype) == keras.backend.standardize_dtype(
        whole.dtype
    )
    expected = np.take_along_axis(
        np.asarray(ops.convert_to_numpy(whole), "float32")[:, 0], IDS, axis=1
    )
    tolerance = 2e-2 if "16" in str(got.dtype) else 1e-5
    np.testing.assert_allclose(
        np.asarray(ops.convert_to_numpy(got), "float32"), expected, rtol=tolerance, atol=tolerance
    )


@pytest.mark.parametrize("name", KNOWN)
def test_rows_give_the_logits_of_the_layer(name):
    model = model_of(KNOWN[name]())
    assert_alike(model, rows_of(model))


@pytest.mark.parametrize(
    ("name", "attribute"), [("dense", "kernel"), ("tied", "embeddings"), ("factorized", "kernel")]
)
def test_weights_are_seen_as_the_layer_sees_them(name, attribute):
    model = model_of(KNOWN[name]())
    rows = rows_of(model)
    plain = model.layers[-1]
    gate = np.random.default_rng(2).uniform(size=getattr(plain, attribute).shape[-1])
    transform_weight(plain, attribute, times(lambda training: gate))
    try:
        assert_alike(model, rows)
    finally:
        remove(plain)


@keras.saving.register_keras_serializable("tests")
class Doubled(layers.Dense):
    """Computes something else than the layer that it extends."""

    def call(self, x):
        return 2 * super().call(x)


UNKNOWN = {
    "Softmax": lambda x: layers.Softmax()(layers.Dense(20)(x)),
    "Multiply": lambda x: layers.Dense(20)(x) * 2.0,
    "Dense": layers.Dense(20, "softmax"),
    "EinsumDense": layers.EinsumDense("abc,cd->abd", (None, 20)),
    "Doubled": Doubled(20),
    "Embedding": lambda x: layers.Embedding(20, 8)(ops.argmax(x, -1)),
    "ReversibleEmbedding": lambda x: layers.ReversibleEmbedding(20, 8)(ops.argmax(x, -1)),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_logits_made_in_another_way_are_refused_by_name(name):
    with pytest.raises(ValueError, match=f"`shortlist` needs a model .* Received: .* by {name} '"):
        rows_of(model_of(UNKNOWN[name]))


@pytest.mark.parametrize("name", ["dense", "tied"])
def test_quantized_layers_are_refused(name):
    model = model_of(KNOWN[name]())
    model.quantize("int8")
    with pytest.raises(ValueError, match="not quantized by Keras"):
        rows_of(model)
