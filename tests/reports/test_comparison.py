import json

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfprune
from tests.models import kill, randomize, transformer

pytestmark = pytest.mark.sampled


def test_what_is_gone_is_named():
    model = transformer()
    small = tfprune.rebuild(model, keep={"attention": np.zeros(2, bool)})
    text = str(tfprune.compare(model, small, latency=False))
    assert "Nothing is left of attention: skipped at inference." in text
    assert "Nothing is left" not in str(tfprune.compare(model, model, latency=False))


def test_weights_that_are_zero_are_told():
    # 4 · 8 + 8 + 8 · 8 + 8 + 8 · 2 weights in two structures; the kernel between them counts once.
    model = randomize(
        keras.Sequential(
            [keras.Input((4,)), *(layers.Dense(n, "relu") for n in (8, 8)), layers.Dense(2)]
        )
    )
    first, second, _ = model.layers
    # Every second weight: a unit all of whose weights are zero would be cut as a constant.
    second.kernel.assign(second.kernel * (np.indices((8, 8)).sum(0) % 2))
    small = tfprune.rebuild(model, keep={first.name: np.arange(8) < 4})
    figures = tfprune.compare(model, small, latency=False).figures
    everything = 4 * 8 + 8 + 8 * 8 + 8 + 8 * 2
    assert figures["non-zero in groups"] == (everything - 32, 4 * 4 + 4 + 4 * 4 + 8 + 16)


def test_one_head_of_attention_in_a_functional_model():
    """No axis is left along which heads lie; how many there are follows from the widths."""
    x = keras.Input((6, 8))
    q, k, v = (
        ops.reshape(layers.Dense(12, name=name)(x), (-1, 6, 4, 3)) for name in ("q", "k", "v")
    )
    scores = ops.softmax(ops.einsum("bqhd,bkhd->bhqk", q, k))
    y = ops.reshape(ops.einsum("bhqk,bkhd->bqhd", scores, v), (-1, 6, 12))
    model = randomize(keras.Model(x, layers.Dense(5, name="out")(y)))
    (heads,) = tfprune.find_structures(model)
    for left in (2, 1):
        small = tfprune.rebuild(model, keep={heads.name: np.arange(4) < left})
        found = tfprune.compare(model, small, latency=False)
        assert found.survivors == {heads.name: (left, 4)}


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


@pytest.mark.tensorflow_only
def test_quantized_files_are_compared():
    model = randomize(transformer(width=32, units=64))
    small = tfprune.rebuild(model, keep={"ffn_in": np.arange(64) < 8})
    plain = tfprune.compare(model, small, sequence_length=4)
    result = tfprune.compare(model, small, sequence_length=4, quantize="dynamic_int8")
    before, after = result.figures["bytes (.tflite)"]
    assert after < before < plain.figures["bytes (.tflite)"][0]
    assert result.figures["LiteRT ms"][1] > 0 and "LiteRT ms, dynamic_int8" in str(result)
    assert result.to_dict()["quantize"] == "dynamic_int8"
    with pytest.raises(ValueError, match="`quantize`"):
        tfprune.compare(model, small, quantize="int3")
    with pytest.raises(ValueError, match="`quantize`.*latency=False"):
        tfprune.compare(model, small, quantize="int8", latency=False)
    with pytest.raises(ValueError, match="`representative_data` must have shape"):
        tfprune.compare(model, small, quantize="int8", representative_data=np.ones((3, 4, 9)))


def test_models_that_were_given_in_the_wrong_order_are_noticed():
    model = randomize(transformer())
    small = tfprune.rebuild(model, keep={"ffn_in": np.arange(12) < 3})
    swapped = tfprune.compare(small, model, latency=False)
    assert "compare(before, after)" in " ".join(str(swapped).split())
    assert not tfprune.compare(model, small, latency=False).notes


def automatic(width=32, deep=1):
    inputs = keras.Input((8,))
    y = inputs
    for _ in range(deep):
        y = layers.Dense(width, "relu")(y)
    return keras.Model(inputs, layers.Dense(1)(y))


def survivors(before, after):
    result = tfprune.compare(before, after, latency=False)
    return list(result.survivors.values()), list(result.unmatched)


def test_layers_are_matched_by_where_they_are():
    one, other = automatic(deep=3), automatic(deep=3)
    names = [s.name for s in tfprune.find_structures(other)]
    keep = {n: np.arange(32) < k for n, k in zip(names, (8, 9, 10), strict=True)}
    result = tfprune.compare(one, tfprune.rebuild(other, keep=keep), latency=False)
    assert result.survivors == {
        s.name: (left, 32) for s, left in zip(tfprune.find_structures(one), (8, 9, 10), strict=True)
    }
    # A layer emptied anywhere, of the model itself and of its twin. In a chain those behind it go
    # too, since they are fed by a constant.
    for index in range(3):
        keep = {n: np.arange(32) < (0 if i == index else 4 + i) for i, n in enumerate(names)}
        expected = [(4 + i if i < index else 0, 32) for i in range(3)]
        small = tfprune.rebuild(other, keep=keep)
        assert survivors(other, small) == (expected, [])
        found, unmatched = survivors(one, small)
        assert found == expected or unmatched, (index, found, unmatched)
    assert survivors(other, tfprune.rebuild(other)) == ([(32, 32)] * 3, [])


def test_inner_models_and_keras_hub_are_matched_by_where_they_are():
    import keras_hub

    def make():
        x = keras.Input((4, 8))
        y = keras_hub.layers.TransformerEncoder(12, 2)(x)
        y = keras_hub.layers.TransformerEncoder(12, 2)(y)
        inner = keras.Sequential([keras.Input((4, 8)), layers.Dense(6, "relu"), layers.Dense(8)])
        return keras.Model(x, layers.Dense(2)(inner(y)))

    one, other = make(), make()
    names = [s.name for s in tfprune.find_structures(other)]
    assert len(names) == 6  # The last one goes from the inner model into the outer one.
    lefts = [0, 3, 1, 12, 2, 5]
    groups = [s.groups for s in tfprune.find_structures(other)]
    keep = {n: np.arange(g) < k for n, g, k in zip(names, groups, lefts, strict=True)}
    small = tfprune.rebuild(other, keep=keep)
    for model in (one, other):
        assert survivors(model, small) == (list(zip(lefts, groups, strict=True)), [])


def test_what_cannot_be_matched_is_not_said_to_be_gone():
    x = keras.Input((8,))
    models = []
    for name in ("one", "other"):
        y = layers.Dense(6, "relu", name=name)(x)
        models.append(keras.Model(x, layers.Dense(1, name=f"{name}_out")(y)))
    result = tfprune.compare(*models, latency=False)
    text = " ".join(str(result).split())
    assert "Nothing is left" not in text and not result.survivors
    assert "Not matched: other (only in the model after), one (only in the model before)." in text
    assert set(json.loads(json.dumps(result.to_dict()))["unmatched"]) == {"one", "other"}


@pytest.mark.parametrize(
    "shape, outputs, what",
    [((9,), 1, "inputs"), ((8,), 2, "outputs"), ((8, 8), 1, "inputs")],
)
def test_unrelated_models(shape, outputs, what):
    inputs = keras.Input(shape)
    other = keras.Model(inputs, layers.Dense(outputs)(inputs))
    with pytest.raises(ValueError, match=f"`after` must be made from `before`, .* same {what}"):
        tfprune.compare(automatic(), other, latency=False)


@pytest.mark.parametrize("name", ["batch_size", "sequence_length", "threads"])
@pytest.mark.parametrize("value", [0, -1, True, 1.5, "x", None])
def test_numbers_out_of_range(name, value):
    model = automatic()
    with pytest.raises(ValueError, match=f"`{name}` must be a positive integer"):
        tfprune.compare(model, model, latency=False, **{name: value})


@pytest.mark.parametrize("inputs", [np.ones((1, 8)), [], [1, 2], 3])
def test_inputs_of_another_form(inputs):
    model = automatic()
    with pytest.raises(ValueError, match="`inputs` must be a list of 1 array"):
        tfprune.compare(model, model, inputs=inputs)


def test_weights_that_are_not_finite():
    model, broken = automatic(), automatic()
    kernel = broken.layers[1].kernel
    kernel.assign(kernel * np.nan)
    with pytest.raises(ValueError, match="`after` must have finite weights. .*kernel"):
        tfprune.compare(model, broken, latency=False)
    with pytest.raises(ValueError, match="`before` must have finite weights"):
        tfprune.compare(broken, model, latency=False)
