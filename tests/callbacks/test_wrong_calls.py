"""Wrong arguments of callbacks: an error that names the argument and says what would be right."""

import copy

import keras
import numpy as np
import pytest

import tfprune
from tests.fit.methods import HALF, METHODS, X, Y, compiled, each, each_mostly_slow, fit, values
from tests.models import transformer
from tfprune.callbacks import (
    DynamicSparsity,
    GroupLasso,
    HardConcreteGates,
    HeadLottery,
    ImportancePruning,
    MovementPruning,
)
from tfprune.schedules import Epoch

pytestmark = pytest.mark.sampled


@each
@pytest.mark.parametrize(
    "name, value",
    [
        ("structures", 3),
        ("structures", [3]),
        ("structures", []),
        ("structures", {"ffn": 1}),
        ("start", -1),
        ("start", "soon"),
        ("check_every", True),
        ("check_every", 0),
        ("check_every", "x"),
        ("verbose", "x"),
        ("verbose", 7),
        ("log_structures", "x"),
    ],
)
def test_what_all_share(method, name, value):
    if method == "dynamic" and name == "check_every":
        return  # It has no such argument.
    with pytest.raises(ValueError, match=rf"`{name}` must .*Received: {name}="):
        METHODS[method](**{name: value})


@pytest.mark.parametrize(
    "make",
    [
        lambda: GroupLasso(target=HALF, within="error"),
        lambda: HardConcreteGates(target=HALF, within="error"),
        lambda: MovementPruning(target=HALF, within="error"),
        lambda: HeadLottery(target=HALF, data=X, within="error"),
        lambda: DynamicSparsity([0.5], data=(X, Y), within="error"),
    ],
)
def test_errors_are_compared_only_where_scores_are_errors(make):
    with pytest.raises(ValueError, match="`within` must be one of .*Received: within='error'"):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: GroupLasso(start=5, stop=5),
        lambda: GroupLasso(start=0.5, stop=0.25),
        lambda: MovementPruning(target=HALF, start=0.8),
        lambda: ImportancePruning(
            target=HALF, criterion="magnitude", start=Epoch(2), stop=Epoch(1)
        ),
    ],
)
def test_what_stops_before_it_starts(make):
    with pytest.raises(ValueError, match="`stop` must come after `start`. Received: start="):
        make()


def test_what_stops_before_it_starts_in_this_fit():
    model = compiled()
    with pytest.raises(ValueError, match="`stop` must come after `start`"):
        fit(model, GroupLasso(start=Epoch(2), stop=3, verbose=0))
    assert len(model.weights) == 18


@pytest.mark.parametrize(
    "kind, options, name",
    [
        (GroupLasso, {"threshold": "x"}, "threshold"),
        (GroupLasso, {"relative_threshold": 1.0}, "relative_threshold"),
        (GroupLasso, {"words_per_batch": "x"}, "words_per_batch"),
        (GroupLasso, {"words_per_batch": 0}, "words_per_batch"),
        (GroupLasso, {"strength": "x"}, "strength"),
        (GroupLasso, {"step": 3}, "step"),
        (ImportancePruning, {"target": HALF, "criterion": "magnitude", "rounds": 1.5}, "rounds"),
        (ImportancePruning, {"target": HALF, "criterion": "magnitude", "rounds": 2}, "stop"),
        (ImportancePruning, {"target": HALF, "criterion": "magnitude", "round_to": 8}, "round_to"),
        (ImportancePruning, {"target": HALF, "criterion": "magnitude", "within": 3}, "within"),
        (ImportancePruning, {"target": HALF, "criterion": 3}, "criterion"),
        (ImportancePruning, {"target": 0.5, "criterion": "magnitude"}, "target"),
        (MovementPruning, {"target": HALF, "block": 32}, "block"),
        (MovementPruning, {"target": HALF, "block": (0, 32)}, "block"),
        (MovementPruning, {"target": HALF, "method": 3}, "method"),
        (MovementPruning, {"target": HALF, "score_learning_rate": "x"}, "score_learning_rate"),
        (MovementPruning, {"strength": 1.0, "cool_down": "x"}, "cool_down"),
        (HardConcreteGates, {"target": HALF, "warm_up": 2}, "warm_up"),
        (HardConcreteGates, {"target": HALF, "penalty": "l2"}, "penalty"),
        (HardConcreteGates, {"target": HALF, "initial": "x"}, "initial"),
        (HardConcreteGates, {"target": HALF, "seed": "x"}, "seed"),
        (HardConcreteGates, {"target": HALF, "diversity": "x"}, "diversity"),
        (DynamicSparsity, {"sizes": 0.5}, "sizes"),
        (DynamicSparsity, {"sizes": "abc"}, "sizes"),
        (DynamicSparsity, {"sizes": []}, "sizes"),
        (DynamicSparsity, {"sizes": [0.5, 2]}, "sizes"),
        (DynamicSparsity, {"seed": -1}, "seed"),
        (HeadLottery, {"target": HALF, "data": X, "heads_per_round": True}, "heads_per_round"),
        (HeadLottery, {"target": HALF, "data": X, "monitor": "a", "floor": "x"}, "floor"),
        (HeadLottery, {"target": HALF, "data": X, "monitor": 3}, "monitor"),
        (HeadLottery, {"target": HALF, "data": X, "stop_training": "no"}, "stop_training"),
        (DynamicSparsity, {"sandwich": "no"}, "sandwich"),
        (DynamicSparsity, {"train_gates": "no"}, "train_gates"),
        (GroupLasso, {"strength": {}}, "strength"),
        (GroupLasso, {"strength": {3: 0.1}}, "strength"),
        (GroupLasso, {"strength": lambda: 1.0}, "strength"),
        (ImportancePruning, {"target": tfprune.Sparsity, "criterion": "magnitude"}, "target"),
        (ImportancePruning, {"target": lambda: 0.5, "criterion": "magnitude"}, "target"),
        (ImportancePruning, {"target": HALF, "criterion": tfprune.criteria.Magnitude}, "criterion"),
        (ImportancePruning, {"target": HALF, "criterion": lambda: 1}, "criterion"),
        (ImportancePruning, {"target": HALF, "criterion": "random", "per_cost": "yes"}, "per_cost"),
        (
            ImportancePruning,
            {"target": HALF, "criterion": "random", "round_to": {"ffn": "8"}},
            "round_to",
        ),
        (HardConcreteGates, {"target": HALF, "subnetworks": 2}, "subnetworks"),
        (HardConcreteGates, {"target": HALF, "subnetworks": [["a"], ["b"]]}, "subnetworks"),
        (HardConcreteGates, {"target": HALF, "subnetworks": ["a", "b"], "families": 3}, "families"),
        (
            HardConcreteGates,
            {"target": HALF, "subnetworks": ["a", "b"], "families": [3]},
            "families",
        ),
    ],
)
def test_what_one_has(kind, options, name):
    with pytest.raises(ValueError, match=f"`{name}` must"):
        kind(**options)


def test_the_same_callback_twice():
    model, lasso = compiled(), GroupLasso(target=HALF, verbose=0)
    before = model.get_weights()
    with pytest.raises(ValueError, match="`callbacks` must hold .* once.*same GroupLasso twice"):
        fit(model, lasso, lasso)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_models_that_are_none():
    keras_2 = type("Model", (), {"__module__": "tf_keras.src.engine.training"})
    for model, message in (
        (keras_2(), "`model` must be a model of Keras 3"),
        (None, "`model` must be a Keras model"),
        (transformer(), "`model` must be compiled"),
    ):
        with pytest.raises(ValueError, match=message):
            GroupLasso().set_model(model)


def test_numbers_of_numpy():
    model = compiled()
    callback = ImportancePruning(
        target=tfprune.Sparsity(0.5),
        criterion="magnitude",
        start=np.int64(0),
        stop=np.float32(0.9),
        rounds=np.int64(2),
        check_every=np.int32(1),
        verbose=0,
    )
    fit(model, callback)
    assert callback.reached == pytest.approx(0.5, abs=0.1)


@each_mostly_slow("importance")
@pytest.mark.parametrize("used", [False, True])
def test_a_deep_copy_is_a_fresh_callback(method, used):
    """Tuners copy callbacks for each trial."""
    first = METHODS[method]()
    expected = compiled()
    fit(expected, first)
    original = first if used else METHODS[method]()
    again = copy.deepcopy(original)
    assert again is not original and again.get_config() == original.get_config()
    assert again.history == []
    keras.utils.set_random_seed(0)
    model = compiled()
    fit(model, again)
    if method != "hard concrete":  # Its model was made after other draws.
        for a, b in zip(values(expected), values(model), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_a_deep_copy_shares_its_data():
    class Data(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return X[:8], Y[:8]

        def __deepcopy__(self, memo):
            raise TypeError("cannot be copied")

    first = ImportancePruning(target=HALF, data=Data(), verbose=0)
    again = copy.deepcopy([first])[0]
    assert again.data is first.data
    fit(compiled(), again)
    assert again.reached == pytest.approx(0.5, abs=0.1)


def test_a_subclass_with_further_arguments_is_copied():
    class Mine(GroupLasso):
        def __init__(self, mine, **kwargs):
            super().__init__(**kwargs)
            self.mine = mine

    again = copy.deepcopy(Mine(3, strength=0.5, verbose=0))
    assert (again.mine, again.strength, again.verbose) == (3, 0.5, 0)


@pytest.mark.parametrize("given", [float("nan"), -0.5, None, "half", 50])
def test_a_function_that_gives_no_sparsity(given):
    callback = ImportancePruning(target=lambda step: given, criterion="magnitude", verbose=0)
    with pytest.raises(ValueError, match="`target` must be a function of the step .*at step"):
        fit(compiled(), callback)


def test_what_there_is_only_after_a_fit():
    lottery = METHODS["lottery"]()
    for function in (lottery.keep, lottery.table, lottery.plot, lottery.groups_left):
        with pytest.raises(ValueError, match="give the callback to `fit` first"):
            function()


def test_a_configuration_that_is_none():
    with pytest.raises(ValueError, match="`config` must be a dictionary"):
        GroupLasso.from_config(3)


def test_a_subclass_with_an_argument_by_place_is_copied():
    class Mine(GroupLasso):
        def __init__(self, structures, /, *, mine, **kwargs):
            super().__init__(structures, **kwargs)
            self.mine = mine

    first = Mine("ffn", mine=3, strength=0.5, verbose=0)
    for again in (copy.deepcopy(first), Mine.from_config(first.get_config())):
        assert (again.patterns, again.mine, again.strength) == (["ffn"], 3, 0.5)


@pytest.mark.parametrize("name", ["dataset", "data"])
def test_a_subclass_that_takes_data_by_another_name_is_copied(name):
    class Data:
        def __iter__(self):
            return iter([(X, Y)])

        def __deepcopy__(self, memo):
            raise TypeError("cannot be copied")

    class ByName(ImportancePruning):
        def __init__(self, dataset, **kwargs):
            super().__init__(data=dataset, **kwargs)

    class Passed(ImportancePruning):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)

    data = Data()
    first = (ByName if name == "dataset" else Passed)(**{name: data}, target=HALF, verbose=0)
    again = copy.deepcopy([first])[0]
    assert again is not first and again.data is data and again.target == first.target
