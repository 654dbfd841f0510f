import numpy as np

from tests.models import randomize, transformer
from tfprune.structures import find_structures


def test_norms_are_those_of_all_weights_of_a_group():
    model = randomize(transformer())
    structure = find_structures(model)["attention"]
    layer = model.get_layer("attention")
    for head in range(2):
        parts = [
            np.asarray(d.kernel)[:, head]
            for d in (layer.query_dense, layer.key_dense, layer.value_dense)
        ]
        parts += [
            np.asarray(d.bias)[head]
            for d in (layer.query_dense, layer.key_dense, layer.value_dense)
        ]
        parts.append(np.asarray(layer.output_dense.kernel)[head])
        expected = np.sqrt(sum((p**2).sum() for p in parts))
        np.testing.assert_allclose(structure.norms()[head], expected, rtol=1e-6)


def test_scale_kills_groups_even_if_not_finite():
    model = randomize(transformer())
    structure = find_structures(model)["ffn_in"]
    kernel = np.asarray(model.get_layer("ffn_in").kernel).copy()
    broken = kernel.copy()
    broken[0, 3] = np.nan
    model.get_layer("ffn_in").kernel.assign(broken)
    alive = np.ones(12, "float32")
    alive[3] = 0
    structure.scale(alive)
    after = np.asarray(model.get_layer("ffn_in").kernel)
    assert np.all(after[:, 3] == 0)
    np.testing.assert_array_equal(np.delete(after, 3, 1), np.delete(kernel, 3, 1))
    assert np.all(np.asarray(model.get_layer("ffn_out").kernel)[3] == 0)
