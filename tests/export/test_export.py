import warnings
from types import SimpleNamespace

import keras
import numpy as np
import pytest

import tfprune
from tests.models import kill, noise, outputs, randomize, transformer
from tfprune.export import exporting
from tfprune.export.full_precision import in_full_precision
from tfprune.litert import Runner

pytestmark = [pytest.mark.sampled, pytest.mark.tensorflow_only]


def test_float_file_computes_the_same(tmp_path):
    model = randomize(transformer())
    path = tfprune.export(model, tmp_path / "m.tflite")
    x = noise(2, 5, 8)
    (got,) = Runner(path).run([x])
    np.testing.assert_allclose(got, outputs(model, x)[0], rtol=1e-3, atol=1e-4)


def test_saved_model_computes_the_same(tmp_path):
    import tensorflow as tf

    model = randomize(transformer())
    tfprune.export(model, tmp_path / "saved")
    tfprune.export(model, tmp_path / "saved")  # Again: the old one is replaced.
    x = noise(2, 5, 8)
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    got = loaded.serve(x)
    np.testing.assert_allclose(got, outputs(model, x)[0], rtol=1e-3, atol=1e-4)


def test_int8_files_are_smaller_and_close(tmp_path):
    x = keras.Input((16, 64))
    y = keras.layers.Dense(256, "relu")(x)
    model = randomize(keras.Model(x, keras.layers.Dense(64)(y)), scale=0.1)
    sizes = {}
    data = noise(20, 16, 64)
    for quantize in (None, "dynamic_int8", "int8"):
        path = tmp_path / f"{quantize}.tflite"
        tfprune.export(model, path, quantize, representative_data=data)
        sizes[quantize] = path.stat().st_size
        (got,) = Runner(path).run([data[:1]])
        want = outputs(model, data[:1])[0]
        assert np.abs(got - want).max() < 0.05 * np.abs(want).max()
    assert sizes["dynamic_int8"] < 0.4 * sizes[None]
    assert sizes["int8"] < 0.4 * sizes[None]


def test_emptied_sublayers_export_with_open_lengths(tmp_path):
    model = randomize(transformer())
    kill(model, lambda s: np.ones(s.groups, bool))
    small = tfprune.rebuild(model)
    runner = Runner(tfprune.export(small, tmp_path / "m.tflite"))
    for length in (5, 9, 3):
        x = noise(1, length, 8)
        np.testing.assert_allclose(runner.run([x])[0], outputs(model, x)[0], rtol=1e-3, atol=1e-4)


def test_several_inputs_and_outputs(tmp_path):
    ids, x = keras.Input((4,), dtype="int32", name="ids"), keras.Input((4, 3), name="x")
    y = keras.layers.Embedding(9, 3)(ids) + x
    model = randomize(keras.Model({"x": x, "ids": ids}, [y, keras.layers.Dense(2)(y)]))
    path = tfprune.export(model, tmp_path / "m.tflite")
    runner = Runner(path, [t.name for t in model.inputs])
    given = {"ids": np.array([[1, 2, 3, 8]]), "x": noise(1, 4, 3)}
    got = runner.run([given[n] for n in runner.names])
    want = {a.shape: a for a in outputs(model, given)}
    for array in got:
        np.testing.assert_allclose(array, want[array.shape], rtol=1e-4, atol=1e-5)


def test_sequential_models(tmp_path):
    model = keras.Sequential([keras.Input((None, 3)), keras.layers.Dense(2)])
    x = noise(1, 5, 3)
    (got,) = Runner(tfprune.export(model, tmp_path / "m.tflite")).run([x])
    np.testing.assert_allclose(got, outputs(model, x)[0], rtol=1e-4, atol=1e-5)
    assert tfprune.count_flops(model, sequence_length=4) == 2 * 4 * 3 * 2


def test_models_with_few_positions(tmp_path):
    keras_hub = pytest.importorskip("keras_hub")
    ids = keras.Input((None,), dtype="int32")
    x = keras_hub.layers.TokenAndPositionEmbedding(9, 6, 4)(ids)
    model = randomize(keras.Model(ids, keras.layers.Dense(2)(x)))
    (got,) = Runner(tfprune.export(model, tmp_path / "m.tflite")).run([np.array([[1, 2, 8]])])
    np.testing.assert_allclose(got, outputs(model, np.array([[1, 2, 8]]))[0], rtol=1e-4, atol=1e-5)


class Doubled(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(4, "relu")
        self.out = keras.layers.Dense(2)

    def call(self, x, scale=2.0):
        return scale * self.out(self.dense(x))


def test_subclassed_models(tmp_path):
    model = Doubled()
    x = noise(2, 5, 3)
    want = outputs(model, x)[0]
    (got,) = Runner(tfprune.export(model, tmp_path / "m.tflite")).run([x])
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    assert tfprune.measure_latency(model, runs=2).median > 0
    assert tfprune.count_flops(model, batch_size=1) == 2 * 5 * (3 * 4 + 4 * 2)

    class Two(Doubled):
        def call(self, x, y):
            return super().call(x) + super().call(y)

    two = Two()
    two(x, x)
    with pytest.raises(ValueError, match=r"Wrap it: inputs = keras.Input"):
        tfprune.export(two, tmp_path / "two.tflite")


def test_bad_arguments_write_nothing(tmp_path):
    model = transformer()
    path = tmp_path / "m.tflite"
    for options, message in (
        ({"quantize": "int4"}, "`quantize` must be one of"),
        ({"quantize": "int8"}, "`representative_data` is needed"),
        ({"quantize": "int8", "representative_data": noise(2, 3, 5)}, r"shape \(None, None, 8\)"),
        ({"quantize": "int8", "representative_data": np.zeros((0, 3, 8))}, "at least one example"),
        ({"quantize": "int8", "representative_data": np.array([[["a"] * 8]])}, "dtype"),
    ):
        with pytest.raises(ValueError, match=message):
            tfprune.export(model, path, **options)
    with pytest.raises(ValueError, match="end `path` in '.tflite'"):
        tfprune.export(model, tmp_path / "saved", "dynamic_int8")
    with pytest.raises(ValueError, match="`model` must be a Keras model"):
        tfprune.export("model", path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="which is a file"):
        tfprune.export(model, tmp_path / "file")
    with pytest.raises(ValueError, match="must be writable"):
        tfprune.export(model, tmp_path / "file" / "m.tflite")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]


def test_a_failure_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m.tflite"
    path.write_text("old")
    x = keras.Input((4,))
    broken = keras.Model(x, keras.ops.log(0 * x))  # What it computes is not finite.
    with pytest.raises(ValueError, match="not finite"):
        tfprune.export(broken, path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["m.tflite"]


def test_flex_operations_are_refused(tmp_path):
    x = keras.Input((4,))
    model = keras.Model(x, keras.ops.linalg.inv(keras.ops.reshape(x, (-1, 2, 2))))
    with pytest.raises(ValueError, match="Flex"):
        tfprune.export(model, tmp_path / "m.tflite")
    assert list(tmp_path.iterdir()) == []


def test_float64_is_named_as_the_cause(tmp_path, capfd):
    x = keras.Input((4, 8))
    y = keras.layers.Dense(8)(x)
    scores = keras.ops.softmax(keras.ops.matmul(y, keras.ops.swapaxes(y, 1, 2)) / np.sqrt(8))
    with pytest.raises(ValueError, match=r"computes in float64.*Softmax.*np\.sqrt\(8\)"):
        tfprune.export(keras.Model(x, keras.ops.matmul(scores, y)), tmp_path / "m.tflite")
    assert "callsite" not in capfd.readouterr().err


def test_other_backends_are_told_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match="KERAS_BACKEND=tensorflow"):
        tfprune.export(transformer(), tmp_path / "m.tflite")


def augmenting(sequential):
    parts = [keras.layers.RandomFlip(), keras.layers.Flatten(), keras.layers.Dropout(0.5)]
    if sequential:
        return keras.Sequential([keras.Input((4, 4, 3)), *parts])
    x = inputs = keras.Input((4, 4, 3))
    for layer in parts:
        x = layer(x)
    return keras.Model(inputs, x)


@pytest.mark.parametrize("sequential", [True, False])
def test_augmentation_is_off_in_a_saved_model(tmp_path, sequential):
    import tensorflow as tf

    loaded = tf.saved_model.load(
        str(tfprune.export(augmenting(sequential), tmp_path / "saved_model"))
    )
    x = noise(8, 4, 4, 3)
    np.testing.assert_array_equal(loaded.serve(x), x.reshape(8, -1))


@pytest.mark.parametrize("name", ["m.TFLITE", "m.keras", "m.h5"])
def test_a_path_that_looks_like_another_kind_of_file_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"`path` must end in '.tflite'"):
        tfprune.export(randomize(transformer()), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_folder_with_other_files_is_refused_and_untouched(tmp_path):
    (tmp_path / "notes.txt").write_text("years of work")
    with pytest.raises(ValueError, match=r"which holds notes\.txt"):
        tfprune.export(randomize(transformer()), tmp_path)
    folder = tfprune.export(randomize(transformer()), tmp_path / "saved")
    (folder / "notes.txt").write_text("years of work")
    with pytest.raises(ValueError, match="which holds"):
        tfprune.export(randomize(transformer()), folder)
    assert (tmp_path / "notes.txt").exists() and (folder / "notes.txt").exists()


class Wrong:
    """Runs a LiteRT file and changes one output, at certain inputs."""

    def __init__(self, output, above):
        self.output, self.above = f"output_{output}", above

    def __call__(self, path, names):
        runner = Runner(path, names)

        def run(arrays):
            values = runner.run_by_name(arrays)
            if arrays[0].max() > self.above:
                values[self.output] = values[self.output] + 1.0
            return values

        return SimpleNamespace(run_by_name=run)


@pytest.mark.parametrize("output", [0, 1])
@pytest.mark.parametrize("above", [-1, 1])  # Always; for tokens other than 0 and 1 alone.
def test_every_output_is_checked_on_tokens_of_the_whole_vocabulary(
    tmp_path, monkeypatch, output, above
):
    ids = keras.Input((6,), dtype="int32")
    segments = keras.Input((6,), dtype="int32")
    x = keras.layers.Embedding(50, 4)(ids) + keras.layers.Embedding(2, 4)(segments)
    outs = [keras.layers.Dense(3)(x), keras.layers.Dense(3)(x)]
    model = randomize(keras.Model([ids, segments], outs))
    assert tfprune.export(model, tmp_path / "right.tflite").exists()
    monkeypatch.setattr("tfprune.litert.Runner", Wrong(output, above))
    with pytest.raises(ValueError, match="differs from Keras by"):
        tfprune.export(model, tmp_path / "wrong.tflite")
    assert not (tmp_path / "wrong.tflite").exists()


def test_value_ranges_that_litert_takes_in_no_kernel(tmp_path):
    hidden, last = keras.layers.Dense(8, "relu6"), keras.layers.Dense(2)
    model = keras.Sequential([keras.Input((4,)), hidden, keras.layers.Dense(8, "relu6"), last])
    hidden.kernel.assign(1e-12 * hidden.kernel)
    last.kernel.assign(1e12 * last.kernel)
    path = tmp_path / "m.tflite"
    with pytest.raises(ValueError, match="XNNPACK.*next to nothing.*dynamic_int8"):
        tfprune.export(model, path, "int8", noise(16, 4), batch_size=1)
    assert not path.exists()


@pytest.mark.parametrize(
    "shape, layer, says",
    [
        ((32,), lambda: keras.layers.Dense(31), True),  # Fewer than 1,024 numbers.
        ((32,), lambda: keras.layers.Dense(32), False),
        ((6, 6, 6, 8), lambda: keras.layers.Conv3D(16, 3), True),
        ((5, 4), lambda: keras.layers.GRU(64), False),  # In the loop.
    ],
)
def test_a_file_in_which_nothing_became_int8_is_said(shape, layer, says, tmp_path):
    model = keras.Sequential([keras.Input(shape, batch_size=1), layer()])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        path = tfprune.export(model, tmp_path / "m.tflite", "dynamic_int8")
    assert any("has changed nothing" in str(w.message) for w in caught) == says
    plain = tfprune.export(model, tmp_path / "plain.tflite")
    assert (path.stat().st_size == plain.stat().st_size) == says


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("quantize", [None, "dynamic_int8"])
def test_a_model_of_mixed_precision_computes_in_float32_in_a_file(policy, quantize, tmp_path):
    """LiteRT has no matrix products in half precision."""
    model = randomize(transformer())
    config = model.get_config()
    keras.config.set_dtype_policy(policy)
    try:
        mixed = randomize(transformer())
    finally:
        keras.config.set_dtype_policy("float32")
    assert mixed.layers[-1].compute_dtype == policy.removeprefix("mixed_")
    path = tfprune.export(mixed, tmp_path / "m.tflite", quantize)
    x = noise(2, 5, 8)
    want = outputs(model, x)[0]
    tolerance = 0.02 * np.abs(want).max() if quantize else 1e-4
    np.testing.assert_allclose(Runner(path).run([x])[0], want, atol=tolerance)
    assert mixed.layers[-1].compute_dtype == policy.removeprefix("mixed_")
    assert mixed.dtype_policy.name == policy and config == model.get_config()


def test_policies_come_back_whatever_happens():
    """A map of policies is shared, and a quantized layer's policy says how its kernel is read."""
    policies = keras.dtype_policies.DTypePolicyMap("mixed_bfloat16")
    x = keras.Input((8,))
    y = keras.layers.Dense(16, "relu", dtype=policies, name="mapped")(x)
    y = keras.layers.Dense(4, dtype="mixed_bfloat16", name="quantized")(y)
    model = randomize(keras.Model(x, y))
    model.get_layer("quantized").quantize("int8")
    before = {layer.name: layer.compute_dtype for layer in model.layers}
    given = noise(3, 8)
    want = outputs(model, given)[0]
    with pytest.raises(RuntimeError, match="stop"), in_full_precision(model):
        assert model.get_layer("mapped").compute_dtype == "float32"
        assert model.get_layer("quantized").compute_dtype == "bfloat16"
        np.testing.assert_allclose(outputs(model, given)[0], want, atol=0.05)
        raise RuntimeError("stop")
    assert {layer.name: layer.compute_dtype for layer in model.layers} == before
    assert not len(policies)


def test_a_saved_model_in_half_precision_is_checked_by_its_own_policy(tmp_path, monkeypatch):
    def small():
        inputs = keras.Input((4,))
        return randomize(keras.Model(inputs, keras.layers.Dense(3, dtype="float32")(inputs)))

    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = small()
    finally:
        keras.config.set_dtype_policy("float32")
    serve = exporting.serve_by_name

    def rounded(*args):
        run = serve(*args)
        return lambda arrays: {name: a + 0.003 for name, a in run(arrays).items()}

    monkeypatch.setattr(exporting, "serve_by_name", rounded)
    assert tfprune.export(model, tmp_path / "half").exists()
    with pytest.raises(ValueError, match="differs from Keras by"):
        tfprune.export(small(), tmp_path / "full")


@pytest.mark.parametrize("name", ["model.tflite", "model"])
def test_weights_that_are_not_finite_are_refused(name, tmp_path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="dense")])
    model.layers[0].bias.assign([0.0, float("nan")])
    with pytest.raises(ValueError, match="`model` must have finite weights.*dense/bias"):
        tfprune.export(model, tmp_path / name)
    assert not list(tmp_path.iterdir())
