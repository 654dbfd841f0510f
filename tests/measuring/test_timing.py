import json

import keras
import pytest
from keras import layers

import tfprune
from tests.models import transformer


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
