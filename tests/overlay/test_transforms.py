"""Weights and inputs that layers see through transforms and hooks."""

import copy

import keras
import numpy as np
import pytest
from keras import layers, ops

from tests.models import assert_same, noise, outputs
from tfprune.overlay.folding import folded, times
from tfprune.overlay.saving import backing_up
from tfprune.overlay.transforms import hook_input, hooked, remove, transform_weight, transforms_of

X = noise(8, 4)


def made(**options):
    layer = layers.Dense(2, kernel_initializer="ones", **options)
    layer.build((1, 3))
    return layer


ONES = np.ones((1, 3), "float32")
HALF = np.array([1.0, 0.5], "float32")


def test_transforms_follow_one_another_and_come_off_one_by_one():
    layer = made(use_bias=False)
    more = times(lambda training: 3.0 if training else 2.0)
    transform_weight(layer, "kernel", more)
    transform_weight(layer, "kernel", lambda weight, training: weight + HALF)
    assert ops.convert_to_numpy(layer(ONES)).tolist() == [[9, 7.5]]
    assert ops.convert_to_numpy(layer(ONES, training=True)).tolist() == [[12, 10.5]]
    value = folded(layer.kernel, transforms_of(layer)["kernel"])
    assert ops.convert_to_numpy(value)[0].tolist() == [3, 2.5]
    remove(layer, more)
    assert ops.convert_to_numpy(layer(ONES)).tolist() == [[6, 4.5]]
    remove(layer)
    assert ops.convert_to_numpy(layer(ONES)).tolist() == [[3, 3]]
    assert layer.kernel is layer._kernel
    assert not {"call", "save_own_variables"} & set(vars(layer))


def test_any_weight_is_transformed_and_what_a_layer_reads_is_hooked():
    layer = made(bias_initializer="ones")
    transform_weight(layer, "bias", times(lambda training: np.array([5.0, 0.0], "float32")))
    hook_input(layer, lambda inputs, training: inputs * 2.0)
    assert ops.convert_to_numpy(layer(ONES)).tolist() == [[11, 6]]
    assert ops.convert_to_numpy(layer(inputs=ONES)).tolist() == [[11, 6]]
    assert set(transforms_of(layer)) == {"bias"}
    remove(layer)
    assert ops.convert_to_numpy(layer(ONES)).tolist() == [[4, 4]]
    with pytest.raises(ValueError, match="`attribute` must name a weight"):
        transform_weight(layer, "gamma", times(lambda training: 1.0))


def test_hooks_and_transforms_in_a_with_block_come_off_also_after_an_exception():
    layer, other = made(), made()
    hooks = [(layer, lambda inputs, training: inputs * 2.0)]
    doubled = times(lambda training: 2.0)
    with hooked(hooks, [(layer, "kernel", doubled, None), (other, "kernel", doubled, None)]):
        assert ops.convert_to_numpy(layer(ONES)).tolist() == [[12, 12]]
        assert ops.convert_to_numpy(other(ONES)).tolist() == [[6, 6]]
    assert ops.convert_to_numpy(layer(ONES)).tolist() == [[3, 3]]
    wrong = [(layer, "kernel", doubled, None), (other, "gamma", doubled, None)]
    with pytest.raises(ValueError, match="`attribute` must name a weight"), hooked(hooks, wrong):
        pass
    for one in (layer, other):
        assert ops.convert_to_numpy(one(ONES)).tolist() == [[3, 3]]


def test_a_call_that_was_replaced_before_comes_back():
    layer = made()
    vars(layer)["call"] = lambda inputs: inputs
    transform_weight(layer, "kernel", times(lambda training: 2.0))
    remove(layer)
    assert ops.convert_to_numpy(layer(ONES)).tolist() == [[1, 1, 1]]


class Lookup(keras.Layer):
    """Its call has no argument that says whether it is one in training."""

    def build(self, input_shape=None):
        self.rows = self.add_weight(shape=(5, 4), initializer="ones", name="rows")

    def call(self, ids):
        return ops.take(ops.convert_to_tensor(self.rows), ids, axis=0)


@pytest.mark.parametrize("training", [True, False])
def test_the_call_says_whether_it_trains_where_the_layer_cannot(training):
    ids = keras.Input((3,), dtype="int32")
    lookup = Lookup()
    model = keras.Model(ids, layers.Dropout(0.0)(lookup(ids)))
    seen = []

    def look(weight, training):
        seen.append(training)
        return weight

    transform_weight(lookup, "rows", look)
    model(np.array([[1, 2, 3]]), training=training)
    assert seen == [training]
    lookup(np.array([[1, 2, 3]]))
    assert seen[1:] == [False]


def test_what_other_models_compiled_is_forgotten():
    x = keras.Input((4,))
    dense = layers.Dense(3)
    encoder = keras.Model(x, dense(x))
    transform_weight(dense, "kernel", times(lambda training: 2.0))
    assert_same([encoder.predict(X, verbose=0)], outputs(encoder, X))
    remove(dense)
    assert_same([encoder.predict(X, verbose=0)], outputs(encoder, X))


def small():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Dense(2)])
    transform_weight(model.layers[0], "kernel", times(lambda training: 0.5))
    return model


@pytest.mark.parametrize("how", ["save", "function", "copy", "weights", "over the same layers"])
def test_files_hold_what_the_layers_compute_with(how, tmp_path):
    model = small()
    before = [np.array(v) for v in model.variables]
    path = tmp_path / "model.keras"
    if how == "weights":
        path = tmp_path / "model.weights.h5"
        model.save_weights(path)
        again = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Dense(2)])
        again.load_weights(path)
    elif how == "copy":
        again = copy.deepcopy(model)
    else:
        saved = model
        if how == "over the same layers":
            x = keras.Input((4,))
            saved = keras.Model(x, model.layers[1](model.layers[0](x)))
        save = keras.saving.save_model if how == "function" else keras.Model.save
        save(saved, path)
        again = keras.saving.load_model(path)
    assert_same(outputs(again, X), outputs(model, X))
    for old, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(variable, old)


def test_a_backup_holds_what_is_trained_and_so_does_a_transform_that_is_saved_by_itself(tmp_path):
    model, path = small(), tmp_path / "model.weights.h5"
    for _ in range(2):
        with backing_up(model):
            model.save_weights(path)
        again = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Dense(2)])
        again.load_weights(path)
        for old, variable in zip(model.variables, again.variables, strict=True):
            np.testing.assert_array_equal(variable, old)
    remove(model.layers[0])
    transform_weight(model.layers[0], "kernel", times(lambda training: 0.5), in_files=False)
    model.save_weights(path)
    again.load_weights(path)
    np.testing.assert_array_equal(again.layers[0].kernel, model.layers[0].kernel)


def test_what_a_layer_calls_in_a_loop_sees_the_same_weight_in_each_turn():
    layer = keras.layers.LSTM(3)
    x = noise(2, 5, 4)
    layer(x)
    seen = []

    def noted(weight, training):
        seen.append(training)
        return 0.5 * weight

    transform_weight(layer.cell, "kernel", noted, caller=layer)
    found = layer(x, training=True)
    assert seen == [True]
    remove(layer.cell)
    layer.cell.kernel.assign(0.5 * layer.cell.kernel)
    assert_same([layer(x)], [found])
    assert layer.use_cudnn == "auto"
