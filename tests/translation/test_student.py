import keras
import numpy as np
import pytest

from tests.models import assert_same, noise
from tfprune.structures import find_structures
from tfprune.translation import SSRU, student

pytestmark = pytest.mark.sampled


def test_ssru_is_the_recurrence():
    layer = SSRU(max_length=16)
    x = noise(2, 11, 4)
    got = keras.ops.convert_to_numpy(layer(x))
    layer.forget_bias.assign(noise(4, seed=5))
    got = keras.ops.convert_to_numpy(layer(x))
    w, wf, bf = (keras.ops.convert_to_numpy(v) for v in layer.weights)
    cell = np.zeros((2, 4))
    for t in range(11):
        forget = 1 / (1 + np.exp(-(x[:, t] @ wf + bf)))
        cell = forget * cell + (1 - forget) * (x[:, t] @ w)
        np.testing.assert_allclose(got[:, t], np.maximum(cell, 0), rtol=1e-4, atol=1e-5)


def test_ssru_steps_give_the_same():
    layer = SSRU(max_length=8)
    x = noise(2, 5, 4)
    whole = keras.ops.convert_to_numpy(layer(x))
    cell = np.zeros((2, 1, 4), "float32")
    for t in range(5):
        output, cell = layer.step(x[:, t : t + 1], cell)
        np.testing.assert_allclose(output[:, 0], whole[:, t], rtol=1e-4, atol=1e-5)


def small(**options):
    sizes = {
        "encoder_layers": 2,
        "decoder_layers": 2,
        "model_dim": 8,
        "feed_forward_dim": 12,
        "num_heads": 2,
        "max_length": 16,
    }
    return student(30, **{**sizes, **options})


def test_structures_of_a_student():
    assert [(s.name, s.groups) for s in find_structures(small())] == [
        ("encoder_0_attention", 2),
        ("encoder_0_ffn_in", 12),
        ("encoder_1_attention", 2),
        ("encoder_1_ffn_in", 12),
        ("decoder_0_cross_attention", 2),
        ("decoder_0_ffn_in", 12),
        ("decoder_1_cross_attention", 2),
        ("decoder_1_ffn_in", 12),
    ]


def test_tied_layers_are_the_same_layers():
    tied, loose = small(tied_decoder_layers=True), small()
    assert "decoder_1_ssru" not in {layer.name for layer in tied.layers}
    assert tied.count_params() < loose.count_params()
    ids = np.array([[4, 5, 2]])
    assert tied({"source": ids, "target": ids}).shape == (1, 3, 30)


def test_padding_changes_nothing_and_the_future_is_not_seen():
    model = small(decoder="self_attention")
    target = np.array([[1, 7, 8, 9]])
    a = keras.ops.convert_to_numpy(model({"source": np.array([[4, 5, 2]]), "target": target}))
    b = keras.ops.convert_to_numpy(model({"source": np.array([[4, 5, 2, 0, 0]]), "target": target}))
    assert_same([a], [b])
    other = np.array([[1, 7, 20, 21]])
    c = keras.ops.convert_to_numpy(model({"source": np.array([[4, 5, 2]]), "target": other}))
    np.testing.assert_allclose(a[:, :2], c[:, :2], rtol=1e-4, atol=1e-5)
    assert np.abs(a[:, 2:] - c[:, 2:]).max() > 1e-3


def test_bad_sizes():
    for options, name in (
        ({"num_heads": 3}, "model_dim"),
        ({"decoder": "rnn"}, "decoder"),
        ({"encoder_layers": 0}, "encoder_layers"),
    ):
        with pytest.raises(ValueError, match=f"`{name}`"):
            small(**options)
