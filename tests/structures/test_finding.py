import keras
import numpy as np
import pytest
from keras import layers

from tests.models import assert_same, kill, noise, outputs, randomize, transformer
from tfprune.rebuild import rebuild
from tfprune.structures import find_structures

pytestmark = pytest.mark.sampled


def reasons(model):
    return {s.name: s.reason for s in find_structures(model).skipped}


def names(model):
    return {s.name: (s.kind, s.groups) for s in find_structures(model)}


def test_functional_transformer():
    found = find_structures(transformer(width=8, heads=2, units=12))
    assert [(s.name, s.kind, s.groups) for s in found] == [
        ("attention", "heads", 2),
        ("ffn_in", "ffn", 12),
    ]
    # A unit: a column of 8, its bias, a row of 8. A head: three 8x4 and their biases, one 4x8.
    assert found["ffn_in"].group_size == 8 + 1 + 8
    assert found["attention"].group_size == 3 * (8 * 4 + 4) + 4 * 8
    assert reasons(transformer()) == {"out": "its output is an output of the model"}


def test_table_shows_structures_and_reasons():
    text = str(find_structures(transformer()))
    for word in ("attention", "ffn_in", "heads", "12", "output of the model"):
        assert word in text


def test_sequential_with_activation_layer_and_dropout():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(6, name="a"),
            layers.Activation("gelu"),
            layers.Dropout(0.1),
            layers.Dense(2, name="b"),
        ]
    )
    assert names(model) == {"a": ("ffn", 6)}


def test_gated_feed_forward_is_one_structure():
    x = keras.Input((4,))
    y = layers.Multiply()([layers.Dense(6, "silu", name="gate")(x), layers.Dense(6, name="up")(x)])
    model = keras.Model(x, layers.Dense(4, name="down")(y))
    (structure,) = find_structures(model)
    assert [s.layer.name for s in structure.producers if s.attribute == "kernel"] == [
        "up",
        "gate",
    ] or [s.layer.name for s in structure.producers if s.attribute == "kernel"] == ["gate", "up"]
    assert structure.groups == 6


def test_nested_and_subclassed():
    inner = keras.Sequential(
        [keras.Input((4,)), layers.Dense(5, "relu", name="a"), layers.Dense(4)], name="inner"
    )
    x = keras.Input((4,))
    assert names(keras.Model(x, inner(x))) == {"inner/a": ("ffn", 5)}

    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.first = layers.Dense(7, name="first")
            self.second = layers.Dense(2, name="second")

        def call(self, x):
            return self.second(keras.ops.relu(self.first(x)) * 2.0)

    net = Net()
    net(np.ones((1, 3), "float32"))
    assert names(net) == {"first": ("ffn", 7)}
    assert net.first._inbound_nodes == []  # looking leaves no trace


@pytest.mark.parametrize("scores", [layers.Dense, layers.LSTM, layers.GRU])
def test_attention_over_positions_has_one_number_for_each(scores):
    x = keras.Input((5, 4))
    h = layers.Dense(6, "relu", name="hidden")(x)
    options = {} if scores is layers.Dense else {"return_sequences": True}
    weights = layers.Softmax(axis=1)(scores(1, name="scores", **options)(h))
    pooled = layers.GlobalAveragePooling1D()(layers.Multiply()([h, weights]))
    found = find_structures(keras.Model(x, layers.Dense(2, name="out")(pooled)))
    assert [s.name for s in found] == ["hidden"]
    reasons = {s.name: s.explained for s in found.skipped}
    assert reasons["scores"] == "it makes one number, which stays"


def test_skipped_with_reasons():
    x = keras.Input((4,))
    soft = layers.Dense(5, "softmax", name="soft")(x)
    normed = layers.LayerNormalization()(layers.Dense(5, name="normed")(x))
    shared = layers.Dense(4, name="shared")
    chain = shared(layers.ReLU()(shared(x)))
    model = keras.Model(x, [layers.Dense(2)(soft), layers.Dense(2)(normed), layers.Dense(2)(chain)])
    why = reasons(model)
    assert "softmax mixes units" in why["soft"]
    assert "LayerNormalization" in why["normed"]
    assert why["shared"] == "shared is also given what must stay"
    assert not names(model)


@pytest.mark.parametrize(
    "last",
    [
        layers.Dense(4, "softmax", name="last"),
        layers.Conv1D(4, 1, activation="softmax", name="last"),
    ],
)
def test_what_makes_the_output_is_said_to_be_it_whatever_its_activation_is(last):
    x = keras.Input((6, 3))
    model = keras.Model(x, last(layers.Dense(8, "relu", name="hidden")(x)))
    assert reasons(model) == {"last": "its output is an output of the model"}
    assert list(names(model)) == ["hidden"]


def test_channels_that_come_first_are_said():
    x = keras.Input((3, 8, 8))
    y = layers.Conv2D(4, 3, data_format="channels_first", name="first")(x)
    why = reasons(keras.Model(x, layers.Conv2D(2, 3, data_format="channels_first", name="out")(y)))
    assert why["first"] == "its channels come first"


def test_the_halves_of_a_gated_linear_unit_leave_together():
    """`glu(Dense(16))`: 8 units, each with its gate."""
    x = keras.Input((8,))
    y = keras.ops.glu(layers.Dense(16, name="both")(x))
    model = keras.Model(x, layers.Dense(2, name="out")(y))
    assert names(model) == {"both": ("ffn", 8)}
    kill(randomize(model), {"both": np.arange(8) % 3 == 0})
    small = rebuild(model)
    assert small.get_layer("both").units == 10
    given = noise(4, 8)
    assert_same(outputs(model, given), outputs(small, given))


def test_the_second_layer_of_a_pair_is_listed_unless_it_ends_in_a_residual_stream():
    x = keras.Input((4,))
    y = layers.Dense(4, name="out")(layers.Dense(6, "relu", name="in")(x))
    y = layers.LayerNormalization()(layers.Add()([x, y]))
    y = layers.Dense(5, name="second")(layers.Dense(6, "relu", name="first")(y))
    y = layers.Dense(3, name="last")(layers.LayerNormalization()(y))
    model = keras.Model(x, y)
    assert names(model) == {"in": ("ffn", 6), "first": ("ffn", 6)}
    why = reasons(model)
    assert set(why) == {"second", "last"}
    assert "LayerNormalization" in why["second"] and "output of the model" in why["last"]
    inner = keras.Sequential([layers.Dense(6, "relu"), layers.Dense(4)], name="inner")
    assert set(reasons(keras.Model(x, layers.Dense(2, name="head")(inner(x))))) == {"head"}


def test_attention_scores_keep_the_heads():
    x = keras.Input((3, 4))
    y, scores = layers.MultiHeadAttention(2, 2, name="shown")(x, x, return_attention_scores=True)
    model = keras.Model(x, [y, scores])
    assert "attention scores" in reasons(model)["shown"]


def test_layer_called_in_two_places_alike_is_cut_once():
    x = keras.Input((4,))
    first, second = layers.Dense(6, "relu", name="in"), layers.Dense(4, name="out")
    y = x + second(first(x))
    model = keras.Model(x, layers.Dense(1)(layers.LayerNormalization()(y + second(first(y)))))
    assert names(model) == {"in": ("ffn", 6)}


@pytest.mark.parametrize("mixed", [False, True])
def test_untraceable_layer_is_reported_not_raised(mixed):
    class Odd(layers.Layer):
        def __init__(self):
            super().__init__(name="odd")
            self.a, self.b = layers.Dense(4), layers.Dense(2)

        def build(self, shape):
            self.a.build(shape)
            self.b.build((None, 4))

        def call(self, x):
            if not hasattr(x, "numpy") and isinstance(x, keras.KerasTensor):
                raise TypeError("only numbers")
            return self.b(keras.ops.softmax(self.a(x)) if mixed else self.a(x))

        def compute_output_spec(self, x):
            return keras.KerasTensor((None, 2))

    x = keras.Input((3,))
    model = keras.Model(x, Odd()(x))
    if mixed:
        assert "only numbers" in reasons(model)["odd"]
    else:  # It is run, and its units are told by that.
        assert names(model) == {f"odd/{model.layers[1].a.name}": ("ffn", 4)}


def test_grouped_query_attention_counts_key_value_groups():
    x = keras.Input((3, 8))
    model = keras.Model(x, layers.GroupQueryAttention(4, 4, 2, name="gqa")(x, x))
    assert names(model) == {"gqa": ("heads", 2)}


def test_keras_hub():
    keras_hub = pytest.importorskip("keras_hub")
    x, y = keras.Input((3, 8)), keras.Input((4, 8))
    encoded = keras_hub.layers.TransformerEncoder(12, 2, name="encoder")(y)
    decoded = keras_hub.layers.TransformerDecoder(10, 2, name="decoder")(x, encoded)
    assert names(keras.Model([x, y], decoded)) == {
        "encoder/self_attention_layer": ("heads", 2),
        "encoder/feedforward_intermediate_dense": ("ffn", 12),
        "decoder/self_attention": ("heads", 2),
        "decoder/cross_attention": ("heads", 2),
        "decoder/feedforward_intermediate_dense": ("ffn", 10),
    }


def test_select():
    found = find_structures(transformer())
    assert [s.name for s in found.select("ffn")] == ["ffn_in"]
    assert [s.name for s in found.select(["att.*"])] == ["attention"]
    assert len(found.select(None)) == 2
    with pytest.raises(ValueError, match=r"matches no structure.*'embedding'"):
        found.select(["embedding"])
    with pytest.raises(ValueError, match="no regular expression"):
        found.select(["("])


def test_bad_models():
    with pytest.raises(ValueError, match="must be a Keras model"):
        find_structures("model")
    with pytest.raises(ValueError, match="must be built"):
        find_structures(keras.Sequential([layers.Dense(2)]))


@pytest.mark.parametrize("patterns", [[], 3, [3], [None], True, ["ffn", 3], b"ffn", {"ffn": 1}, ()])
def test_what_is_no_pattern(patterns):
    with pytest.raises(ValueError, match="`structures` must be a kind, a name or a regular"):
        find_structures(transformer()).select(patterns)


@pytest.mark.parametrize(
    "index, error", [(99, IndexError), (-3, IndexError), ("other", KeyError), (1.5, TypeError)]
)
def test_an_unknown_structure_is_answered_with_those_there_are(index, error):
    structures = find_structures(transformer())
    with pytest.raises(error, match=r"attention, ffn_in\."):
        structures[index]
    assert structures[np.int64(-1)].name == "ffn_in" and len(structures[:1]) == 1


def test_what_a_wrapper_of_keras_hides_is_listed():
    model = keras.Sequential(
        [
            keras.Input((8, 16)),
            layers.TimeDistributed(layers.Dense(32, "relu", name="inner"), name="each"),
            layers.Bidirectional(layers.LSTM(4, return_sequences=True), name="both"),
            layers.Dense(1, name="out"),
        ]
    )
    reasons = {s.name: s.reason for s in find_structures(model).skipped}
    assert "TimeDistributed calls it" in reasons["each/inner"]
    assert set(reasons) == {"each/inner", "out"}


class TwoWays(layers.Layer):
    """Does one thing before and another one after, told by a flag."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.both = layers.Dense(4, name="both")
        self.first, self.second = ([layers.Dense(6), layers.Dense(4)] for _ in range(2))

    def call(self, x, before=True):
        x = self.both(x)
        up, down = self.first if before else self.second
        return down(up(x))

    def get_config(self):
        return super().get_config()


def test_a_layer_that_is_called_in_two_ways():
    x = keras.Input((3, 4))
    layer = TwoWays(name="ways")
    model = randomize(keras.Model(x, layers.Dense(2)(layer(layer(x), before=False))))
    found = find_structures(model)
    assert [(s.name, s.groups) for s in found] == [
        (f"ways/{layer.first[0].name}", 6),
        (f"ways/{layer.second[0].name}", 6),
    ]
    assert not [s for s in found.skipped if "no call" in s.reason]
    kill(model, lambda s: np.arange(s.groups) < 3)
    expected = outputs(model, noise(2, 3, 4))
    small = rebuild(model)
    assert_same(expected, outputs(small, noise(2, 3, 4)))
    assert small.count_params() < model.count_params()
