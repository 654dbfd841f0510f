"""Files that compute something else than their model are not written."""

import keras
import numpy as np
import pytest
from keras import layers

import tfprune
from tests.models import noise, outputs, randomize
from tfprune.export import exporting
from tfprune.export.checking import accepted_inputs
from tfprune.export.comparing import FLOAT, QUANTIZED, difference
from tfprune.export.inputs import at_inference
from tfprune.litert import Runner

pytestmark = [pytest.mark.sampled, pytest.mark.tensorflow_only]


def two_outputs(dictionary=False):
    x = keras.Input((6,))
    y = layers.Dense(12, "relu", name="inner")(x)
    parts = [layers.Dense(3, name="first")(y), layers.Dense(3, name="second")(y)]
    outs = {"b": parts[0], "a": parts[1]} if dictionary else parts
    return randomize(keras.Model(x, outs))


def swapped(model):
    outs = model.output
    wrong = {"b": outs["a"], "a": outs["b"]} if isinstance(outs, dict) else outs[::-1]
    return keras.Model(model.input, wrong)


def zeroed(model, layer="inner"):
    wrong = keras.models.clone_model(model)
    wrong.set_weights(model.get_weights())
    wrong.get_layer(layer).kernel.assign(0 * wrong.get_layer(layer).kernel)
    return wrong


def tamper(monkeypatch, change):
    """The conversion is given another model than the one that is checked."""
    convert, save = exporting.convert, exporting.save
    monkeypatch.setattr(exporting, "convert", lambda m, *rest: convert(change(m), *rest))
    monkeypatch.setattr(exporting, "save", lambda m, *rest: save(change(m), *rest))


# What happens to the model, and what the reason says.
WRONG = {
    "swapped": (swapped, "Output '(output_0|a|b)' of the file differs from Keras"),
    "zeroed": (lambda m: zeroed(at_root(m)), "of the file differs from Keras"),
    "missing": (lambda m: keras.Model(m.input, {"other": first_of(m)}), "has no output '"),
    "wider": (lambda m: keras.Model(m.input, wider(m)), r"has the shape \(1, 6\) instead of"),
}


def at_root(model):
    """The model inside the one that is made around it for inference."""
    return next(layer for layer in model.layers if isinstance(layer, keras.Model))


def first_of(model):
    return keras.tree.flatten(model.output)[0]


def wider(model):
    return keras.tree.map_structure(lambda t: layers.Concatenate()([t, t]), model.output)


@pytest.mark.parametrize("name", ["m.tflite", "saved"])
@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("dictionary", [False, True])
def test_wrong_files_are_not_written(tmp_path, monkeypatch, name, wrong, dictionary):
    change, message = WRONG[wrong]
    tamper(monkeypatch, change)
    with pytest.raises(ValueError, match=message):
        tfprune.export(two_outputs(dictionary), tmp_path / name)
    assert not list(tmp_path.iterdir())


def dense(activation=None):
    x = keras.Input((16,))
    return keras.Model(x, layers.Dense(4, activation)(layers.Dense(32, "relu", name="inner")(x)))


def convolutional():
    x = keras.Input((8, 8, 3))
    y = layers.MaxPooling2D()(layers.Conv2D(8, 3, activation="relu", name="inner")(x))
    return keras.Model(x, layers.Dense(3, "softmax")(layers.Flatten()(y)))


def tokens():
    ids = keras.Input((8,), dtype="int32")
    x = layers.Embedding(50, 16)(ids)
    y = layers.LayerNormalization()(x)
    x = x + layers.MultiHeadAttention(2, 8)(y, y)
    x = x + layers.Dense(16)(layers.Dense(32, "gelu", name="inner")(layers.LayerNormalization()(x)))
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return keras.Model(ids, layers.Dense(3)(x))


MODELS = {
    "dense": dense,
    "sigmoid": lambda: dense("sigmoid"),
    "convolutional": convolutional,
    "tokens": tokens,
}


@pytest.mark.parametrize("quantize", ["dynamic_int8", "int8"])
@pytest.mark.parametrize("kind", MODELS)
def test_quantized_files_are_compared_too(tmp_path, monkeypatch, kind, quantize):
    model = MODELS[kind]()
    data = np.concatenate([a for (a,) in accepted_inputs(at_inference(model), 24)])
    assert tfprune.export(model, tmp_path / "right.tflite", quantize, data).exists()
    tamper(monkeypatch, lambda m: zeroed(at_root(m)))
    with pytest.raises(ValueError, match="'output_0' of the file differs from Keras") as error:
        tfprune.export(model, tmp_path / "wrong.tflite", quantize, data)
    assert ("quantize='dynamic_int8' computes in float" in str(error.value)) == (quantize == "int8")
    assert not (tmp_path / "wrong.tflite").exists()


def test_swapped_outputs_of_quantized_files_are_found(tmp_path, monkeypatch):
    tamper(monkeypatch, swapped)
    with pytest.raises(ValueError, match="'output_0' of the file differs"):
        tfprune.export(two_outputs(), tmp_path / "m.tflite", "dynamic_int8")


@pytest.mark.parametrize("name", ["m.tflite", "saved"])
def test_booleans_and_integers_are_checked(tmp_path, monkeypatch, name):
    def model(sign=1):
        x = keras.Input((4,))
        outs = [layers.Dense(2)(x), sign * x > 0, keras.ops.cast(10 * sign * x, "int32")]
        return keras.Model(x, [outs[1], outs[2]])

    assert tfprune.export(model(), tmp_path / name).exists()
    tamper(monkeypatch, lambda m: model(-1))
    with pytest.raises(ValueError, match="'output_0' of the file differs from Keras in .* %"):
        tfprune.export(model(), tmp_path / f"wrong_{name}")


def test_more_than_ten_outputs_come_in_their_order(tmp_path):
    x = keras.Input((4,))
    model = randomize(keras.Model(x, [layers.Dense(2)(x) for _ in range(12)]))
    data = noise(1, 4)
    got = Runner(tfprune.export(model, tmp_path / "m.tflite")).run([data])
    for value, want in zip(got, outputs(model, data), strict=True):
        np.testing.assert_allclose(value, want, rtol=1e-4, atol=1e-5)


def test_outputs_inside_others_are_refused(tmp_path):
    x = keras.Input((4,))
    model = keras.Model(x, [layers.Dense(2)(x), [layers.Dense(2)(x)]])
    with pytest.raises(ValueError, match="no place for lists inside others"):
        tfprune.export(model, tmp_path / "m.tflite")


def test_inputs_that_noise_does_not_suit(tmp_path):
    x = keras.Input((4,))
    logarithm = keras.Model(x, keras.ops.log(x))
    assert tfprune.export(logarithm, tmp_path / "m.tflite").exists()
    fixed = keras.Input(batch_shape=(3, 4))
    assert tfprune.export(keras.Model(fixed, 2 * fixed), tmp_path / "fixed.tflite").exists()


def test_differences():
    draw = np.random.default_rng(0)
    want = 100 + draw.normal(size=(8, 5)).astype("float32")  # It varies little.
    for allowed in (FLOAT, *QUANTIZED.values()):
        assert difference(want, want, allowed) is None
        assert "not finite" in difference(want, want * np.nan, allowed)
        assert difference(want, want[::-1] * 2, allowed).startswith("differs")
    assert difference(want, np.full_like(want, 100), FLOAT) == (
        f"differs from Keras by {np.abs(want - 100).max():.3g}"
    )
    one = want.copy()
    one[3, 2] += 0.1
    assert difference(want, one, FLOAT) and not difference(want, one, QUANTIZED["dynamic_int8"])
    small = 1e-5 * draw.normal(size=(8, 5))  # Nothing is too small to count.
    assert difference(small, 0 * small, FLOAT) and difference(small, 0 * small, QUANTIZED["int8"])
    assert difference(want[0:1], want[0:1] * 1.0001, QUANTIZED["int8"]) is None


def test_made_up_sentences_differ_as_real_ones_do():
    tokens = keras.Input((24,), dtype="int32")
    y = layers.Embedding(500, 8)(tokens)
    model = randomize(keras.Model(tokens, layers.GlobalAveragePooling1D()(y)))
    examples = [arrays[0] for arrays in accepted_inputs(model)]
    of_one = [array for array in examples if len(np.unique(array)) == 1]
    assert len(of_one) == 4 and len({int(array[0, 0]) for array in of_one}) == 4
    assert all(len(np.unique(array)) > 12 for array in examples[::2])


@pytest.mark.parametrize("name", ["m.tflite", "saved"])
def test_what_is_written_is_compared_on_the_data_that_are_given(tmp_path, monkeypatch, name):
    x = keras.Input((4,))
    y = layers.ReLU()(layers.Dense(4, bias_initializer=keras.initializers.Constant(-20))(x))
    model = randomize(keras.Model(x, layers.Dense(2, name="inner")(y)))
    model.layers[1].bias.assign([-20.0] * 4)  # Noise is too small to get through.
    tamper(monkeypatch, lambda m: zeroed(at_root(m)) if at_root(m).count_params() else m)
    path = tmp_path / name
    assert tfprune.export(model, path).exists()
    with pytest.raises(ValueError, match="differs from Keras by [^;]*; it was not written.$"):
        tfprune.export(model, path, representative_data=100 * noise(32, 4))


def test_what_rounding_weights_does_to_the_model_is_allowed(tmp_path):
    """Its outputs vary little, as those of a classifier that cannot tell."""
    x = keras.Input((16,))
    y = layers.Dense(256, "relu", name="inner")(x)
    model = randomize(keras.Model(x, layers.Dense(4)(y)), scale=0.01)
    model.layers[1].bias.assign([-100.0] + [5.0] * 255)
    after = noise(256, 4) - noise(256, 4).mean(axis=0)
    after[0] = 30.0  # Of a unit that is silent; the others are rounded to its eight bits.
    model.layers[2].kernel.assign(after)
    path = tfprune.export(model, tmp_path / "m.tflite", "dynamic_int8")
    data = noise(8, 16)
    apart = np.max(np.abs(Runner(path).run([data])[0] - outputs(model, data)))
    assert apart > 0.25 * np.std(outputs(model, data))  # More than is allowed else.


def test_the_error_says_on_what_was_compared(tmp_path, monkeypatch):
    tamper(monkeypatch, lambda m: zeroed(at_root(m)))
    with pytest.raises(ValueError, match="made-up inputs; `representative_data` compares it on"):
        tfprune.export(two_outputs(), tmp_path / "m.tflite")


def by_name_and_by_place():
    b, a = keras.Input((4,), name="b"), keras.Input((4,), name="a")
    y = layers.Dense(8, "relu")(b) / 100.0 + 100 * layers.Dense(8, "relu")(a)
    return keras.Model([b, a], layers.Dense(1)(y))


def test_representative_data_by_name_goes_to_the_input_of_that_name(tmp_path):
    model = by_name_and_by_place()
    a, b = noise(32, 4) * 0.01, noise(32, 4, seed=2) * 100
    given = {"list": [b, a], "names": {"a": a, "b": b}, "batches": iter([{"a": a, "b": b}])}
    files = [
        tfprune.export(model, tmp_path / f"{k}.tflite", "int8", d).read_bytes()
        for k, d in given.items()
    ]
    assert files[0] == files[1] == files[2]
    for wrong in ({"a": a}, {"a": a, "b": b, "c": b}, {"A": a, "b": b}):
        with pytest.raises(ValueError, match="must have the inputs 'b', 'a'. Received: '[aA]'"):
            tfprune.export(model, tmp_path / "m.tflite", "int8", wrong)
    with pytest.raises(ValueError, match=r"as many examples .* Received: \[3, 32\]"):
        tfprune.export(model, tmp_path / "m.tflite", "int8", [b, a[:3]])


def test_representative_data_by_the_keys_of_the_inputs(tmp_path):
    x, y = keras.Input((4,), name="x"), keras.Input((3,), name="y")
    model = keras.Model({"second": x, "first": y}, layers.Dense(2)(layers.Concatenate()([x, y])))
    data = {"second": noise(8, 4), "first": noise(8, 3)}
    assert tfprune.export(model, tmp_path / "m.tflite", "int8", data).exists()


def test_the_cause_of_a_failed_conversion_is_said(tmp_path):
    x = keras.Input((16,))
    quantized = keras.Model(x, layers.Dense(1)(layers.Dense(8, "relu")(x)))
    quantized.quantize("int8")
    with pytest.raises(ValueError, match=r"cannot make a LiteRT file[\s\S]*fully_connected"):
        tfprune.export(quantized, tmp_path / "m.tflite")
    x = keras.Input(batch_shape=(1, 8, 4))
    stateful = keras.Model(x, layers.Dense(1)(layers.LSTM(8, stateful=True, name="lstm")(x)))
    with pytest.raises(ValueError, match="`model` must keep nothing.*'lstm' is stateful"):
        tfprune.export(stateful, tmp_path / "m.tflite")
    x = keras.Input((4,))
    inverse = keras.Model(x, keras.ops.linalg.inv(keras.ops.reshape(x, (-1, 2, 2))))
    with pytest.raises(ValueError, match=r"\(Flex\): MatrixInverse\. Replace"):
        tfprune.export(inverse, tmp_path / "m.tflite")


def test_models_that_take_text(tmp_path):
    import tensorflow as tf

    text = keras.Input((1,), dtype="string", name="words")
    model = keras.Model(text, layers.StringLookup(vocabulary=["text", "b"])(text))
    with pytest.raises(ValueError, match="the input 'words' of strings"):
        tfprune.export(model, tmp_path / "m.tflite")
    loaded = tf.saved_model.load(str(tfprune.export(model, tmp_path / "saved")))
    np.testing.assert_array_equal(loaded.serve(tf.constant([["b"], ["text"]])), [[2], [1]])


def test_wrong_calls(tmp_path):
    with pytest.raises(ValueError, match="`path` must be a path.*Received: path=None"):
        tfprune.export(dense(), None)
    with pytest.raises(ValueError, match="`model` must be built"):
        tfprune.export(keras.Sequential([layers.Dense(2)]), tmp_path / "m.tflite")
    tf_keras = pytest.importorskip("tf_keras")
    old = tf_keras.Sequential([tf_keras.layers.Dense(2, input_shape=(3,))])
    with pytest.raises(ValueError, match="of tf_keras"):
        tfprune.export(old, tmp_path / "m.tflite")
