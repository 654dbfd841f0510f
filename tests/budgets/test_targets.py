import keras
import numpy as np
import pytest
from keras import layers

import tfprune
from tests.models import randomize, transformer
from tfprune import criteria
from tfprune.budgets.choosing import choose
from tfprune.budgets.latency_table import LatencyTable
from tfprune.budgets.targets import Flops, Latency, Parameters, Sparsity

pytestmark = pytest.mark.sampled


def test_parameters_and_flops_are_those_of_the_rebuilt_model():
    model = randomize(transformer(width=16, units=64))
    structures = tfprune.find_structures(model)
    for target, count in (
        (Parameters("70%"), tfprune.count_parameters),
        (Flops(0.7, sequence_length=32), lambda m: tfprune.count_flops(m, sequence_length=32)),
    ):
        keep = choose(target, model, structures, criteria.magnitude)
        small = tfprune.rebuild(model, keep=keep)
        assert count(small) / count(model) == pytest.approx(0.7, abs=0.01)


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):
    """A convolution and two dense layers, whose `call` says nothing of the sizes."""

    def __init__(self, **options):
        super().__init__(**options)
        self.convolution = layers.Conv2D(8, 3, activation="relu", name="convolution")
        self.pool = layers.GlobalAveragePooling2D()
        self.hidden = layers.Dense(32, "relu", name="hidden")
        self.out = layers.Dense(3, name="out")

    def call(self, x):
        return self.out(self.hidden(self.pool(self.convolution(x))))


def test_flops_of_a_subclassed_model():
    model, x = Subclassed(), np.ones((2, 8, 8, 3), "float32")
    model(x)
    structures = tfprune.find_structures(randomize(model))
    assert {s.name for s in structures} >= {"hidden", "convolution"}
    keep = choose(Flops(0.6), model, structures, criteria.magnitude)
    small = tfprune.rebuild(model, keep=keep)
    assert tfprune.count_flops(small) / tfprune.count_flops(model) == pytest.approx(0.6, abs=0.05)


def chain(*units):
    dense = [layers.Dense(n, "relu", name=f"dense_{i}") for i, n in enumerate(units)]
    return randomize(keras.Sequential([keras.Input((8,)), *dense]))


def in_structures(model, small):
    """What the layers that structures cut have left of their weights."""
    return small.count_params() - model.layers[-1].units, model.count_params() - (
        model.layers[-1].units
    )


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_kernels_in_a_chain_count_once(share):
    # All that a chain has, but for the last bias, lies in groups; the kernels between two
    # structures in groups of both.
    model = chain(32, 48, 40, 4)
    structures = tfprune.find_structures(model)
    assert len(structures) == 3 and structures.weights == model.count_params() - 4
    keep = choose(Sparsity(share), model, structures, criteria.random(0))
    small = tfprune.rebuild(model, keep=keep)
    left, full = in_structures(model, small)
    assert 1 - share - 0.02 <= left / full <= 1 - share
    counts = {name: int(mask.sum()) for name, mask in keep.items()}
    assert structures.weights_left(counts) == left
    keep = choose(Parameters(1 - share), model, structures, criteria.random(0))
    small = tfprune.rebuild(model, keep=keep)
    assert 1 - share - 0.02 <= small.count_params() / model.count_params() <= 1 - share


def test_few_large_groups_meet_the_target():
    x = keras.Input((None, 16))
    y = x
    for index in range(3):
        y = layers.MultiHeadAttention(2, 8, name=f"attention_{index}")(y, y)
    model = randomize(keras.Model(x, layers.Dense(5)(layers.Dense(6, "relu", name="ffn")(y))))
    structures = tfprune.find_structures(model)
    for left in (0.9, 0.75, 0.5, 0.4):
        keep = choose(Parameters(left), model, structures, criteria.random(3))
        small = tfprune.rebuild(model, keep=keep)
        share = small.count_params() / model.count_params()
        head = structures["attention_0"].group_size / model.count_params()
        assert left - head <= share <= left


def test_flops_of_a_chain_are_those_of_the_rebuilt_model():
    model = chain(32, 48, 40, 4)
    structures = tfprune.find_structures(model)
    cost = Flops(0.5).cost(model, structures)
    draw = np.random.default_rng(0)
    full = tfprune.count_flops(model)
    for _ in range(4):
        keep = {s.name: draw.random(s.groups) < 0.6 for s in structures}
        flops = tfprune.count_flops(tfprune.rebuild(model, keep=keep))
        counts = {name: int(mask.sum()) for name, mask in keep.items()}
        assert cost(counts) == pytest.approx(flops / full, rel=1e-6)


def test_costs_take_tensors_and_have_gradients():
    model = chain(6, 5, 4, 2)
    structures = tfprune.find_structures(model)
    target = Parameters(0.5)
    cost = target.smooth(target.cost(model, structures), structures)
    counts = [(3.5, 4.0, 1.25), (6.0, 0.0, 4.0)]
    expected = [
        (8 * a + a + a * b + b + b * c + c + c * 2 + 2) / model.count_params() for a, b, c in counts
    ]
    columns = keras.ops.convert_to_tensor(np.array(counts, "float32").T)
    both = cost({s.name: columns[i] for i, s in enumerate(structures)})
    np.testing.assert_allclose(keras.ops.convert_to_numpy(both), expected, rtol=1e-6)
    one = cost({s.name: columns[i, 0] for i, s in enumerate(structures)})
    np.testing.assert_allclose(keras.ops.convert_to_numpy(one), expected[0], rtol=1e-6)
    as_numbers = {s.name: n for s, n in zip(structures, counts[0], strict=True)}
    assert cost(as_numbers) == pytest.approx(expected[0])

    def of(values):
        return cost({s.name: values[i] for i, s in enumerate(structures)})

    a, b, c = counts[
        1
    ]  # No group of the second is left: the gradient must come through all the same.
    slope = np.array([9 + b, a + 1 + c, b + 1 + 2]) / model.count_params()
    start = np.array(counts[1], "float32")
    if keras.backend.backend() == "jax":
        import jax

        found = jax.grad(of)(start)
    else:
        import tensorflow as tf

        values = tf.Variable(start)
        with tf.GradientTape() as tape:
            size = of(values)
        found = tf.convert_to_tensor(tape.gradient(size, values))
    np.testing.assert_allclose(np.asarray(found), slope, rtol=1e-5)


def test_structures_that_overlap_are_refused():
    model = chain(6, 5, 2)
    structures = tfprune.find_structures(model)
    twice = tfprune.structures.Structures([structures[0], tfprune.find_structures(model)[0]])
    with pytest.raises(ValueError, match="`structures` must not overlap"):
        twice.by_variable  # noqa: B018


def test_unreachable_targets_say_what_can_be_reached():
    model = randomize(transformer())
    structures = tfprune.find_structures(model)
    with pytest.raises(ValueError, match=r"`target` cannot be reached: 10.0% of the parameters"):
        choose(Parameters(0.1), model, structures, criteria.magnitude)
    table = LatencyTable(10.0, {s.name: [(0, 2.0), (s.groups, 0.0)] for s in structures})
    with pytest.raises(ValueError, match=r"3 ms was asked for, .* from 10 ms to 6 ms"):
        choose(Latency("3 ms", on=table), model, structures, criteria.magnitude)


def test_what_else_could_be_pruned_is_said_where_a_target_cannot_be_reached():
    """Between residual streams little is left to remove."""
    x = keras.Input((8, 8, 3))
    y = layers.Conv2D(12, 3, padding="same", name="stem")(x)
    inner = layers.Conv2D(2, 1, name="inner")(y)
    y = y + layers.Conv2D(12, 3, padding="same")(inner)
    model = keras.Model(x, layers.Dense(2)(layers.GlobalAveragePooling2D()(y)))
    found = tfprune.find_structures(model)
    one = found.select(["channels"])
    with pytest.raises(
        ValueError, match=r"of 1 structure as can.*\(stem\).*\['channels', 'width'\]"
    ):
        choose(Flops(0.1), model, one, criteria.magnitude)
    with pytest.raises(ValueError, match=r"of 2 structures as can be [^:]*$"):
        choose(Flops(0.0), model, found, criteria.magnitude)


def test_latency_follows_the_table(tmp_path):
    model = randomize(transformer())
    structures = tfprune.find_structures(model)
    table = LatencyTable(
        10.0, {"attention": [(0, 3.0), (1, 2.5), (2, 0.0)], "ffn_in": [(0, 4.0), (12, 0.0)]}
    )
    assert table.milliseconds({"attention": 1, "ffn_in": 6}) == pytest.approx(10 - 2.5 - 2)
    keep = choose(Latency("8 ms", on=table), model, structures, criteria.magnitude)
    left = {name: int(mask.sum()) for name, mask in keep.items()}
    assert table.milliseconds(left) == pytest.approx(8, abs=0.35)
    table.save(tmp_path / "table.json")
    assert LatencyTable.load(tmp_path / "table.json").milliseconds(left) == table.milliseconds(left)
    with pytest.raises(ValueError, match="no latency table"):
        LatencyTable.load(tmp_path / "none.json")
    with pytest.raises(ValueError, match="holds no 'other'"):
        table.milliseconds({"other": 1})


@pytest.mark.slow
@pytest.mark.tensorflow_only
def test_a_measured_table_covers_all_structures():
    model = randomize(transformer())
    table = LatencyTable.measure(model, shares=(0.0, 0.5), sequence_length=4, runs=3, warmup=1)
    assert table.full > 0 and table.about["runs"] == 3
    for s in tfprune.find_structures(model):
        left, saved = zip(*table.points[s.name], strict=True)
        assert left == (0, s.groups // 2, s.groups) and saved[-1] == 0
        assert list(saved) == sorted(saved, reverse=True)


@pytest.mark.parametrize(
    "make, name",
    [
        (lambda: Sparsity(1.5), "Sparsity"),
        (lambda: Sparsity(float("nan")), "Sparsity"),
        (lambda: Parameters("half"), "Parameters"),
        (lambda: Flops("160%"), "Flops"),
        (lambda: Flops("6.0.1%"), "Flops"),
        (lambda: Latency("8.0.1 ms", on=LatencyTable(1.0, {})), "Latency"),
        (lambda: Latency("8 s", on=LatencyTable(1.0, {})), "Latency"),
        (lambda: Latency(-1, on=LatencyTable(1.0, {})), "Latency"),
        (lambda: Latency("8 ms", on=None), "on"),
        (lambda: Latency("8 ms"), "on"),
        (lambda: Latency(True, on=LatencyTable(1.0, {})), "Latency"),
        (lambda: Sparsity(True), "Sparsity"),
        (lambda: Sparsity(None), "Sparsity"),
        (lambda: Sparsity([0.5]), "Sparsity"),
        (lambda: Flops(0.5, sequence_length=-1), "sequence_length"),
        (lambda: Flops(0.5, sequence_length=True), "sequence_length"),
        (lambda: Flops(0.5, sequence_length=1.5), "sequence_length"),
    ],
)
def test_bad_input(make, name):
    with pytest.raises(ValueError, match=f"`{name}`"):
        make()


def test_shares_in_words():
    assert Sparsity("30%").limit == Sparsity(0.3).limit == 0.7
    assert Parameters(" 40 % ").limit == Flops("40.%").limit == 0.4


def test_numbers_of_numpy_are_numbers():
    assert Sparsity(np.float32(0.5)).limit == 0.5
    assert Parameters(np.float64(0.4)).limit == Flops(np.float16(0.5)).limit - 0.1 == 0.4
    assert Latency(np.float32(3), on=LatencyTable(1.0, {})).limit == 3.0
    assert Flops(0.5, sequence_length=np.int64(3)).sequence_length == 3


@pytest.mark.tensorflow_only
def test_flops_of_a_model_that_reads_strings():
    text = keras.Input((1,), dtype="string", name="text")
    ids = layers.StringLookup(vocabulary=["a", "b"])(text)
    y = layers.Flatten()(layers.Embedding(4, 6)(ids))
    model = keras.Model(text, layers.Dense(2)(layers.Dense(5, "relu")(y)))
    with pytest.raises(ValueError, match="must read numbers.* the input 'text' of strings"):
        Flops(0.5).cost(model, tfprune.find_structures(model))
