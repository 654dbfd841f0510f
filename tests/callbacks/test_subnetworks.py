"""Callbacks that leave a network for each group of examples."""

import keras
import numpy as np
import pytest
from keras import ops

import tfprune
from tests.models import Killed, compile_and_build, noise, randomize, share, transformer
from tfprune.callbacks import DynamicSparsity, HardConcreteGates
from tfprune.fit.by_subnetwork import examples_by_subnetwork
from tfprune.gates import HardConcrete, Subnetworks, attach, gates_of, subnetworks_of

pytestmark = pytest.mark.sampled

NAMES = ["en", "de", "es"]
LANGUAGE = np.arange(48) % 3
X = {"x": noise(48, 3, 8), "language": LANGUAGE}
# What is wanted differs by group, and hangs on other inputs.
Y = np.stack([X["x"][i, :, [k, k + 3, k + 4]].T for i, k in enumerate(LANGUAGE)])


def compiled(**options):
    model = randomize(transformer(heads=4, units=24, activation="gelu"))
    return compile_and_build(model, keras.optimizers.Adam(1e-3), "mse", **options)


def fit(model, *callbacks, epochs=3, **options):
    options = {"batch_size": 12, "verbose": 0, "shuffle": False, **options}
    return model.fit(X, Y, epochs=epochs, callbacks=list(callbacks), **options)


def assert_networks_are_those_of_the_gates(model, **at):
    together = model.predict(X, verbose=0)
    for i, name in enumerate(NAMES):
        small = tfprune.rebuild(model, subnetwork=name, **at)
        mine = i == LANGUAGE
        np.testing.assert_allclose(
            together[mine], small.predict(X["x"][mine], verbose=0), rtol=1e-4, atol=1e-4
        )


# -- hard concrete ---------------------------------------------------------------------------------


@pytest.mark.parametrize("penalty", ["lagrangian", "l1"])
def test_each_group_meets_the_target_by_itself(penalty, capsys):
    model = compiled()
    gates = HardConcreteGates(
        target=tfprune.Sparsity(0.5), subnetworks=NAMES, penalty=penalty, diversity=1.0
    )
    history = fit(model, gates, validation_data=(X, Y))
    assert np.isfinite(history.history["loss"]).all()
    assert set(gates.reached) == set(NAMES)
    for name in NAMES:
        assert gates.reached[name] == pytest.approx(0.5, abs=0.01)
        assert share(tfprune.rebuild(model, subnetwork=name), model) == pytest.approx(0.5, abs=0.01)
    assert_networks_are_those_of_the_gates(model)
    assert "HardConcreteGates of de: sparsity 50." in capsys.readouterr().out


def test_what_no_group_keeps_is_gone_from_the_weights():
    model = compiled()
    model.compile(keras.optimizers.Adam(1e-3), "mse")  # Its variables are made by the first step.
    fit(model, HardConcreteGates(target=tfprune.Sparsity(0.7), subnetworks=NAMES, verbose=0))
    for gate in gates_of(model):
        in_any = gate.open_groups().any(axis=0)
        assert np.array_equal(gate.structure.norms() > 0, in_any)


def test_training_goes_on_with_the_gates_and_a_further_fit_begins_anew():
    model = compiled()
    fit(model, HardConcreteGates(target=tfprune.Sparsity(0.5), subnetworks=NAMES, verbose=0))
    before = {g.name: g.open_groups() for g in gates_of(model)}
    fit(model)
    for gate in gates_of(model):
        np.testing.assert_array_equal(gate.open_groups(), before[gate.name])
    assert_networks_are_those_of_the_gates(model)
    again = HardConcreteGates(target=tfprune.Sparsity(0.6), subnetworks=NAMES, verbose=0)
    fit(model, again)
    assert gates_of(model) == list(again.gates)
    assert again.reached["en"] == pytest.approx(0.4, abs=0.05)  # A head is 11 %.


def test_diversity_drives_networks_apart():
    found = {}
    for strength, families in ((0.0, None), (30.0, None), (30.0, [["en", "de"]])):
        model = compiled()
        gates = HardConcreteGates(
            target=tfprune.Sparsity(0.5),
            subnetworks=NAMES,
            diversity=strength,
            families=families,
            score_learning_rate=0.3,
            start=0,
            stop=0.9,
            verbose=0,
        )
        fit(model, gates, epochs=12)
        found[strength, families is None] = tfprune.sharing(model).distances["all"]
    without, everyone, by_family = found[0.0, True], found[30.0, True], found[30.0, False]
    assert everyone[0, 1] > without[0, 1] + 0.1
    assert by_family[0, 1] < by_family[0, 2]


def mean_distance(**options):
    """The mean Hamming distance between three networks that all learn the same."""
    keras.utils.set_random_seed(0)
    inputs = {"x": keras.Input((16,), name="x"), "language": keras.Input((), name="language")}
    hidden = keras.layers.Dense(64, "relu", name="hidden")(inputs["x"])
    model = keras.Model(inputs, keras.layers.Dense(1)(hidden))
    model.compile(keras.optimizers.Adam(0.01), "mse")
    x = {"x": noise(512, 16), "language": np.arange(512) % 3}
    gates = HardConcreteGates(
        target=tfprune.Sparsity(0.5), subnetworks=NAMES, start=0, stop=0.75, verbose=0, **options
    )
    model.fit(x, x["x"][:, :1], epochs=10, verbose=0, callbacks=[gates])
    return tfprune.sharing(model).distances["all"][np.triu_indices(3, 1)].mean()


def test_networks_are_as_far_apart_as_wanted():
    assert mean_distance(diversity=10.0, distance=0.3) == pytest.approx(0.3, abs=0.06)
    assert mean_distance(diversity=10.0) > 0.36


def test_a_teacher_may_look_on():
    # Several inputs, not in the order of their names: Keras would take the wrong ones for them.
    def with_mask():
        inputs = {
            "x": keras.Input((None, 8), name="x"),
            "mask": keras.Input((None,), dtype="bool", name="mask"),
        }
        if keras.backend.backend() == "jax":  # There Keras calls it before callbacks see it.
            inputs["language"] = keras.Input((), dtype="int32", name="language")
        masked = inputs["x"] * ops.cast(inputs["mask"], "float32")[..., None]
        return randomize(keras.Model(inputs, transformer(heads=4, units=24)(masked)))

    teacher, student = with_mask(), with_mask()
    distiller = keras.distillation.Distiller(
        teacher, student, keras.distillation.LogitsDistillation(2.0, loss="mse")
    )
    distiller.compile(keras.optimizers.Adam(1e-3), "mse")
    x = {**X, "mask": np.ones((48, 3), bool)}
    gates = HardConcreteGates(target=tfprune.Sparsity(0.5), subnetworks=NAMES, verbose=0)
    distiller.fit(x, Y, batch_size=12, epochs=2, verbose=0, callbacks=[gates])
    # One unit is 2.5 % of the groups, one more than this would miss the target.
    left = share(tfprune.rebuild(student, subnetwork="es"), student)
    assert 0.475 < left <= 0.5
    assert gates.reached["es"] == pytest.approx(left)
    assert "call" not in vars(teacher)


# -- every size ------------------------------------------------------------------------------------


@pytest.mark.parametrize("train_gates", [False, True])
def test_each_group_has_a_network_of_each_size(train_gates):
    model = compiled()
    every = DynamicSparsity(
        [1.0, 0.5], data=(X, Y), subnetworks=NAMES, train_gates=train_gates, verbose=0
    )
    fit(model, every, epochs=4)
    for size in (1.0, 0.5):
        for name in NAMES:
            small = tfprune.rebuild(model, size=size, subnetwork=name)
            assert share(small, model) == pytest.approx(size, abs=0.04)
    assert_networks_are_those_of_the_gates(model)


def test_each_group_is_ranked_on_its_own_examples():
    model = compiled()
    fit(
        model,
        DynamicSparsity([1.0, 0.5], data=(X, Y), subnetworks=NAMES, start=0, verbose=0),
        epochs=0,
    )
    assert subnetworks_of(model) is None  # Nothing was trained, so nothing is left on.
    model = compiled()
    every = DynamicSparsity([1.0, 0.5], data=(X, Y), subnetworks=NAMES, start=0, verbose=0)
    fit(model, every, epochs=1)
    for i, name in enumerate(NAMES):
        alone = compiled()
        mine = i == LANGUAGE
        data = (X["x"][mine], Y[mine])
        one = DynamicSparsity([1.0, 0.5], data=data, start=0, verbose=0)
        alone.fit(X["x"], Y, epochs=1, verbose=0, callbacks=[one])
        for of_all, of_one in zip(every.gates, one.gates, strict=True):
            np.testing.assert_allclose(
                ops.convert_to_numpy(of_all.opens_at)[i], ops.convert_to_numpy(of_one.opens_at)
            )
        assert name in NAMES
    rankings = ops.convert_to_numpy(every.gates[0].opens_at)
    assert not np.array_equal(rankings[0], rankings[1])


@pytest.mark.slow
def test_killed_and_resumed_is_not_killed(tmp_path):
    def run(folder, *more):
        model = compiled()
        every = DynamicSparsity([1.0, 0.5], data=(X, Y), subnetworks=NAMES, verbose=0)
        fit(model, every, keras.callbacks.BackupAndRestore(folder), *more, epochs=4)
        return model

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", Killed(2))
    resumed, whole = run(tmp_path / "killed"), run(tmp_path / "whole")
    for name in NAMES:
        first, second = (tfprune.rebuild(m, size=0.5, subnetwork=name) for m in (resumed, whole))
        for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_the_frontier_is_that_of_one_group():
    model = compiled()
    fit(model, DynamicSparsity([1.0, 0.5], data=(X, Y), subnetworks=NAMES, verbose=0))
    mine = LANGUAGE == 1
    data = (X["x"][mine], Y[mine])
    found = tfprune.sizes(model, data, (1.0, 0.5), subnetwork="de", latency=False, verbose=0)
    small = tfprune.rebuild(model, size=0.5, subnetwork="de")
    small.compile(loss="mse")
    assert found.rows[1]["loss"] == pytest.approx(small.evaluate(*data, verbose=0), rel=1e-4)
    assert found.rows[1]["parameters"] == small.count_params()


# -- parts -----------------------------------------------------------------------------------------


class Batches(keras.utils.PyDataset):
    """Two lengths; each batch holds all groups."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        length = 2 + index % 2
        rows = slice(12 * index, 12 * index + 12)
        x = {"x": X["x"][rows, :length], "language": LANGUAGE[rows]}
        return x, Y[rows, :length], np.arange(48)[rows]


def as_list():
    data = Batches()
    return [data[i] for i in range(4)]


@pytest.mark.parametrize("data", [Batches(), as_list()], ids=["dataset", "iterable"])
def test_examples_of_a_group_are_all_of_them_once(data):
    mine = examples_by_subnetwork(data, Subnetworks(NAMES))["es"]
    batches = [mine[i] for i in range(len(mine))]
    assert sorted(np.concatenate([w for _, _, w in batches])) == [*np.flatnonzero(LANGUAGE == 2)]
    for x, y, weight in batches:
        length = x["x"].shape[1]
        np.testing.assert_array_equal(x["x"], X["x"][weight, :length])
        np.testing.assert_array_equal(y, Y[weight, :length])
        assert len(y) <= 12 and set(x["language"]) == {2}
    x, y = examples_by_subnetwork((X, Y), Subnetworks(NAMES))["de"]
    np.testing.assert_array_equal(y, Y[LANGUAGE == 1])


def test_examples_of_a_group_may_be_of_any_length():
    """Keras expects of all batches what is the same in the first two."""
    lengths = [3, 3, 3, 2]
    batches = [
        ({"x": noise(6, length, 8), "language": np.arange(6) % 2}, noise(6, length, 1))
        for length in lengths
    ]
    mine = examples_by_subnetwork(batches, Subnetworks(["en", "de"]))["de"]
    assert sorted(x["x"].shape[:2] for x, _ in (mine[i] for i in range(len(mine)))) == [
        (3, 2),
        (3, 3),
        (6, 3),
    ]
    x = {"x": keras.Input((None, 8)), "language": keras.Input(())}
    model = keras.Model(x, keras.layers.Dense(1)(x["x"]))
    model.compile("sgd", "mse")
    model.fit(mine, verbose=0)
    assert int(model.optimizer.iterations) == 3


def test_sharing_counts_what_one_has_and_the_other_has_not(tmp_path):
    model = transformer(heads=2, units=4)
    names = Subnetworks(["en", "de"])
    gates = attach(
        model, [HardConcrete(s, subnetworks=names) for s in tfprune.find_structures(model)]
    )
    fixed = {"heads": [[1, 1], [1, 0]], "ffn": [[1, 0, 0, 1], [0, 1, 0, 1]]}
    for gate in gates:
        gate.fix(np.array(fixed[gate.structure.kind], "float32"))
    found = tfprune.sharing(model)
    np.testing.assert_allclose(found.distances["heads"], [[0, 0.5], [0.5, 0]])
    np.testing.assert_allclose(found.distances["ffn"], [[0, 0.5], [0.5, 0]])
    np.testing.assert_allclose(found.left["heads"], [1, 0.5])
    sizes = {s.kind: s.group_size for s in tfprune.find_structures(model)}
    apart = (sizes["heads"] + 2 * sizes["ffn"]) / (2 * sizes["heads"] + 4 * sizes["ffn"])
    assert found.distances["all"][0, 1] == pytest.approx(apart)
    assert "50.0%" in str(found) and found.to_dict()["names"] == ["en", "de"]
    found.plot(tmp_path / "sharing.png")
    assert (tmp_path / "sharing.png").stat().st_size > 1000
    with pytest.raises(ValueError, match="given `subnetworks`"):
        tfprune.sharing(transformer())


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda: HardConcreteGates(strength=1.0, diversity=1.0),
            "`subnetworks`, which is not given",
        ),
        (lambda: HardConcreteGates(strength=1.0, subnetworks=["en"]), "two names or more"),
        (lambda: HardConcreteGates(strength=1.0, subnetworks=NAMES, diversity=-1), "at least 0"),
        (lambda: HardConcreteGates(strength=1.0, subnetworks=NAMES, distance=0.2), "`distance`"),
        (
            lambda: HardConcreteGates(strength=1.0, subnetworks=NAMES, families=[["en", "fr"]]),
            "'en', 'de', 'es'.*'fr'",
        ),
        (lambda: DynamicSparsity(subnetworks=NAMES), "`data` must be given"),
        (
            lambda: DynamicSparsity(subnetworks=NAMES, data=(X, Y), diversity=1.0),
            "train_gates=True",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_data_must_tell_examples_apart():
    with pytest.raises(ValueError, match="an entry 'language' of x. Received: 'x'"):
        examples_by_subnetwork(({"x": X["x"]}, Y), Subnetworks(NAMES))
    with pytest.raises(ValueError, match="no example of 'fr'"):
        examples_by_subnetwork((X, Y), Subnetworks([*NAMES, "fr"]))
    model = compiled()
    with pytest.raises(ValueError, match="'en', 'de', 'es'"):
        model.fit(
            X["x"],
            Y,
            verbose=0,
            callbacks=[HardConcreteGates(strength=1.0, subnetworks=NAMES, verbose=0)],
        )


class FirstStep(keras.callbacks.Callback):
    """Fails if a step is made."""

    def on_train_batch_begin(self, batch, logs=None):
        raise AssertionError("The first step has begun.")


def only_english(kind):
    x = {**X, "language": np.zeros(48, int)} if kind == "one" else {"x": X["x"]}
    data = (x, Y)
    if kind == "dataset":
        data = [({"x": X["x"][:12]}, Y[:12])]
    return data


@pytest.mark.parametrize("kind", ["one", "no entry", "dataset"])
def test_data_that_cannot_be_told_apart_is_refused_before_the_first_step(kind):
    every = DynamicSparsity(
        sizes=[1.0, 0.5], data=only_english(kind), subnetworks=NAMES, start=2, verbose=0
    )
    with pytest.raises(ValueError, match="`data`"):
        fit(compiled(), every, FirstStep())


def test_of_endless_data_as_many_batches_are_used_as_are_wanted():
    def endless():
        for number in range(1000):
            assert number < 6, "It goes on for ever."
            yield {"x": X["x"][:12], "language": LANGUAGE[:12]}, Y[:12]

    model = compiled()
    every = DynamicSparsity(
        sizes=[1.0, 0.5], data=endless(), batches=2, subnetworks=NAMES, start=0, verbose=0
    )
    fit(model, every, epochs=1)
    assert [tfprune.rebuild(model, subnetwork=n, size=0.5).count_params() for n in NAMES]
