"""What a pruning callback writes into the logs of an epoch, as loggers read it."""

import csv

import keras
import numpy as np
import pytest

import tfprune
from tests.fit.methods import HALF, METHODS, compiled, each, fit
from tfprune import find_structures
from tfprune.callbacks import GroupLasso, HardConcreteGates, ImportancePruning, MovementPruning

pytestmark = pytest.mark.sampled

OWN = {
    "group lasso": {"penalty/group_lasso", "strength/ffn", "strength/heads"},
    "hard concrete": {"penalty/hard_concrete_gates", "distance/hard_concrete_gates"},
    "movement": {"distance/movement_pruning"},
    "importance": {"distance/importance_pruning"},
    "lottery": {"distance/head_lottery"},
    "dynamic": set(),
}


def zero_share(model, kinds):
    """The share of zeros in all variables that have groups of some kinds, each of which is one."""
    values = {
        id(s.variable): s.variable for t in find_structures(model).select(kinds) for s in t.slices
    }
    values = [keras.ops.convert_to_numpy(v) for v in values.values()]
    return sum(np.sum(v == 0) for v in values) / sum(v.size for v in values)


def magnitude(kind, share, **options):
    target = tfprune.Sparsity(share)
    return ImportancePruning(kind, target, criterion="magnitude", verbose=0, **options)


@each
def test_short_by_default_and_nothing_is_printed(method, capfd):
    history = fit(compiled(), METHODS[method](), epochs=4).history
    groups = {"groups/heads"} if method == "lottery" else {"groups/ffn", "groups/heads"}
    assert set(history) == {"loss", "sparsity"} | groups | OWN[method]
    assert all(type(n) is int for name in groups for n in history[name])
    assert capfd.readouterr().out == ""


def test_one_entry_for_each_structure_on_request():
    lasso = GroupLasso(
        strength={"ffn": 0.1, "heads": 0.3}, verbose=0, log_structures=True, stop=None
    )
    history = fit(compiled(), lasso, epochs=1).history
    assert history["groups/ffn_in"] == history["groups/ffn"] == [6]
    assert history["groups/attention"] == history["groups/heads"] == [2]
    assert history["strength/ffn_in"] == history["strength/ffn"] == pytest.approx([0.1])
    assert history["strength/attention"] == pytest.approx([0.3])


def test_sparsity_and_distance_are_those_of_the_weights():
    model = compiled()
    history = fit(model, magnitude(None, 0.5, start=6, within="kind"), epochs=2).history
    zeros = zero_share(model, None)
    assert 0.4 < zeros < 0.6
    np.testing.assert_allclose(history["sparsity"], [0, zeros], atol=1e-6)
    np.testing.assert_allclose(
        history["distance/importance_pruning"], [0.5, 0.5 - zeros], atol=1e-6
    )


def test_several_callbacks_have_one_sparsity_and_the_larger_distance():
    model = compiled()
    # Of 6 units 3 leave; of 2 heads one, later.
    first, second = magnitude("ffn", 0.5), magnitude("heads", 0.5, start=6)
    history = fit(model, first, second, epochs=2).history
    heads = zero_share(model, ["heads"])
    np.testing.assert_allclose(history["sparsity"][-1], zero_share(model, None), atol=1e-6)
    assert 0 < history["sparsity"][0] < history["sparsity"][1]
    np.testing.assert_allclose(
        history["distance/importance_pruning"], [0.5, max(0.5 - heads, 0)], atol=1e-6
    )


def test_the_distance_of_gates_is_that_of_their_expected_size_until_they_are_fixed():
    gates = HardConcreteGates(target=HALF, initial=0.0, stop=0.9, start=0.0, verbose=0)
    history = fit(compiled(), gates, epochs=2).history
    # σ(0 + 1.6) is the chance of each to be open to begin with, and the scores learn slowly.
    assert history["distance/hard_concrete_gates"][0] == pytest.approx(0.832 - 0.5, abs=0.1)
    assert history["sparsity"][0] == 0


def test_the_strength_of_movement_pruning_grows_and_ends():
    pruning = MovementPruning(
        strength=2.0,
        structures="ffn",
        start=0,
        stop=10,
        cool_down="fixed",
        check_every=1,
        verbose=0,
    )
    strengths = fit(compiled(), pruning, epochs=3).history["strength/ffn"]
    assert 0 < strengths[0] < strengths[1] < 2 and strengths[2] == 0


def test_csv_logger(tmp_path):
    path = tmp_path / "log.csv"
    logger = keras.callbacks.CSVLogger(str(path))
    fit(compiled(), magnitude("ffn", 0.5, start=6), logger, epochs=2)
    rows = list(csv.DictReader(path.open()))
    assert [row["groups/ffn"] for row in rows] == ["6", "3"]
    assert [float(row["sparsity"]) for row in rows] == [0.0, 0.5]
    assert [float(row["distance/importance_pruning"]) for row in rows] == [0.5, 0.0]


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    import tensorflow as tf

    logger = keras.callbacks.TensorBoard(str(tmp_path))
    fit(compiled(), magnitude("ffn", 0.5, start=6), logger, epochs=2)
    (path,) = (tmp_path / "train").glob("events.out.tfevents.*")
    read = {}
    for event in tf.compat.v1.train.summary_iterator(str(path)):
        for value in event.summary.value:
            if value.HasField("tensor"):
                read.setdefault(value.tag, []).append((event.step, tf.make_ndarray(value.tensor)))
    assert read["epoch_groups/ffn"] == [(0, 6), (1, 3)]
    assert read["epoch_sparsity"] == [(0, 0.0), (1, 0.5)]
    assert read["epoch_distance/importance_pruning"] == [(0, 0.5), (1, 0.0)]
