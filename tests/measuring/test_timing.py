import json
from itertools import pairwise
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers

import tfprune
from tests.models import transformer
from tests.terminals import terminal
from tfprune import progress
from tfprune.export.float_operations import float_operations
from tfprune.measuring import timing


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
def test_recurrent_models_are_timed_with_fixed_sizes():
    """LiteRT has no lists of tensors of open sizes."""
    model = keras.Sequential([keras.Input((None, 4)), layers.GRU(6, name="gru"), layers.Dense(3)])
    timed = tfprune.measure_latency(model, batch_size=2, sequence_length=5, runs=2)
    assert list(timed.shapes.values()) == [(2, 5, 4)]
    timed = tfprune.measure_latency(model, [np.ones((3, 7, 4), "float32")], runs=2)
    assert list(timed.shapes.values()) == [(3, 7, 4)]
    one, other = keras.Input((None, 4)), keras.Input((None, 4))
    both = layers.Concatenate()([layers.GRU(3)(one), layers.GRU(3)(other)])
    given = [np.ones((1, 7, 4), "float32"), np.ones((1, 5, 4), "float32")]
    timed = tfprune.measure_latency(keras.Model([one, other], both), given, runs=2)
    assert list(timed.shapes.values()) == [(1, 7, 4), (1, 5, 4)]
    compared = tfprune.compare(model, model, sequence_length=5)
    assert compared.latency_ratio > 0 and not compared.notes


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("inputs", [None, [np.ones((1, 5, 4), "float32")]])
@pytest.mark.parametrize("recurrent", [False, True])
def test_the_file_that_is_timed_is_of_the_kind_that_was_asked_for(inputs, recurrent, tmp_path):
    x = keras.Input((None, 4))
    y = layers.GRU(64)(x) if recurrent else layers.Dense(64, "relu")(x)
    model = keras.Model(x, layers.Dense(96)(y))
    # The converter cannot measure value ranges inside a loop.
    kinds = [None, "float16", "dynamic_int8", *([] if recurrent else ["int8"])]
    files = []
    for kind in kinds:
        files.append(timing.file_to_time(model, tmp_path / f"{kind}.tflite", 1, 5, inputs, kind))
        assert tfprune.measure_latency(model, inputs, 1, 5, runs=2, quantize=kind).median > 0
    weights = 4 * model.count_params()
    saved = [(files[0].stat().st_size - path.stat().st_size) / weights for path in files[1:]]
    assert saved[0] > 0.4 and min(saved[1:]) > 0.5
    if not recurrent:
        assert len(float_operations(files[-1])) < len(float_operations(files[0]))


def of_words():
    words = keras.Input((None,), dtype="int32", name="words")
    y = layers.GlobalAveragePooling1D()(layers.Embedding(20, 8)(words))
    return keras.Model(words, layers.Dense(2)(y))


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("form", ["by name", "list", "iterator", "function"])
def test_quantized_models_are_calibrated_on_what_is_given(form):
    model, numbers = of_words(), np.arange(12, dtype="int32").reshape(3, 4)
    forms = {
        "by name": {"words": numbers},
        "list": [numbers],
        "iterator": iter([[numbers[:1]], [numbers[1:]]]),
        "function": lambda: iter([[numbers]]),
    }
    options = {"quantize": "int8", "sequence_length": 4, "runs": 2}
    timed = tfprune.compare_latency([model, model], representative_data=forms[form], **options)
    assert list(timed.latencies[1].shapes.values()) == [(1, 4)]
    assert timed.latencies[1].quantize == "int8" and "as int8 files" in str(timed)


@pytest.mark.tensorflow_only
def test_the_scale_of_an_input_is_that_of_the_examples(tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    for largest in (1.0, 100.0):
        given = np.linspace(-largest, largest, 4, dtype="float32")[None]
        for options in ({"inputs": [given]}, {"representative_data": given}):
            path = timing.file_to_time(
                model, tmp_path / "m.tflite", 1, 4, quantize="int8", **options
            )
            tensors = Interpreter(str(path)).get_tensor_details()
            scales = [t["quantization"][0] for t in tensors if t["dtype"] is np.int8]
            assert any(scale == pytest.approx(2 * largest / 255, rel=0.01) for scale in scales)


@pytest.mark.tensorflow_only
@pytest.mark.parametrize(
    "options, message",
    [
        ({"quantize": "int4"}, "`quantize` must be one of"),
        ({"representative_data": np.ones((2, 4))}, "`representative_data` is for files"),
        ({"quantize": "int8", "representative_data": []}, "`representative_data` must"),
        ({"quantize": "int8", "inputs": np.ones((1, 4))}, "`inputs` must be a list of 1 array"),
        ({"quantize": "int8", "inputs": [np.ones((1, 4))] * 2}, "`inputs` must be a list of 1"),
    ],
)
def test_quantized_timing_of_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        tfprune.measure_latency(of_words(), runs=1, **options)


@pytest.mark.tensorflow_only
def test_what_cannot_be_timed_as_a_quantized_file(tmp_path):
    model = of_words()
    path = tfprune.export(model, tmp_path / "m.tflite")
    with pytest.raises(ValueError, match="`quantize` is for Keras models"):
        tfprune.measure_latency(path, quantize="int8")
    model.layers[-1].kernel.assign(np.nan * model.layers[-1].kernel)
    with pytest.raises(ValueError, match="`model`.*finite"):
        tfprune.measure_latency(model, quantize="dynamic_int8")


@pytest.mark.tensorflow_only
def test_nested_inputs_are_timed():
    a, b, c = (keras.Input((4,)) for _ in range(3))
    model = keras.Model([[a, b], c], layers.Dense(40)(layers.Concatenate()([a, b, c])))
    for kind in ("dynamic_int8", "int8"):
        assert tfprune.measure_latency(model, runs=2, quantize=kind).median > 0


@pytest.mark.tensorflow_only
def test_inputs_that_are_too_long_are_named(tmp_path):
    import keras_hub

    words = keras.Input((None,), dtype="int32", name="words")
    y = keras_hub.layers.TokenAndPositionEmbedding(20, 8, 4)(words)
    path = tfprune.export(keras.Model(words, layers.Dense(2)(y)), tmp_path / "m.tflite")
    assert tfprune.measure_latency(path, sequence_length=8, runs=1).median > 0
    with pytest.raises(ValueError, match=r"`sequence_length`.*words \(1, 9\)"):
        tfprune.measure_latency(path, sequence_length=9, runs=1)


@pytest.mark.tensorflow_only
@pytest.mark.parametrize(
    "options, message",
    [
        ({"runs": 0}, "`runs` must be a positive integer"),
        ({"runs": True}, "`runs` must be a positive integer"),
        ({"threads": True}, "`threads` must be a positive integer"),
        ({"threads": 0}, "`threads` must be a positive integer"),
        ({"batch_size": 0}, "`batch_size` must be a positive integer"),
        ({"sequence_length": 0}, "`sequence_length` must be a positive integer"),
        ({"warmup": -5}, "`warmup` must be an integer, 0 or more"),
        ({"warmup": "x"}, "`warmup` must be an integer, 0 or more"),
        ({"inputs": np.ones((1, 4, 8))}, "`inputs` must be a list of 1 array.*Received: ndarray"),
        ({"inputs": [np.ones(3), np.ones(3)]}, "`inputs` must be a list of 1 .* a list of 2"),
        ({"verbose": 2}, "`verbose` must be one of 0, 1, False, True"),
        ({"inputs": []}, "`inputs` must be a list of 1 .* a list of 0"),
        ({"models": []}, "`models` must be a list"),
        ({"models": None}, "`models` must be a list"),
        ({"models": "m.tflite"}, "`models` must be a list"),
        ({"models": [None]}, "`model` must be a Keras model"),
        ({"models": [""]}, "`model` must be a Keras model or a .tflite file"),
        ({"models": [keras.Sequential([layers.Dense(2)])]}, "`model` must be built"),
    ],
)
def test_wrong_calls(options, message):
    small = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    with pytest.raises(ValueError, match=message):
        tfprune.compare_latency(**{"models": [small], **options})
    if "models" not in options:
        with pytest.raises(ValueError, match=message):
            tfprune.measure_latency(small, **options)


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("content", ["", "hello", "hello " * 100])
def test_a_file_that_is_no_litert_file(tmp_path, content):
    path = tmp_path / "notes.tflite"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"`model` must be .*notes.tflite', which LiteRT cannot"):
        tfprune.measure_latency(path)


@pytest.mark.tensorflow_only
def test_what_reads_strings_is_not_timed():
    text = keras.Input((1,), dtype="string", name="text")
    model = keras.Model(text, layers.StringLookup(vocabulary=["a", "b"])(text))
    with pytest.raises(ValueError, match="`model` must read numbers.* the input 'text' of strings"):
        tfprune.measure_latency(model)


@pytest.fixture
def calls(monkeypatch):
    """Models that are numbers, and count as called by noting theirs."""
    made = []

    class Runner:
        names, details = ["x"], {}

        def __init__(self, number):
            self.number = number

        def run(self, arrays):
            made.append(self.number)

    monkeypatch.setattr(timing, "_runner", lambda model, *_: Runner(model))
    return made


@pytest.mark.tensorflow_only
def test_in_company_each_model_is_called_twice_in_its_turn(calls):
    tfprune.compare_latency([1, 2], inputs=[np.ones(1)], warmup=1, runs=1)
    assert calls == [1, 1, 2, 2] * 2
    calls.clear()
    tfprune.compare_latency([1], inputs=[np.ones(1)], warmup=1, runs=2)
    assert calls == [1, 1, 1]


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("models, timed", [([1], "a model, 3 times"), ([1, 2], "2 models in turn")])
def test_progress_is_drawn_between_the_calls_that_are_timed(calls, monkeypatch, models, timed):
    events = []

    def perf_counter():
        events.append("clock")
        return float(len(events))

    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=perf_counter))
    monkeypatch.setattr(progress, "_LEAST_SECONDS", 0.0)  # At every step.
    with terminal(written=lambda: events.append("write")) as screen:
        tfprune.compare_latency(models, inputs=[np.ones(1)], warmup=0, runs=3)
    reads = [i for i, event in enumerate(events) if event == "clock"]
    assert len(reads) == 2 * 3 * len(models)
    assert all(end == start + 1 for start, end in zip(reads[::2], reads[1::2], strict=True))
    rounds = [0, *reads[:: 2 * len(models)]]
    assert all("write" in events[i:j] for i, j in pairwise(rounds))
    shown = screen.getvalue()
    assert f"timing: preparing model {len(models)} of {len(models)}" in shown
    assert shown.count(f"timing: {timed}") == 3


@pytest.mark.tensorflow_only
def test_progress_is_not_shown_where_verbose_is_0(calls):
    with terminal() as screen:
        tfprune.compare_latency([1, 2], inputs=[np.ones(1)], runs=1, verbose=0)
        tfprune.measure_latency(1, [np.ones(1)], runs=1, verbose=0)
        assert screen.getvalue() == ""
        tfprune.measure_latency(1, [np.ones(1)], runs=1)
    assert "timing: a model, 1 time" in screen.getvalue()
