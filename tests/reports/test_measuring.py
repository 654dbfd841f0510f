import json

import keras
import numpy as np
import pytest
from keras import layers

import tfprune
from tests.models import kill, randomize, transformer


def test_flops_by_hand():
    x = keras.Input((10, 16))
    y = layers.MultiHeadAttention(4, 3)(x, x)
    model = keras.Model(x, layers.Dense(5)(y))
    projections = 4 * 2 * 20 * 16 * 12  # query, key, value, output; 20 positions
    scores = 2 * (2 * 2 * 4 * 10 * 10 * 3)  # scores and their product with the values
    assert tfprune.count_flops(model, batch_size=2) == projections + scores + 2 * 20 * 16 * 5


def test_flops_of_a_convolution():
    x = keras.Input((8, 8, 3))
    model = keras.Model(x, layers.Conv2D(4, 3, padding="same")(x))
    assert tfprune.count_flops(model) == 2 * 8 * 8 * 4 * 3 * 3 * 3


def test_parameters_leave_out_random_states():
    x = keras.Input((4,))
    assert tfprune.count_parameters(keras.Model(x, layers.Dropout(0.5)(layers.Dense(3)(x)))) == 15


@pytest.mark.tensorflow_only
def test_latency(tmp_path):
    path = tfprune.export(transformer(), tmp_path / "m.tflite")
    latency = tfprune.measure_latency(path, sequence_length=4, runs=3, warmup=1)
    assert 0 < latency.fastest <= latency.median <= latency.percentile_90
    assert next(iter(latency.shapes.values())) == (1, 4, 8)
    assert "ms" in str(latency) and json.dumps(latency.to_dict())
    both = tfprune.compare_latency([path, transformer()], sequence_length=4, runs=3)
    assert both.ratios[0] == 1.0 and both.ratios[1] > 0
    with pytest.raises(ValueError, match="`runs`"):
        tfprune.measure_latency(path, runs=0)
    with pytest.raises(ValueError, match="or a .tflite file"):
        tfprune.measure_latency(tmp_path / "none.tflite")


@pytest.mark.tensorflow_only
def test_inputs_that_are_too_long_are_named(tmp_path):
    import keras_hub

    words = keras.Input((None,), dtype="int32", name="words")
    y = keras_hub.layers.TokenAndPositionEmbedding(20, 8, 4)(words)
    path = tfprune.export(keras.Model(words, layers.Dense(2)(y)), tmp_path / "m.tflite")
    assert tfprune.measure_latency(path, sequence_length=8, runs=1).median > 0
    with pytest.raises(ValueError, match=r"`sequence_length`.*words \(1, 9\)"):
        tfprune.measure_latency(path, sequence_length=9, runs=1)


def test_what_is_gone_is_named():
    model = transformer()
    small = tfprune.rebuild(model, keep={"attention": np.zeros(2, bool)})
    text = str(tfprune.compare(model, small, latency=False))
    assert "Nothing is left of attention: skipped at inference." in text
    assert "Nothing is left" not in str(tfprune.compare(model, model, latency=False))


@pytest.mark.tensorflow_only
def test_compare(tmp_path):
    model = randomize(transformer())
    model.compile("adam", "mse")
    kill(model, {"ffn_in": np.arange(12) >= 3, "attention": np.ones(2, bool)})
    small = tfprune.rebuild(model)
    result = tfprune.compare(model, small, sequence_length=4)
    before, after = result.figures["parameters"]
    assert (before, after) == (model.count_params(), small.count_params())
    assert result.figures["bytes of weights"] == (4 * before, 4 * after)
    assert result.survivors == {"attention": (0, 2), "ffn_in": (3, 12)}
    assert result.figures["FLOPs"][1] < result.figures["FLOPs"][0]
    assert result.latency_ratio > 0
    text = str(result)
    assert "LiteRT ms" in text and "ffn_in" in text
    assert json.loads(json.dumps(result.to_dict()))["survivors"]["ffn_in"] == [3, 12]
    result.plot(tmp_path / "s.png")
    assert (tmp_path / "s.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(ValueError, match="`after`"):
        tfprune.compare(model, None)
