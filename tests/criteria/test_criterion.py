import json

import keras
import numpy as np
import pytest

import tfprune
from tests.models import noise, randomize, transformer
from tfprune import criteria
from tfprune.criteria import Criterion
from tfprune.criteria.criterion import _CRITERIA
from tfprune.gates import MovementScores, attach, detach

pytestmark = pytest.mark.sampled

X, Y = noise(6, 3, 8), noise(6, 3, 3, seed=2)


@pytest.fixture
def model():
    model = randomize(transformer())
    model.compile("sgd", "mse")
    return model


@pytest.fixture
def registry():
    before = dict(_CRITERIA)
    yield
    _CRITERIA.clear()
    _CRITERIA.update(before)


def test_by_name_each_is_its_function(model):
    structures = tfprune.find_structures(model)
    heads, units = structures.select(["heads"]), structures.select(["ffn"])

    def by_name(name, structures, data=None):
        criterion = criteria.get(name, data)
        criterion.check_structures(model, structures)
        scores = criterion.scores(model, model, structures, data)
        return np.concatenate([scores(s) for s in structures])

    def of(function):
        return np.concatenate([function(s) for s in structures])

    np.testing.assert_array_equal(by_name("magnitude", structures), of(criteria.magnitude))
    np.testing.assert_array_equal(by_name("random", structures), of(criteria.random(0)))
    np.testing.assert_allclose(
        by_name("gradient_importance", structures, (X, Y)),
        of(criteria.gradient_importance(model, (X, Y))),
        rtol=1e-5,
    )
    expected = criteria.attention_confidence(model, X)["attention"]
    for data in (X, (X, Y)):  # Targets are not needed, and not in the way.
        np.testing.assert_allclose(by_name("attention_confidence", heads, data), expected)
    for name in ("activation", "wanda", "reconstruction"):
        expected = of(getattr(criteria, name)(model, X))
        for data in (X, (X, Y)):
            np.testing.assert_allclose(by_name(name, structures, data), expected)
    gates = attach(model, [MovementScores(units[0])])
    gates[0].scores.assign(np.arange(12.0))
    np.testing.assert_array_equal(by_name("movement", units), np.arange(12.0))
    detach(model)


def test_the_options_of_a_criterion_are_used(model):
    structures = tfprune.find_structures(model)
    scores = criteria.GradientImportance(per="batch").scores(model, model, structures, (X, Y))
    expected = criteria.gradient_importance(model, (X, Y), per="batch")
    np.testing.assert_allclose(scores["ffn_in"], expected["ffn_in"], rtol=1e-5)
    x = noise(64, 3, 8)
    first = criteria.GradientImportance().scores(model, model, structures, (x, noise(64, 3, 3)), 1)
    alone = criteria.gradient_importance(model, (x[:32], noise(64, 3, 3)[:32]))
    np.testing.assert_allclose(first["ffn_in"], alone["ffn_in"], rtol=1e-4)
    drawn = criteria.Random(seed=3).scores(model, model, structures)(structures["ffn_in"])
    np.testing.assert_array_equal(drawn, criteria.random(3)(structures["ffn_in"]))


def test_a_criterion_says_what_it_needs(model):
    structures = tfprune.find_structures(model)
    expected = {
        "activation": True,
        "attention_confidence": True,
        "gradient_importance": True,
        "magnitude": False,
        "movement": False,
        "random": False,
        "reconstruction": True,
        "wanda": True,
    }
    known = {name: _CRITERIA[name] for name in expected}  # Examples register others.
    assert {name: c.needs_data is not None for name, c in known.items()} == expected
    assert [name for name, c in known.items() if c.needs_labels] == ["gradient_importance"]
    for name in (
        "gradient_importance",
        "attention_confidence",
        "activation",
        "wanda",
        "reconstruction",
    ):
        with pytest.raises(ValueError, match=f"`data` must be given for criterion='{name}'"):
            criteria.get(name)
    with pytest.raises(ValueError, match="`structures` must be heads .* Received: ffn_in"):
        criteria.get("attention_confidence", X).check_structures(model, structures)
    with pytest.raises(ValueError, match="carries no movement scores"):
        criteria.get("movement").check_structures(model, structures)
    attach(model, [MovementScores(structures["ffn_in"])])
    with pytest.raises(ValueError, match="No movement scores .*'attention'"):
        criteria.get("movement").check_structures(model, structures)


def test_an_unknown_criterion_is_refused():
    with pytest.raises(ValueError, match="`criterion` must be .*'magnitude'.* criterion='size'"):
        criteria.get("size")
    with pytest.raises(ValueError, match="`criterion` must be"):
        criteria.get(3)
    with pytest.raises(ValueError, match="`per`"):
        criteria.GradientImportance(per="token")


def test_a_function_is_a_criterion(model):
    structures = tfprune.find_structures(model)
    criterion = criteria.get(lambda structure: np.arange(structure.groups))
    criterion.check_structures(model, structures)
    scores = criterion.scores(model, model, structures)
    np.testing.assert_array_equal(scores(structures["ffn_in"]), np.arange(12))


def test_serialized_and_made_again():
    for criterion in (
        criteria.Activation(),
        criteria.Magnitude(),
        criteria.AttentionConfidence(),
        criteria.GradientImportance("batch"),
        criteria.Movement(),
        criteria.Random(seed=7),
        criteria.Reconstruction(ridge=0.1, at_once=0.5),
        criteria.Wanda(),
    ):
        written = json.loads(json.dumps(keras.saving.serialize_keras_object(criterion)))
        again = keras.saving.deserialize_keras_object(written)
        assert type(again) is type(criterion)
        assert again.get_config() == criterion.get_config()
    every = tfprune.callbacks.DynamicSparsity([1.0, 0.5], criterion=criteria.Random(seed=7))
    again = tfprune.callbacks.DynamicSparsity.from_config(every.get_config())
    assert criteria.get(again.criterion).seed == 7


def test_a_new_criterion_is_known_to_the_callbacks(model, registry):
    class Reversed(Criterion):
        name = "reversed"

        def scores(self, model, subject, structures, data=None, batches=None):
            return {s.name: -np.arange(s.groups) for s in structures}

    with pytest.raises(ValueError, match="`criterion`"):
        criteria.get("reversed")
    assert criteria.register_criterion(Reversed) is Reversed
    assert type(criteria.get("reversed")) is Reversed
    structures = tfprune.find_structures(model).select(["ffn"])
    half = tfprune.callbacks.ImportancePruning(
        ["ffn"], tfprune.Sparsity(0.5), criterion="reversed", verbose=0
    )
    model.fit(X, Y, epochs=1, verbose=0, callbacks=[half])
    np.testing.assert_array_equal(structures[0].norms() > 0, np.arange(12) < 6)
    with pytest.raises(ValueError, match="with a `name`"):
        criteria.register_criterion(keras.layers.Layer)
    with pytest.raises(ValueError, match="with a `name`"):
        criteria.register_criterion(type("Nameless", (Criterion,), {}))
