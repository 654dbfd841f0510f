"""A model that uses layers of another one that its configuration spells out: cut once."""

import keras
import numpy as np
import pytest
from keras import layers

from tests.models import assert_same, kill, noise, outputs, randomize
from tfprune.rebuild import rebuild

pytestmark = pytest.mark.sampled


@keras.saving.register_keras_serializable("test_layers_of_two_models")
class Block(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.attention = layers.MultiHeadAttention(4, 2)
        self.up, self.down = layers.Dense(16, "softplus"), layers.Dense(8)

    def build(self, shape):
        self.attention.build(shape, shape)
        self.up.build(shape)
        self.down.build((*shape[:-1], 16))

    def call(self, x):
        x = x + self.attention(x, x)
        return x + self.down(self.up(x))


@keras.saving.register_keras_serializable("test_layers_of_two_models")
class Encoder(keras.Model):
    def __init__(self, **kwargs):
        x = keras.Input((5, 8))
        first, second = Block(name="first"), Block(name="second")
        super().__init__(x, second(first(x)), **kwargs)
        self.stages = [first, second]

    def get_config(self):
        return {"name": self.name}


@keras.saving.register_keras_serializable("test_layers_of_two_models")
class WithStages(keras.Model):
    """Reads what is inside the encoder, as KerasHub's `DepthAnythingBackbone` does."""

    def __init__(self, encoder, **kwargs):
        stages = [encoder.get_layer(name).output for name in ("first", "second")]
        neck = Block(name="neck")(stages[0] + stages[1])
        super().__init__(encoder.input, layers.Dense(3, name="head")(neck), **kwargs)
        self.encoder = encoder

    def get_config(self):
        return {"name": self.name, "encoder": keras.saving.serialize_keras_object(self.encoder)}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config["encoder"]), name=config["name"])


@pytest.mark.parametrize("share", [0.5, 1.0])
@pytest.mark.parametrize("in_place", [False, True])
def test_it_is_exact_saves_and_loads(in_place, share, tmp_path):
    model = randomize(WithStages(Encoder(name="encoder"), name="whole"))
    parameters, x = model.count_params(), noise(2, 5, 8)
    kill(model, lambda s: np.arange(s.groups) < share * s.groups)
    want = outputs(model, x)
    inside = outputs(model.encoder, x)
    small = rebuild(model, in_place=in_place)
    assert small.count_params() < (0.8 if share == 0.5 else 0.3) * parameters
    small.save(tmp_path / "small.keras")
    loaded = keras.saving.load_model(tmp_path / "small.keras")
    for made in (small, loaded):
        assert_same(want, outputs(made, x))
        assert_same(inside, outputs(made.encoder, x))
    # Another layer is pruned, and those that are left once more.
    kill(loaded, lambda s: np.arange(s.groups) == 0)
    want = outputs(loaded, x)
    again = rebuild(loaded, in_place=in_place)
    again.save(tmp_path / "again.keras")
    assert_same(want, outputs(keras.saving.load_model(tmp_path / "again.keras"), x))
