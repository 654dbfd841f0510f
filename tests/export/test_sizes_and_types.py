"""Fixed sizes, and which types a LiteRT file holds."""

from contextlib import nullcontext

import keras
import numpy as np
import pytest
from keras import layers

import tfprune
from tests.models import noise, outputs, randomize, transformer
from tfprune.export import exporting
from tfprune.litert import Runner, operations

pytestmark = [pytest.mark.sampled, pytest.mark.tensorflow_only]


def file_of(model, tmp_path, **options):
    return tfprune.export(model, tmp_path / "m.tflite", **options)


def input_shape(path):
    (detail,) = Runner(path).details.values()
    return list(detail["shape_signature"])


def test_sizes_that_the_model_has_fixed_stay(tmp_path):
    x = keras.Input(batch_shape=(8, 4, 16), name="x")
    model = keras.Model(x, layers.Dense(1)(x + layers.MultiHeadAttention(2, 4)(x, x)))
    path = file_of(model, tmp_path)
    assert input_shape(path) == [8, 4, 16]
    assert "SHAPE" not in {operation.name for operation in operations(path)}
    given = noise(8, 4, 16)
    np.testing.assert_allclose(Runner(path).run([given])[0], outputs(model, given)[0], atol=1e-5)
    folder = tfprune.export(model, tmp_path / "saved")
    import tensorflow as tf

    (spec,) = (
        tf.saved_model.load(str(folder))
        .signatures["serving_default"]
        .structured_input_signature[1]
        .values()
    )
    assert spec.shape == (8, 4, 16)


@pytest.mark.parametrize(
    "sizes, shape",
    [
        ({}, [-1, -1, 8]),
        ({"batch_size": 1}, [1, -1, 8]),
        ({"batch_size": np.int64(2), "sequence_length": 6}, [2, 6, 8]),
    ],
)
def test_open_sizes_are_fixed_on_request(sizes, shape, tmp_path):
    model = randomize(transformer())
    path = file_of(model, tmp_path, **sizes)
    assert input_shape(path) == shape
    given = noise(*[n if n > 0 else 3 for n in shape])
    np.testing.assert_allclose(Runner(path).run([given])[0], outputs(model, given)[0], atol=1e-4)
    if len(sizes) == 2:
        assert "SHAPE" not in {operation.name for operation in operations(path)}


@pytest.mark.parametrize("cell", [layers.LSTM, layers.GRU])
def test_recurrent_layers_convert_with_a_fixed_batch(cell, tmp_path):
    x = keras.Input((8, 4))
    model = randomize(keras.Model(x, layers.Dense(1)(cell(8)(x))))
    with pytest.raises(
        ValueError, match="^With fixed sizes the model can be converted: pass batch_size=1"
    ):
        file_of(model, tmp_path)
    path = file_of(model, tmp_path, batch_size=1)
    given = noise(1, 8, 4)
    np.testing.assert_allclose(Runner(path).run([given])[0], outputs(model, given)[0], atol=1e-5)


def test_sizes_that_the_model_cannot_read(tmp_path):
    x = keras.Input((None,), dtype="int32")
    embedding = layers.Embedding(9, 4)(x) + layers.Embedding(8, 4)(keras.ops.arange(8))[None]
    model = keras.Model(x, embedding)
    with pytest.raises(ValueError, match="`sequence_length` must be sizes.*sequence_length=16"):
        file_of(model, tmp_path, sequence_length=16)
    for name in ("batch_size", "sequence_length"):
        with pytest.raises(ValueError, match=f"`{name}` must be a positive integer"):
            file_of(model, tmp_path, **{name: 0})


def test_float16_halves_the_file(tmp_path):
    model = keras.Sequential([keras.Input((64,)), layers.Dense(256, "relu"), layers.Dense(64)])
    plain = file_of(model, tmp_path).stat().st_size
    path = file_of(model, tmp_path, quantize="float16")
    assert path.stat().st_size < 0.55 * plain
    given = noise(1, 64)
    np.testing.assert_allclose(Runner(path).run([given])[0], outputs(model, given)[0], atol=5e-3)


def perceptron():
    return randomize(
        keras.Sequential([keras.Input((8,), name="x"), layers.Dense(16, "relu"), layers.Dense(4)])
    )


DATA = noise(64, 8)


@pytest.mark.parametrize("integer_io", [False, True])
def test_int8_inputs_and_outputs(integer_io, tmp_path):
    model = perceptron()
    path = file_of(
        model, tmp_path, quantize="int8", representative_data=DATA, integer_io=integer_io
    )
    runner = Runner(path)
    (detail,) = runner.details.values()
    assert detail["dtype"] == (np.int8 if integer_io else np.float32)
    want = outputs(model, DATA)[0]
    got = np.concatenate([runner.run([row[None]])[0] for row in DATA])
    assert np.sqrt(np.mean((got - want) ** 2)) < 0.05 * want.std()
    if integer_io:  # By hand, as on a device.
        scale, zero = detail["quantization"]
        q = np.clip(np.round(DATA[:1] / scale) + zero, -128, 127).astype("int8")
        np.testing.assert_array_equal(runner.run([q])[0], got[:1])


@pytest.mark.parametrize("fixed_by", ["model", "argument"])
def test_int8_with_batches_of_a_fixed_size(fixed_by, tmp_path):
    """20 examples are three batches of 8, the last one filled up from the first."""
    model = keras.Sequential([keras.Input((4, 8), batch_size=8 if fixed_by == "model" else None)])
    model.add(layers.Reshape((32,)))
    model.add(layers.Dense(6, "relu"))
    model = keras.Model(
        model.inputs[0], layers.Concatenate()([model.outputs[0], layers.Flatten()(model.inputs[0])])
    )
    options = {} if fixed_by == "model" else {"batch_size": 8}
    data = noise(20, 4, 8)
    path = file_of(model, tmp_path, quantize="int8", representative_data=data, **options)
    want = outputs(model, data[:8])[0]
    np.testing.assert_allclose(Runner(path).run([data[:8]])[0], want, atol=0.05)
    if fixed_by == "argument":
        mixed = [noise(4, 4, 8), noise(4, 4, 8)]
        file_of(model, tmp_path, quantize="int8", representative_data=mixed, **options)


def test_examples_of_several_sizes_are_no_batch(tmp_path):
    x = keras.Input((None, 8))
    model = keras.Model(x, layers.Dense(2)(x))
    data = [noise(1, 4, 8), noise(1, 6, 8)]
    with pytest.raises(ValueError, match="examples of one size.*pass batch_size=1"):
        file_of(model, tmp_path, quantize="int8", representative_data=data, batch_size=2)
    assert file_of(model, tmp_path, quantize="int8", representative_data=data).exists()


def test_int8_attention_with_masked_scores_as_low_as_keras_has_them_is_refused(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(exporting, "masked_scores_in_range", lambda *_: nullcontext())
    x = keras.Input((12, 16))
    y = layers.MultiHeadAttention(4, 8)(x, x, use_causal_mask=True)
    model, data = keras.Model(x, layers.Dense(4)(y)), noise(64, 12, 16)
    with pytest.raises(ValueError, match="differs from Keras"):
        file_of(model, tmp_path, quantize="int8", representative_data=data, batch_size=1)


@pytest.mark.parametrize(
    "make, dropout",
    [(make, dropout) for make in ("heads", "grouped", "mask") for dropout in (0.0, 0.1)]
    + [("softmax", 0.0)],
)
def test_int8_attention_with_a_mask(make, dropout, tmp_path):
    """Scores keep their steps: with masked ones at -1e9 all others were equal."""
    x = keras.Input((12, 16))
    if make == "grouped":
        attention = layers.GroupQueryAttention(8, 4, 2, dropout=dropout)
        y = attention(x, x, use_causal_mask=True)
    elif make == "softmax":
        scores = layers.Dot((2, 2))([x, layers.Dense(16)(x)])
        mask = np.tril(np.ones((1, 12, 12), bool))
        y = layers.Dot((2, 1))([layers.Softmax()(scores, mask=mask), x])
    else:
        attention = layers.MultiHeadAttention(4, 8, dropout=dropout)
        is_causal = make == "heads"
        mask = None if is_causal else np.arange(12)[None, None] < np.arange(1, 13)[None, :, None]
        y = attention(x, x, use_causal_mask=is_causal, attention_mask=mask)
    model, data = keras.Model(x, layers.Dense(4)(y)), noise(64, 12, 16)
    path = file_of(model, tmp_path, quantize="int8", representative_data=data, batch_size=1)
    runner, want = Runner(path), outputs(model, data[:8])[0]
    got = np.concatenate([runner.run([data[i : i + 1]])[0] for i in range(8)])
    assert np.abs(got - want).mean() < 0.05 * want.std()


@keras.saving.register_keras_serializable("tests")
class Tokens(keras.Model):
    """Reads numbers of tokens."""

    def __init__(self, **options):
        super().__init__(**options)
        self.embedding = layers.Embedding(50, 8)
        self.out = layers.Dense(3)

    def call(self, tokens):
        return self.out(self.embedding(tokens))


@pytest.mark.parametrize("batches", [False, True])
def test_integer_inputs_of_a_subclassed_model(batches, tmp_path):
    model, x = Tokens(), np.arange(12, dtype="int32").reshape(2, 6)
    model(x)
    path = file_of(model, tmp_path, representative_data=[x, x] if batches else x)
    (detail,) = Runner(path).details.values()
    assert detail["dtype"] is np.int32
    np.testing.assert_allclose(Runner(path).run([x])[0], outputs(model, x)[0], atol=1e-5)
    path = file_of(model, tmp_path)
    assert next(iter(Runner(path).details.values()))["dtype"] is np.float32


def test_pictures_of_integers_leave_a_subclassed_model_its_type(tmp_path):
    class Pictures(keras.Model):
        def __init__(self):
            super().__init__()
            self.first = layers.Conv2D(4, 3)
            self.out = layers.Dense(2)

        def call(self, x):
            return self.out(layers.Flatten()(self.first(x)))

    model, x = Pictures(), np.arange(64, dtype="uint8").reshape(4, 4, 4, 1)
    model(x.astype("float32"))
    path = file_of(model, tmp_path, representative_data=x)
    assert next(iter(Runner(path).details.values()))["dtype"] is np.float32


STRICT = {"quantize": "int8", "representative_data": DATA, "strict": True}


@pytest.mark.parametrize("between", [layers.ReLU, layers.BatchNormalization])
def test_strict_files_have_integers_alone(between, tmp_path):
    stack = [keras.Input((8,), name="x"), layers.Dense(16), between(), layers.Dense(4)]
    path = file_of(randomize(keras.Sequential(stack)), tmp_path, integer_io=True, **STRICT)
    assert {t for operation in operations(path) for t in operation.types} <= {np.int8, np.int32}


def test_strict_names_what_would_stay_float_and_the_layers_that_bring_it(tmp_path):
    x = keras.Input((8,), name="x")
    norm = layers.LayerNormalization(name="norm")
    h = keras.Sequential([keras.Input((8,)), norm], name="inner")(x)
    # As TensorFlow would call the operations of a layer with the name `norm`.
    h = -layers.Dense(16)(layers.LayerNormalization(name="norm_1")(h))
    model = keras.Model(x, layers.Dense(4)(layers.RMSNormalization(name="rms")(h)))
    with pytest.raises(ValueError) as error:
        file_of(model, tmp_path, **STRICT)
    assert (
        "stay float: NEG in LayerNormalization 'inner/norm', 'norm_1' and elsewhere; "
        "SQUARE in RMSNormalization 'rms'. It was not written."
    ) in str(error.value)
    assert "leave `strict` out, or pass quantize='dynamic_int8'" in str(error.value)
    assert not list(tmp_path.iterdir())
    assert file_of(model, tmp_path, quantize="dynamic_int8").exists()


def test_strict_names_the_layers_of_a_subclassed_model_and_a_few_of_many(tmp_path):
    class Normed(keras.Model):
        def __init__(self):
            super().__init__()
            self.all = [layers.LayerNormalization(name=f"norm_{i}") for i in range(5)]
            self.last = layers.Dense(2)

        def call(self, x):
            for layer in self.all:
                x = layer(x)
            return self.last(x)

    model = Normed()
    model(DATA)
    want = "NEG in LayerNormalization 'norm_0', 'norm_1', 'norm_2', … \\(5 in all\\). It was"
    with pytest.raises(ValueError, match=want):
        file_of(model, tmp_path, **STRICT)


@pytest.mark.parametrize(
    "data",
    [
        lambda: DATA,
        lambda: {"x": DATA},
        lambda: [DATA],
        lambda: [DATA[:32], DATA[32:]],
        lambda: [{"x": DATA[:32]}, {"x": DATA[32:]}],
        lambda: (batch for batch in (DATA[:32], DATA[32:])),
        lambda: lambda: (batch for batch in (DATA[:32], DATA[32:])),
        lambda: lambda: DATA,
    ],
)
def test_representative_data_in_every_form(data, tmp_path):
    from tfprune.export.quantizing import examples_of

    found = examples_of(keras.Model(*_ends(perceptron())), data())
    np.testing.assert_array_equal(np.concatenate([x for (x,) in found]), DATA)


def _ends(model):
    return model.inputs[0], model.outputs[0]


@pytest.mark.parametrize(
    ("data", "received"),
    [
        (lambda: (DATA, DATA[:, :4]), r"x alone. Received: 2, of the shapes \(64, 8\), \(64, 4\)"),
        (lambda: [(DATA, DATA[:, :4])], "of `\\(x, y\\)` give x alone. Received: 2"),
        (
            lambda: DATA.tolist(),
            "hold arrays. Received: list that holds float; `numpy.asarray`",
        ),
        (lambda: (DATA.tolist(),), "must hold arrays. Received: tuple that holds float"),
    ],
)
def test_representative_data_are_arrays_of_the_inputs_alone(data, received, tmp_path):
    with pytest.raises(ValueError, match=received):
        file_of(perceptron(), tmp_path, quantize="int8", representative_data=data())


def test_a_loop_cannot_be_calibrated(tmp_path):
    """The converter would end the process."""
    x = keras.Input(batch_shape=(1, 8, 4))
    model = keras.Model(x, layers.Dense(1)(layers.LSTM(8)(x)))
    with pytest.raises(ValueError, match="with loops.*Received: quantize='int8'"):
        file_of(model, tmp_path, quantize="int8", representative_data=noise(4, 8, 4))
    assert file_of(model, tmp_path, quantize="dynamic_int8").exists()


@pytest.mark.parametrize("name", ["integer_io", "strict"])
def test_what_is_for_int8_alone(name, tmp_path):
    with pytest.raises(ValueError, match=f"`{name}` is for quantize='int8'"):
        file_of(perceptron(), tmp_path, **{name: True})
    with pytest.raises(ValueError, match=f"`{name}` must be one of"):
        file_of(perceptron(), tmp_path, **{name: "x"})


@keras.saving.register_keras_serializable("tests_export")
class Windows(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.last = layers.Dense(2)

    def call(self, sensor):
        if isinstance(sensor, dict):
            sensor = sensor["left"] + sensor["right"]
        return self.last(sensor)


def names(path):
    return set(Runner(path).details)


def test_inputs_that_nobody_named_have_the_same_name_in_every_file(tmp_path):
    alone, two = Windows(), Windows()
    alone(noise(2, 4))
    two({"left": noise(2, 4), "right": noise(2, 4)})
    for _ in range(2):
        assert names(file_of(alone, tmp_path)) == {"sensor"}
        assert names(file_of(two, tmp_path)) == {"sensor_left", "sensor_right"}
        plain = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
        assert names(file_of(plain, tmp_path)) == {"inputs"}
        a, b, c = keras.Input((4,)), keras.Input((4,), name="inputs_0"), keras.Input((4,))
        model = keras.Model([b, a, c], layers.Dense(2)(a - b + c))
        assert names(file_of(model, tmp_path)) == {"inputs_0", "inputs_1", "inputs_2"}
    given = {f"inputs_{i}": noise(1, 4, seed=i) for i in range(3)}
    runner = Runner(tmp_path / "m.tflite", list(given))
    (file,) = runner.run(list(given.values()))
    np.testing.assert_allclose(file, model.predict(list(given.values()), verbose=0), atol=1e-5)


def test_a_model_may_have_the_name_of_its_input(tmp_path):
    x = keras.Input((4,), name="x")
    model = keras.Model(x, layers.Dense(2)(x), name="x")
    assert names(file_of(model, tmp_path)) == {"x"}
    (file,) = Runner(tmp_path / "m.tflite").run([noise(1, 4)])
    np.testing.assert_allclose(file, model.predict(noise(1, 4), verbose=0), atol=1e-5)
    assert model.name == "x" and model.get_config()["name"] == "x"
