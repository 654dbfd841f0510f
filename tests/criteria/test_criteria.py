import keras
import numpy as np
import pytest
from keras import ops

import tfprune
from tests.models import assert_same, noise, outputs, randomize, transformer
from tfprune import criteria
from tfprune.criteria.examples import FirstExamples
from tfprune.gates import BlockScores, MovementScores, attach
from tfprune.overlay.folding import times
from tfprune.overlay.transforms import remove, transform_weight
from tfprune.structures import Slices, Structure, register_layer_kind

pytestmark = pytest.mark.sampled

X, Y = noise(6, 3, 8), noise(6, 3, 3, seed=2)


def grouped_query():
    inputs = keras.Input((None, 8))
    x = keras.layers.GroupQueryAttention(4, 4, 2, name="attention")(inputs, inputs)
    x = keras.layers.Dense(6, "gelu")(x)
    return keras.Model(inputs, keras.layers.Dense(3)(x))


class Mixture(keras.layers.Layer):
    """A mixture of experts, whose weights are not called kernels."""

    def __init__(self, experts, hidden=5, **kwargs):
        super().__init__(**kwargs)
        self.experts, self.hidden = experts, hidden

    def build(self, shape):
        sizes = (self.experts, shape[-1], self.hidden)
        self.kernel_in = self.add_weight(shape=sizes, name="kernel_in")
        self.kernel_out = self.add_weight(shape=(sizes[0], sizes[2], sizes[1]), name="kernel_out")

    def call(self, inputs):
        hidden = ops.relu(ops.einsum("btw,ewh->bteh", inputs, self.kernel_in))
        return ops.einsum("bteh,ehw->btw", hidden, self.kernel_out)

    def get_config(self):
        return {**super().get_config(), "experts": self.experts, "hidden": self.hidden}


class Experts(Structure):
    kind = "experts"


@register_layer_kind(Mixture)
def describe_mixture(layer, name):
    producer = Slices(layer, "kernel_in", 0, "producer")
    return Experts(name, layer.experts, (producer, Slices(layer, "kernel_out", 0, "consumer")))


def mixture():
    inputs = keras.Input((3, 8))
    x = Mixture(4, name="mixture")(inputs)
    x = keras.layers.Dense(6, "relu", name="ffn_in")(x)
    return keras.Model(inputs, keras.layers.Dense(3)(x))


def compiled(make=transformer):
    model = randomize(make())
    model.compile("sgd", "mse")
    return model


def losses(model):
    error = np.square(outputs(model, X)[0] - Y)
    return error.reshape(len(X), -1).mean(axis=1)


@pytest.mark.parametrize("per", ["example", "batch"])
@pytest.mark.parametrize("make", [transformer, grouped_query])
def test_gradient_importance_is_leaving_one_out_to_first_order(make, per):
    model = compiled(make)
    before = outputs(model, X)
    scores = criteria.gradient_importance(model, (X, Y), per=per, batch_size=6)
    assert_same(before, outputs(model, X), 0)
    step = 1e-2
    for structure in tfprune.find_structures(model):
        (consumer,) = structure.consumers
        for group in range(structure.groups):
            change = 0.0
            for sign in (1, -1):
                gate = np.ones(structure.groups, "float32")
                gate[group] += sign * step

                def factor(training, gate=gate, structure=structure, consumer=consumer):
                    return structure.spread(gate, consumer)

                transform = times(factor)
                transform_weight(consumer.layer, consumer.attribute, transform)
                change = change + sign * losses(model) / (2 * step)
                remove(consumer.layer, transform)
            expected = np.abs(change).mean() if per == "example" else np.abs(change.mean())
            assert scores[structure.name][group] == pytest.approx(expected, rel=2e-2, abs=2e-4)


@pytest.mark.parametrize("per", ["example", "batch"])
def test_importance_of_experts_is_leaving_one_out_of_a_batch_to_first_order(per):
    model = compiled(mixture)
    before = outputs(model, X)
    scores = criteria.gradient_importance(model, (X, Y), per=per, batch_size=3)
    assert_same(before, outputs(model, X), 0)
    structure = tfprune.find_structures(model)["mixture"]
    weight, step = np.array(structure.slices[1].variable), 1e-2
    for expert in range(4):
        change = 0.0
        for sign in (1, -1):
            scaled = weight.copy()
            scaled[expert] *= 1 + sign * step
            structure.slices[1].variable.assign(scaled)
            change = change + sign * losses(model) / (2 * step)
        structure.slices[1].variable.assign(weight)
        expected = np.mean([abs(change[:3].mean()), abs(change[3:].mean())])
        assert scores["mixture"][expert] == pytest.approx(expected, rel=2e-2, abs=2e-4)
    # Groups of the same model that are read as inputs keep the mean over examples.
    if per == "example":
        alone = criteria.gradient_importance(
            model, (X, Y), tfprune.find_structures(model).select(["ffn"]), batch_size=3
        )
        np.testing.assert_allclose(scores["ffn_in"], alone["ffn_in"], rtol=1e-4)


def test_importance_in_batches_is_the_mean_over_all_examples():
    model = compiled()
    at_once = criteria.gradient_importance(model, (X, Y), batch_size=6)
    in_parts = criteria.gradient_importance(model, (X, Y), batch_size=4)
    for name in at_once:
        np.testing.assert_allclose(at_once[name], in_parts[name], rtol=1e-3, atol=1e-6)


class _LargestBatch(keras.losses.Loss):
    """The mean squared error, which notes how many examples it is ever given at once."""

    def __init__(self):
        super().__init__()
        self.largest = 0

    def call(self, y_true, y_pred):
        self.largest = max(self.largest, len(y_pred))
        return ops.mean(ops.square(y_true - y_pred), axis=tuple(range(1, len(y_pred.shape))))


@pytest.mark.parametrize("given", ["arrays", "some arrays", "first examples"])
def test_importance_per_example_takes_few_examples_at_once(given):
    model, loss, x = randomize(transformer()), _LargestBatch(), noise(76, 5, 8)
    y = noise(76, 5, 3, seed=1)
    model.compile("sgd", loss, run_eagerly=True)
    number, steps = (64, 2) if given == "some arrays" else (76, None)
    expected = criteria.gradient_importance(
        model, (x[:number], y[:number]), batch_size=number + 1, steps=steps and 1
    )
    assert loss.largest == number
    loss.largest = 0
    data = FirstExamples(model, (x, y)) if given == "first examples" else (x, y)
    found = criteria.gradient_importance(model, data, steps=steps)
    assert loss.largest == 8
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-3, atol=1e-6)


def test_steps_that_hold_all_examples_do_not_run_out_of_data(recwarn):
    x = noise(36, 5, 8)
    model = compiled()
    y = noise(36, 5, 3, seed=1)
    all_of_it = criteria.gradient_importance(model, (x, y))
    found = criteria.gradient_importance(model, (x, y), steps=2)
    assert not [w for w in recwarn if "ran out of data" in str(w.message)]
    for name in all_of_it:
        np.testing.assert_array_equal(found[name], all_of_it[name])


def test_batches_are_kept_whole_where_scores_depend_on_them():
    x = noise(32, 5, 8)
    model = compiled()
    y = noise(32, 5, 3, seed=1)
    expected = criteria.gradient_importance(model, (x, y), per="batch", batch_size=32)
    found = criteria.gradient_importance(model, FirstExamples(model, (x, y)), per="batch")
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5)


def test_per_batch_is_kernel_times_gradient():
    model = compiled()
    scores = criteria.gradient_importance(model, (X, Y), per="batch", batch_size=6)
    rate = 1e-3
    kernels = {s.name: s.consumers[0].variable for s in tfprune.find_structures(model)}
    before = {name: ops.convert_to_numpy(k).copy() for name, k in kernels.items()}
    model.compile(keras.optimizers.SGD(rate), "mse")
    model.train_on_batch(X, Y)
    for structure in tfprune.find_structures(model):
        kernel = before[structure.name]
        gradient = (kernel - ops.convert_to_numpy(kernels[structure.name])) / rate
        product = (kernel * gradient).reshape(structure.groups, -1).sum(axis=1)
        np.testing.assert_allclose(scores[structure.name], np.abs(product), rtol=2e-2, atol=2e-4)


def test_importance_of_a_dead_group_is_zero_and_training_goes_on():
    model = compiled()
    structure = tfprune.find_structures(model)["ffn_in"]
    structure.scale((np.arange(12) != 3).astype("float32"))
    model.fit(X, Y, epochs=1, verbose=0)
    scores = criteria.gradient_importance(model, (X, Y), structures=None)
    assert scores(structure)[3] == 0 and np.count_nonzero(scores(structure)) > 3
    first = model.fit(X, Y, epochs=1, verbose=0).history["loss"][0]
    assert model.fit(X, Y, epochs=3, verbose=0).history["loss"][-1] < first


def test_importance_takes_datasets_and_several_losses():
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(5, "tanh", name="hidden")(inputs)
    model = keras.Model(
        inputs,
        {
            "a": keras.layers.Dense(1, name="a")(hidden),
            "b": keras.layers.Dense(2, name="b")(hidden),
        },
    )
    model.compile("adam", {"a": "mse", "b": "mae"}, loss_weights={"a": 1.0, "b": 0.5})
    x = noise(8, 4)

    class Data(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, i):
            part = x[4 * i : 4 * i + 4]
            return part, {"a": part[:, :1], "b": part[:, 1:3]}

    scores = criteria.gradient_importance(model, Data())
    other = criteria.gradient_importance(model, (x, {"a": x[:, :1], "b": x[:, 1:3]}), batch_size=4)
    assert scores["hidden"].shape == (5,) and np.all(scores["hidden"] > 0)
    np.testing.assert_allclose(scores["hidden"], other["hidden"], rtol=1e-5)
    one = criteria.gradient_importance(model, Data(), steps=1)
    assert not np.allclose(one["hidden"], scores["hidden"])


def test_magnitude_random_and_movement():
    model = randomize(transformer())
    structures = tfprune.find_structures(model)
    unit = structures["ffn_in"]
    kernel, bias = model.get_layer("ffn_in").get_weights()
    rows = model.get_layer("ffn_out").get_weights()[0]
    expected = np.sqrt((np.square(kernel).sum(0) + np.square(bias) + np.square(rows).sum(1)) / 17)
    np.testing.assert_allclose(criteria.magnitude(unit), expected, rtol=1e-5)
    first, again = criteria.random(1)(unit), criteria.random(1)(unit)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, criteria.random(2)(unit))
    with pytest.raises(ValueError, match="`model` carries no movement scores"):
        criteria.movement(model)
    heads = structures["attention"]
    value = heads.slices[4]
    gates = attach(model, [MovementScores(unit), BlockScores(heads, value, (4, 2))])
    gates[0].scores.assign(np.arange(12.0))
    np.testing.assert_array_equal(criteria.movement(model)(unit), np.arange(12.0))
    blocks = noise(*gates[1].scores.shape)
    gates[1].scores.assign(blocks)
    expected = blocks.reshape(2, 2, 2).max(axis=(0, 2))  # The rank of a head's best block.
    np.testing.assert_allclose(criteria.movement(model)(heads), expected, rtol=1e-5)


def test_bad_input():
    model = randomize(transformer())
    with pytest.raises(ValueError, match="compiled"):
        criteria.gradient_importance(model, (X, Y))
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="`per`"):
        criteria.gradient_importance(model, (X, Y), per="token")
    with pytest.raises(ValueError, match="`data`"):
        criteria.gradient_importance(model, (X,))
    scores = criteria.gradient_importance(
        model, (X, Y), tfprune.find_structures(model).select(["ffn"])
    )
    with pytest.raises(ValueError, match="no scores of 'attention'"):
        scores(tfprune.find_structures(model)["attention"])
