import keras
import numpy as np
import pytest
from keras import layers, ops

from tests.models import noise
from tfprune.overlay.activations import observe, side_by_side
from tfprune.overlay.transforms import overlay_of


def network():
    x = keras.Input((4,))
    first, second = layers.Dense(6, "relu", name="first"), layers.Dense(3, name="second")
    return keras.Model(x, second(first(x)))


def test_what_layers_read_is_seen_and_the_model_is_as_it_was():
    model, batches, seen = network(), [noise(5, 4), noise(2, 4, seed=1)], []
    first, second = model.layers[1:]
    both = [first, second]
    assert observe(model, batches, both, lambda *found: seen.append(found)) == 2
    assert [layer.name for layer, _ in seen] == ["first", "second"] * 2
    np.testing.assert_array_equal(ops.convert_to_numpy(seen[2][1].inputs), batches[1])
    np.testing.assert_allclose(
        ops.convert_to_numpy(seen[3][1].inputs), ops.convert_to_numpy(first(batches[1])), rtol=1e-5
    )
    assert overlay_of(first) is None and overlay_of(second) is None


def test_all_batches_meet_before_a_layer_and_go_on_with_what_it_has_become():
    model, batches = network(), [noise(5, 4), noise(2, 4, seed=1), noise(1, 4, seed=2)]
    first, second = model.layers[1:]
    kernel = ops.convert_to_numpy(first.kernel)
    seen = []

    def meet(layer, reads):
        seen.append((layer.name, [ops.convert_to_numpy(read.inputs) for read in reads]))
        layer.kernel.assign(2 * layer.kernel)

    side_by_side(model, batches, [second, first], meet)
    assert [name for name, _ in seen] == ["first", "second"]
    for found, x in zip(seen[0][1], batches, strict=True):
        np.testing.assert_array_equal(found, x)
    for found, x in zip(seen[1][1], batches, strict=True):
        np.testing.assert_allclose(found, np.maximum(2 * x @ kernel, 0), rtol=1e-5, atol=1e-6)
    assert overlay_of(first) is None


@pytest.mark.parametrize("fails", ["the model", "what meets"])
def test_an_error_ends_all_batches(fails):
    class Wrong(layers.Layer):
        def call(self, x):
            if x.shape[0] == 2 and fails == "the model":
                raise RuntimeError("no more")
            return x

    x = keras.Input((4,))
    dense = layers.Dense(3)
    model = keras.Model(x, dense(Wrong()(x)))

    def meet(layer, reads):
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        side_by_side(model, [noise(5, 4), noise(2, 4), noise(3, 4)], [dense], meet)
    assert overlay_of(dense) is None


def masks(model, batches, layer):
    found = []
    observe(model, batches, [layer], lambda _, read: found.append(read.mask))
    together = []
    side_by_side(model, batches, [layer], lambda _, reads: together.extend(r.mask for r in reads))
    for one, other in zip(found, together, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(one), ops.convert_to_numpy(other))
    return [None if mask is None else ops.convert_to_numpy(mask) for mask in found]


IDS = [np.array([[1, 2, 0], [3, 0, 0]]), np.array([[4, 5]])]


def test_padding_is_known_from_masks_and_embeddings():
    ids = keras.Input((None,), dtype="int32")
    h = layers.Embedding(9, 8, mask_zero=True)(ids)
    dense = layers.Dense(8)
    attention = layers.MultiHeadAttention(2, 4)
    model = keras.Model(ids, attention(h, h) + dense(h))
    for layer in (dense, attention.output_dense):  # Inside attention tensors have no masks.
        for mask, x in zip(masks(model, IDS, layer), IDS, strict=True):
            np.testing.assert_array_equal(mask, x != 0)


def test_padding_is_known_from_the_names_of_inputs():
    ids, padding = keras.Input((None,), name="ids"), keras.Input((None,), name="padding_mask")
    dense = layers.Dense(8)
    model = keras.Model([ids, padding], dense(ops.expand_dims(ids, -1)) * padding[..., None])
    for given in (list, lambda pair: dict(zip(("ids", "padding_mask"), pair, strict=True))):
        batches = [given((x.astype("float32"), (x != 0).astype("float32"))) for x in IDS]
        if isinstance(batches[0], dict):
            model = keras.Model({"ids": ids, "padding_mask": padding}, model.output)
        for mask, x in zip(masks(model, batches, dense), IDS, strict=True):
            np.testing.assert_array_equal(mask, x != 0)
