"""Models that keep their class: KerasHub's and subclassed ones."""

import keras
import numpy as np
import pytest
from keras import layers

from tests.models import assert_same, kill, noise, outputs, randomize
from tfprune.rebuild import rebuild
from tfprune.structures import find_structures

pytestmark = pytest.mark.sampled

IDS = {
    "token_ids": np.array([[1, 2, 3, 0]]),
    "segment_ids": np.zeros((1, 4), int),
    "padding_mask": np.array([[1, 1, 1, 0]]),
}


def check(model, x, tmp_path, dead):
    kill(model, dead, producers_only=True)
    expected = outputs(model, x)
    small = rebuild(model)
    assert isinstance(small, type(model))
    assert_same(expected, outputs(small, x))
    assert small.count_params() < model.count_params()
    small.save(tmp_path / "small.keras")
    loaded = keras.saving.load_model(tmp_path / "small.keras")
    assert isinstance(loaded, type(model))
    assert_same(expected, outputs(loaded, x))
    names = [{s.name: s.groups for s in find_structures(m)} for m in (model, small, loaded)]
    assert set(names[1]) <= set(names[0]) and names[2] == names[1]
    # A second rebuild of what was loaded finds nothing more to cut.
    assert rebuild(loaded).count_params() == small.count_params()
    return small


def bert(layers, dropout=0.0):
    keras_hub = pytest.importorskip("keras_hub")
    return keras_hub.models.BertBackbone(
        vocabulary_size=20,
        num_layers=layers,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=12,
        max_sequence_length=6,
        dropout=dropout,
    )


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_bert(tmp_path, share):
    draw = np.random.default_rng(1)
    check(randomize(bert(2)), IDS, tmp_path, lambda s: draw.random(s.groups) < share)


def test_a_sentence_of_padding_alone():
    # With dropout its attention weights are all zero, and no value bias comes through.
    model = randomize(bert(1, dropout=0.1))
    kill(model, lambda s: np.arange(s.groups) % 2 == 0, producers_only=True)
    padding = IDS | {"padding_mask": np.zeros((1, 4), int)}
    small = rebuild(model)
    for given in (IDS, padding):
        assert_same(outputs(model, given), outputs(small, given))


def test_bert_classifier(tmp_path):
    keras_hub = pytest.importorskip("keras_hub")
    model = randomize(keras_hub.models.BertTextClassifier(bert(1), num_classes=2))
    small = check(model, IDS, tmp_path, lambda s: np.arange(s.groups) % 2 == 0)
    # Units of the block, of the pooler, which the classifier reads, and heads.
    assert {s.groups for s in find_structures(small)} == {6, 4, 1}
    # Taken out of the task, the backbone is a model of its own; and can be cut once more.
    smaller = check(small, IDS, tmp_path, lambda s: np.arange(s.groups) % 6 > 1)
    smallest = check(smaller, IDS, tmp_path, lambda s: np.ones(s.groups, bool))
    for backbone in (small.backbone, smaller.backbone, smallest.backbone):
        backbone.save(tmp_path / "backbone.keras")
        loaded = keras.saving.load_model(tmp_path / "backbone.keras")
        assert type(loaded).__name__ == "BertBackbone"
        assert_same(outputs(backbone, IDS), outputs(loaded, IDS))


@pytest.mark.tensorflow_only  # Tokenizers are TensorFlow's.
def test_a_task_with_its_preprocessor(tmp_path):
    keras_hub = pytest.importorskip("keras_hub")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film"]
    tokenizer = keras_hub.tokenizers.BertTokenizer(vocabulary=words)
    preprocessor = keras_hub.models.BertTextClassifierPreprocessor(tokenizer, sequence_length=6)
    model = randomize(
        keras_hub.models.BertTextClassifier(bert(1), num_classes=2, preprocessor=preprocessor)
    )
    kill(model, lambda s: np.arange(s.groups) % 2 == 0, producers_only=True)
    text = np.array(["good film", "bad film"])
    expected = model.predict(text, verbose=0)
    small = rebuild(model)
    np.testing.assert_allclose(small.predict(text, verbose=0), expected, rtol=1e-4, atol=1e-5)
    small.save(tmp_path / "small.keras")
    loaded = keras.saving.load_model(tmp_path / "small.keras")
    np.testing.assert_allclose(loaded.predict(text, verbose=0), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_hub_layers_in_a_functional_model(tmp_path, share):
    keras_hub = pytest.importorskip("keras_hub")
    x, y = keras.Input((3, 8)), keras.Input((4, 8))
    encoded = keras_hub.layers.TransformerEncoder(12, 2, name="encoder")(y)
    decoded = keras_hub.layers.TransformerDecoder(10, 2, name="decoder")(x, encoded)
    draw = np.random.default_rng(2)
    check(
        randomize(keras.Model([x, y], decoded)),
        [noise(2, 3, 8), noise(2, 4, 8)],
        tmp_path,
        lambda s: draw.random(s.groups) < share,
    )


@keras.saving.register_keras_serializable("tests")
class Net(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.attention = layers.MultiHeadAttention(2, 3)
        self.pair = [layers.Dense(10, "gelu"), layers.Dense(4)]

    def call(self, x):
        x = x + self.attention(x, x)
        return x + self.pair[1](self.pair[0](x))


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_subclassed_without_build(tmp_path, share):
    model = Net()
    x = noise(2, 5, 4)
    model(x)
    draw = np.random.default_rng(3)
    check(randomize(model), x, tmp_path, lambda s: draw.random(s.groups) < share)


def test_a_class_that_cannot_be_copied_says_what_to_do():
    class Stubborn(keras.Model):
        def __init__(self, units):
            super().__init__()
            self.a, self.b = layers.Dense(units), layers.Dense(2)

        def call(self, x):
            return self.b(self.a(x))

    model = Stubborn(4)
    model(noise(1, 3))
    with pytest.raises(ValueError, match=r"Stubborn has no `get_config\(\)`.*in_place=True"):
        rebuild(model)


def test_a_layer_that_cannot_be_copied_is_named():
    class Scaled(layers.Layer):
        def __init__(self, factor):
            super().__init__(name="scaled")
            self.factor = factor

        def call(self, x):
            return x * self.factor

    x = keras.Input((4,))
    model = keras.Model(x, layers.Dense(2)(Scaled(2)(layers.Dense(3)(x))))
    with pytest.raises(ValueError, match="'scaled': Scaled has no .* of its own.*in_place=True"):
        rebuild(model)


class ByName(keras.Model):
    """Gives its layers what they take by name, the query of the attention last."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.attention = layers.MultiHeadAttention(2, 3)
        self.first, self.second = layers.Dense(5, "relu"), layers.Dense(4)

    def call(self, inputs):
        x = self.attention(value=inputs[:, :2], query=inputs)
        return inputs + self.second(inputs=self.first(inputs=x))


def test_emptied_layers_that_are_called_by_name(tmp_path):
    model = ByName()
    model(noise(2, 3, 4))
    with keras.saving.custom_object_scope({"ByName": ByName}):
        check(randomize(model), noise(2, 3, 4), tmp_path, lambda s: np.ones(s.groups, bool))
    x = keras.Input((3, 4))
    y = layers.MultiHeadAttention(2, 3, name="attention")(value=x[:, :2], query=x)
    model = randomize(keras.Model(x, layers.Dense(2)(y)))
    kill(model, lambda s: np.ones(s.groups, bool))
    assert_same(outputs(model, noise(2, 3, 4)), outputs(rebuild(model), noise(2, 3, 4)))


@keras.saving.register_keras_serializable("test_pruned")
class WithoutBuild(layers.Layer):
    """Its layers are built when it is called."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.attention = layers.MultiHeadAttention(2, 3)
        self.first, self.second = layers.Dense(5, "relu"), layers.Dense(4)

    def call(self, x):
        y = self.attention(value=x, key=x, query=x, use_causal_mask=True)
        return x + self.second(self.first(y))


@pytest.mark.parametrize("share", [0.5, 1.0])
@pytest.mark.parametrize("calls", [1, 2])
def test_a_layer_without_build_in_a_functional_model(share, calls, tmp_path):
    x = y = keras.Input((3, 4))
    block = WithoutBuild()
    for _ in range(calls):
        y = block(y)
    model = randomize(keras.Model(x, layers.Dense(2)(y)))
    draw = np.random.default_rng(0)
    check(model, noise(2, 3, 4), tmp_path, lambda s: draw.random(s.groups) < share)
