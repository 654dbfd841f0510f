import keras
import pytest
from keras import layers

from tfprune.structures import find_structures
from tfprune.structures.advice import advice

pytestmark = pytest.mark.sampled("jax")


@pytest.mark.parametrize(
    ("reason", "part"),
    [
        ("no kind of structure is registered for RNN", "other than LSTM"),
        ("GetItem has sizes or places written in it", "from the shape of the tensor"),
        ("its outputs go different ways", "a layer of its own"),
        ("no kind of structure is registered for MyMixer", "register_layer_kind"),
        ("its `call` does not run on symbolic tensors (no)", "keras.ops"),
        ("its attention scores are used, which show every head", "leave the scores out"),
        ("it goes to mine (Mine), which does not treat each of them alone when", "by a rule"),
        ("it goes to ln (LayerNormalization), which does not treat each", "normalize"),
        ("TimeDistributed calls it in a way that cannot be followed", "leave TimeDistributed out"),
        ("its channels come first", "channels_last"),
        ("dense_3 is also given what must stay", "a layer of its own"),
    ],
)
def test_there_is_something_to_do(reason, part):
    assert part in advice(reason)


def test_nothing_can_be_done_about_the_outputs_of_a_model():
    assert advice("its output is an output of the model") == ""


def test_tables_say_it_and_each_layer_has_one_reason():
    x = keras.Input((8, 3))
    y = layers.RNN(layers.LSTMCell(4), name="lstm")(x)
    y = layers.Dense(2, name="out")(y)
    found = find_structures(keras.Model(x, y))
    assert len({s.name for s in found.skipped}) == len(found.skipped)
    text = " ".join(str(found).replace("│", " ").split())
    assert "registered for RNN: recurrent layers other than LSTM" in text
    (lstm,) = [s for s in found.skipped if s.name == "lstm"]
    assert lstm.advice.startswith("recurrent layers other than LSTM")


def test_the_cell_of_a_recurrent_layer_is_listed_with_the_layer_alone():
    x = keras.Input((8, 6))
    y = layers.Bidirectional(layers.RNN(layers.GRUCell(4)), name="both_ways")(
        layers.RNN(layers.LSTMCell(4), return_sequences=True, name="lstm")(x)
    )
    found = find_structures(keras.Model(x, layers.Dense(2, name="out")(y)))
    names = [s.name for s in found.skipped]
    assert "lstm" in names and any("both_ways" in name for name in names)
    assert not any("cell" in name for name in names)
    with pytest.raises(ValueError) as raised:
        found.select_any(None, by="`prune`")
    said = str(raised.value)
    assert "RNN: recurrent layers other than LSTM" in said
    assert "register a kind" not in said
    assert said.endswith("quantize='dynamic_int8').")


class Added(layers.Layer):
    """Adds a table to its input."""

    def __init__(self, called=None, **kwargs):
        super().__init__(**kwargs)
        self.called = called

    def build(self, shape):
        self.table = self.add_weight(shape=shape[1:], name=self.called)

    def call(self, x):
        return x + self.table


class PositionalEncoding(Added):
    pass


class Decomposition(Added):
    pass


class Embedded(keras.Model):
    """Holds its table itself."""

    def __init__(self):
        super().__init__(name="model")
        self.dense = layers.Dense(4)
        self.pos_embed = self.add_weight(shape=(5, 6))

    def call(self, x):
        return self.dense(x + self.pos_embed)


@pytest.mark.parametrize(
    ("layer", "is_table"),
    [
        (lambda: Added("positions", name="layer"), True),
        (lambda: Added("pos", name="layer"), True),
        (lambda: PositionalEncoding(name="layer"), True),
        (lambda: Added("kernel", name="layer"), False),
        (lambda: Decomposition(name="layer"), False),
    ],
)
def test_no_kind_need_be_registered_for_a_table_of_positions(layer, is_table):
    x = keras.Input((5, 6))
    found = find_structures(keras.Model(x, layers.Dense(2)(layer()(x))))
    (skipped,) = [s for s in found.skipped if s.name == "layer"]
    assert ("table of positions" in skipped.explained) == is_table
    assert ("register" in skipped.explained) != is_table


def test_a_table_of_positions_that_a_model_holds_itself():
    model = Embedded()
    model(keras.ops.ones((2, 5, 6)))
    (skipped,) = [s for s in find_structures(model).skipped if s.name == "model"]
    assert skipped.explained == "its weights are a table of positions, which has no groups"
