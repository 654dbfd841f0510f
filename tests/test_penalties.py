import keras
import numpy as np
import pytest

from tests.models import randomize, transformer
from tfprune import penalties
from tfprune.structures import find_structures


def numpy(x):
    return keras.ops.convert_to_numpy(x)


def test_rows_columns_and_blocks_by_hand():
    w = np.array([[3.0, 0.0, 1.0], [4.0, 0.0, 1.0]], "float32")
    rows = np.sqrt(3) * (np.sqrt(10) + np.sqrt(17))
    columns = np.sqrt(2) * (5 + 0 + np.sqrt(2))
    blocks = np.sqrt(4) * 5 + np.sqrt(2) * np.sqrt(2)  # 2x2, and a 2x1 that is left over
    for groups, expected in (("rows", rows), ("columns", columns), ((2, 2), blocks)):
        penalty = penalties.GroupLassoRegularizer(0.5, groups)(keras.ops.convert_to_tensor(w))
        np.testing.assert_allclose(numpy(penalty), 0.5 * expected, rtol=1e-6)


def test_block_norms():
    w = np.random.default_rng(0).normal(size=(16, 24)).astype("float32")
    norms = numpy(penalties.block_norms(w, (8, 8)))
    assert norms.shape == (2, 3)
    np.testing.assert_allclose(norms[1, 2], np.linalg.norm(w[8:, 16:]), rtol=1e-6)


def test_joint_penalty_is_equation_1():
    model = randomize(transformer())
    structure = find_structures(model)["ffn_in"]
    w1, b1 = (np.asarray(numpy(v)) for v in model.get_layer("ffn_in").weights)
    w2 = numpy(model.get_layer("ffn_out").kernel)
    expected = sum(
        np.sqrt(8 + 1 + 8) * np.sqrt((w1[:, j] ** 2).sum() + b1[j] ** 2 + (w2[j] ** 2).sum())
        for j in range(12)
    )
    np.testing.assert_allclose(numpy(penalties.penalty(structure)), expected, rtol=1e-5)


def test_rowcol_penalty_is_equation_1():
    model = randomize(transformer())
    structure = find_structures(model)["ffn_in"]
    w1, b1 = (numpy(v) for v in model.get_layer("ffn_in").weights)
    w2 = numpy(model.get_layer("ffn_out").kernel)
    columns = np.sqrt(9) * np.sqrt((w1**2).sum(0) + b1**2).sum()
    rows = np.sqrt(8) * np.sqrt((w2**2).sum(1)).sum()
    got = numpy(penalties.penalty(structure, "rowcol"))
    np.testing.assert_allclose(got, columns + rows, rtol=1e-5)


@pytest.mark.parametrize("groups", ["joint", "rowcol"])
def test_factors_on_groups(groups):
    """A factor of one on a single group gives its part, which no other group has in it."""
    structure = find_structures(randomize(transformer()))["ffn_in"]
    one = np.eye(structure.groups, dtype="float32")
    each = [float(numpy(penalties.penalty(structure, groups, row))) for row in one]
    assert sum(each) == pytest.approx(float(numpy(penalties.penalty(structure, groups))), rel=1e-5)
    structure.scale(1 - one[3])
    after = [float(numpy(penalties.penalty(structure, groups, row))) for row in one]
    np.testing.assert_allclose(after, [*each[:3], 0.0, *each[4:]], rtol=1e-6)


def test_gradient_at_zero_is_zero():
    variable = keras.Variable(np.zeros((2, 2), "float32"))
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            value = penalties.GroupLassoRegularizer(1.0, "rows")(variable.value)
        gradient = tape.gradient(value, variable.value)
    else:
        import jax

        gradient = jax.grad(penalties.GroupLassoRegularizer(1.0, "rows"))(variable.value)
    np.testing.assert_array_equal(numpy(gradient), np.zeros((2, 2)))


def test_shrink_is_the_proximal_step():
    model = randomize(transformer())
    structure = find_structures(model)["ffn_in"]
    before = structure.norms()
    amount = float(np.median(before)) / np.sqrt(17)
    penalties.shrink(structure, amount)
    expected = np.maximum(0, before - amount * np.sqrt(17))
    np.testing.assert_allclose(structure.norms(), expected, rtol=1e-5, atol=1e-6)
    assert 0 < np.count_nonzero(structure.norms()) < 12


def test_some_groups_shrink():
    structure = find_structures(randomize(transformer()))["ffn_in"]
    before, chosen = structure.norms(), np.arange(12) % 3 == 0
    penalties.shrink(structure, 0.01, chosen)
    expected = np.where(chosen, before - 0.01 * np.sqrt(17), before)
    np.testing.assert_allclose(structure.norms(), expected, rtol=1e-5)


def test_head_dies_when_half_of_its_connections_are_dead():
    model = randomize(transformer())
    structure = find_structures(model)["attention"]
    layer = model.get_layer("attention")
    # 4 columns of each of query, key, value and 4 rows of the output: 16 connections.
    for dense in (layer.query_dense, layer.key_dense):
        kernel, bias = numpy(dense.kernel).copy(), numpy(dense.bias).copy()
        kernel[:, 0], bias[0] = 0, 0
        if dense is layer.key_dense:
            kernel[:, 1, :3], bias[1, :3] = 0, 0
        dense.kernel.assign(kernel)
        dense.bias.assign(bias)
    np.testing.assert_array_equal(penalties.dead_groups(structure, 1e-5, "rowcol"), [True, False])
    np.testing.assert_array_equal(penalties.dead_groups(structure, 1e-5), [False, False])


def test_the_threshold_is_one_of_absolute_sums():
    model = randomize(transformer())
    structure = find_structures(model)["ffn_in"]
    columns, bias = (numpy(v) for v in model.get_layer("ffn_in").weights)
    rows = np.abs(numpy(model.get_layer("ffn_out").kernel)).sum(axis=1)
    columns = np.abs(columns).sum(axis=0) + np.abs(bias)
    joint = penalties.dead_groups(structure, 6.0)
    np.testing.assert_array_equal(joint, columns + rows < 6.0)
    single = penalties.dead_groups(structure, 3.0, "rowcol")
    np.testing.assert_array_equal(single, (columns < 3.0) | (rows < 3.0))
    assert 0 < joint.sum() < 12 and 0 < single.sum() < 12


def test_the_threshold_of_root_mean_squares():
    structure = find_structures(randomize(transformer()))["ffn_in"]
    middle = float(np.median(penalties.root_mean_squares(structure)))
    dead = penalties.dead_groups(structure, 0.0, rms_threshold=middle)
    np.testing.assert_array_equal(dead, penalties.root_mean_squares(structure) <= middle)
    assert dead.sum() == 6


def test_round_trip_and_errors():
    lasso = penalties.GroupLassoRegularizer(0.1, (8, 8))
    again = keras.regularizers.deserialize(keras.regularizers.serialize(lasso))
    assert (again.strength, tuple(again.groups)) == (0.1, (8, 8))
    for bad in (-1.0, float("nan"), float("inf"), "much", True):
        with pytest.raises(ValueError, match="`strength`"):
            penalties.GroupLassoRegularizer(bad)
    with pytest.raises(ValueError, match="`groups`"):
        penalties.GroupLassoRegularizer(0.1, "diagonals")


@pytest.mark.parametrize(
    "groups", ["row", 3, None, (1.5, 2), ("a", "b"), (1, 2, 3), (0, 2), np.array([0, 2])]
)
def test_groups_that_are_none(groups):
    with pytest.raises(ValueError, match="`groups` must be .*Received: groups="):
        penalties.GroupLassoRegularizer(groups=groups)


@pytest.mark.parametrize("shape", [(3,), (3, 3, 2, 2), ()])
def test_what_is_no_matrix(shape):
    for function in (penalties.GroupLassoRegularizer(), penalties.block_norms):
        with pytest.raises(ValueError, match="`matrix` must have rows and columns"):
            function(np.ones(shape, "float32"))


@pytest.mark.parametrize(
    "name, call",
    [
        ("block", lambda s: penalties.block_norms(np.ones((3, 3), "float32"), (0, 1))),
        ("structure", lambda s: penalties.penalty(3)),
        ("groups", lambda s: penalties.penalty(s, "both")),
        ("groups", lambda s: penalties.dead_groups(s, 0.1, "both")),
        ("threshold", lambda s: penalties.dead_groups(s, "x")),
        ("rms_threshold", lambda s: penalties.dead_groups(s, 0.1, rms_threshold="x")),
        ("amount", lambda s: penalties.shrink(s, "x")),
        ("amount", lambda s: penalties.shrink(s, -1.0)),
        ("amount", lambda s: penalties.shrink(s, float("nan"))),
    ],
)
def test_wrong_calls_name_the_argument(name, call):
    with pytest.raises(ValueError, match=f"`{name}` must be .*Received: {name}="):
        call(find_structures(transformer())["ffn_in"])
