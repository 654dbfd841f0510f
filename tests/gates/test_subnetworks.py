"""Gates that tell examples apart, against the networks they stand for, cut out one by one."""

import keras
import numpy as np
import pytest
from keras import ops

import tfprune
from tests.gates.test_gates import Subclassed, grouped_query, keras_hub_encoder
from tests.models import noise, randomize, transformer
from tfprune.gates import (
    DynamicGate,
    Gate,
    HardConcrete,
    Size,
    Subnetworks,
    attach,
    detach,
    subnetworks_of,
)
from tfprune.gates.chosen_subnetwork import at_subnetwork
from tfprune.gates.subnetworks import input_names

pytestmark = pytest.mark.sampled

NAMES = ("en", "de", "es")
NUMBERS = np.array([2, 0, 1, 1, 0])
X = noise(5, 3, 8)


def with_ranks():
    ids = keras.Input((None,), dtype="int32")
    embedding = keras.layers.Embedding(9, 8)
    x = keras.layers.Dense(6, "gelu")(embedding(ids))
    return tfprune.factorize_embeddings(keras.Model(ids, keras.layers.Dense(2)(x)), rank=5)


MODELS = [transformer, grouped_query, keras_hub_encoder, with_ranks]


def gated(model, seed=0):
    """Lays gates over a model: closed, half open and open ones, other ones for each name."""
    rng = np.random.default_rng(seed)
    subnetworks = Subnetworks(NAMES)
    structures = [*tfprune.find_structures(model)]
    gates = attach(model, [HardConcrete(s, subnetworks=subnetworks) for s in structures])
    for gate in gates:
        gate.fix(rng.choice([0.0, 0.5, 1.0], size=gate.shape).astype("float32"))
    return gates


def data_for(make):
    if make is with_ranks:
        return np.random.default_rng(3).integers(0, 9, (5, 4))
    return X


@pytest.mark.parametrize("make", MODELS)
def test_each_example_goes_through_its_own_network(make):
    model = make()
    randomize(model)
    gated(model)
    x = data_for(make)
    together = model.predict({input_names(model)[0]: x, "language": NUMBERS}, verbose=0)
    for i, name in enumerate(NAMES):
        alone = tfprune.rebuild(model, subnetwork=name)
        assert alone.count_params() < model.count_params()
        mine = i == NUMBERS
        np.testing.assert_allclose(
            together[mine], alone.predict(x[mine], verbose=0), rtol=1e-5, atol=1e-5
        )
    assert np.ptp([np.abs(t).sum() for t in together]) > 0


def test_a_subclassed_model_takes_the_numbers_beside_its_own_inputs():
    class OfDictionary(Subclassed):
        def call(self, inputs, training=None):
            return super().call(inputs["x"])

    model = OfDictionary()
    x = {"x": X, "language": NUMBERS}
    model(x)
    randomize(model)
    gated(model)
    together = model.predict(x, verbose=0)
    with at_subnetwork(model, "de"):
        alone = model.predict({"x": X}, verbose=0)
    mine = NUMBERS == 1
    np.testing.assert_allclose(together[mine], alone[mine], rtol=1e-5, atol=1e-6)
    assert not np.allclose(together[~mine], alone[~mine])


@pytest.mark.parametrize("as_dictionary", [True, False])
def test_an_input_for_the_gates_alone_is_gone_after_rebuild(as_dictionary):
    inner = transformer()
    x = keras.Input((3, 8), name="x")
    language = keras.Input((), dtype="int32", name="language")
    inputs = {"x": x, "language": language} if as_dictionary else [x, language]
    model = keras.Model(inputs, inner(x))
    randomize(model)
    gated(model)
    given = {"x": X, "language": NUMBERS} if as_dictionary else [X, NUMBERS]
    together = model.predict(given, verbose=0)
    small = tfprune.rebuild(model, subnetwork="es")
    assert [t.name for t in small.inputs] == ["x"]
    alone = small.predict({"x": X} if as_dictionary else X, verbose=0)
    np.testing.assert_allclose(together[:1], alone[:1], rtol=1e-5, atol=1e-6)


def test_an_input_that_the_model_reads_itself_stays():
    x = keras.Input((8,), name="x")
    language = keras.Input((), dtype="int32", name="language")
    of_language = keras.layers.Embedding(3, 8)(language)
    h = keras.layers.Dense(6, "relu")(x + of_language)
    model = keras.Model([x, language], keras.layers.Dense(2)(h))
    gated(model)
    given = [noise(5, 8), NUMBERS]
    small = tfprune.rebuild(model, subnetwork="es")
    assert [t.name for t in small.inputs] == ["x", "language"]
    np.testing.assert_allclose(
        model.predict(given, verbose=0)[:1], small.predict(given, verbose=0)[:1], rtol=1e-5
    )


def test_a_dynamic_gate_opens_for_each_name_at_its_own_size():
    model = transformer()
    randomize(model)
    subnetworks, size = Subnetworks(NAMES), Size()
    structures = tfprune.find_structures(model)
    gates = attach(model, [DynamicGate(s, size, subnetworks=subnetworks) for s in structures])
    rng = np.random.default_rng(0)
    for gate in gates:
        groups = gate.structure.groups
        order = np.stack([rng.permutation(groups) + 1 for _ in NAMES]) / groups
        gate.rank(order, np.full(gate.shape, 0.99 / groups))
    small = tfprune.rebuild(model, size=0.5, subnetwork="de")
    left = {s.name: s.groups for s in tfprune.find_structures(small)}
    assert left == {s.name: s.groups // 2 for s in structures}
    size.size.assign(0.5)
    together = model.predict({"x": X, "language": NUMBERS}, verbose=0)
    mine = NUMBERS == 1
    np.testing.assert_allclose(
        together[mine], small.predict(X[mine], verbose=0), rtol=1e-5, atol=1e-5
    )


def test_gates_are_drawn_for_each_name():
    model = transformer()
    (first, *_) = tfprune.find_structures(model)
    gate = HardConcrete(first, initial=0.0, seed=1, subnetworks=Subnetworks(NAMES))
    drawn = ops.convert_to_numpy(gate.values(training=True))
    assert drawn.shape == (3, first.groups)
    assert len({tuple(row) for row in drawn}) == 3


def test_a_file_holds_the_weights_alone(tmp_path):
    model = transformer()
    randomize(model)
    before = model.predict(X, verbose=0)
    gated(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), before)


def test_half_precision_within_its_own_error():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = transformer()
    finally:
        keras.config.set_dtype_policy(before)
    randomize(model)
    gates = gated(model)
    assert {gate.fixed.dtype for gate in gates} == {"float32"}
    together = model.predict({"x": X, "language": NUMBERS}, verbose=0).astype("float32")
    for i, name in enumerate(NAMES):
        alone = tfprune.rebuild(model, subnetwork=name).predict(X, verbose=0).astype("float32")
        mine = i == NUMBERS
        np.testing.assert_allclose(together[mine], alone[mine], atol=0.05)


def test_taking_the_gates_off_gives_the_model_back():
    model = transformer()
    randomize(model)
    before = model.predict(X, verbose=0)
    gated(model)
    assert subnetworks_of(model).names == NAMES
    detach(model)
    assert subnetworks_of(model) is None and "call" not in vars(model)
    np.testing.assert_array_equal(model.predict(X, verbose=0), before)


def test_each_group_is_evaluated_on_its_own_network():
    model = transformer()
    randomize(model)
    gated(model)
    model.compile(loss="mse")
    y = noise(5, 3, 3, seed=7)
    for name in NAMES:  # One after the other, though Keras compiles `evaluate` once.
        small = tfprune.rebuild(model, subnetwork=name)
        small.compile(loss="mse")
        with at_subnetwork(model, name):
            loss = model.evaluate(X, y, verbose=0)
        assert loss == pytest.approx(small.evaluate(X, y, verbose=0), rel=1e-4)


def test_one_network_can_be_multiplied_into_the_weights():
    model = transformer()
    randomize(model)
    gated(model)
    small = tfprune.rebuild(model, subnetwork="de")
    with at_subnetwork(model, "de"):
        detach(model, fold=True)
    np.testing.assert_allclose(
        model.predict(X, verbose=0), small.predict(X, verbose=0), rtol=1e-5, atol=1e-5
    )


def test_what_is_missing_is_said():
    model = transformer()
    weights = model.get_weights()
    gated(model)
    with pytest.raises(ValueError, match="'en', 'de', 'es'.*`subnetwork=`"):
        tfprune.rebuild(model)
    with pytest.raises(ValueError, match="'en', 'de', 'es'.*'language'"):
        model(X)
    with pytest.raises(ValueError, match="one of 'en', 'de', 'es'.*'fr'"):
        tfprune.rebuild(model, subnetwork="fr")
    with pytest.raises(ValueError, match="'en', 'de', 'es'"):
        detach(model, fold=True)
    for before, after in zip(weights, model.get_weights()[: len(weights)], strict=True):
        np.testing.assert_array_equal(before, after)
    detach(model)
    with pytest.raises(ValueError, match="given `subnetworks`"):
        tfprune.rebuild(model, subnetwork="en")


@pytest.mark.parametrize("names", [["en"], "en", ["en", "en"]])
def test_names_must_be_several(names):
    with pytest.raises(ValueError, match="two names or more"):
        Subnetworks(names)


def test_gates_agree_on_who_is_told_apart():
    model = transformer()
    structures = tfprune.find_structures(model)
    mixed = [HardConcrete(structures[0], subnetworks=Subnetworks(NAMES))]
    mixed += [HardConcrete(s) for s in structures[1:]]
    with pytest.raises(ValueError, match="same `subnetworks`"):
        attach(model, mixed)
    with pytest.raises(ValueError, match="consumers"):
        Gate(structures[0], "all", subnetworks=Subnetworks(NAMES))
