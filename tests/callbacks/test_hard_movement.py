import numpy as np
from keras import ops

import tfprune
from tests.models import noise, randomize, transformer
from tfprune.callbacks.hard_movement import HardMovement
from tfprune.gates import BlockScores, MovementScores, attach
from tfprune.gates.gate import kernels_of


def test_groups_are_masked_as_told_and_blocks_by_rank():
    model = randomize(transformer())
    structures = tfprune.find_structures(model)
    units, heads = structures["ffn_in"], structures["attention"]
    query = kernels_of(heads)[0]
    made = [MovementScores(units), BlockScores(heads, query, (4, 2))]
    (unit_gate, blocks) = attach(model, made)
    scores = noise(*blocks.scores.shape)
    blocks.set_scores(scores)
    stay = np.arange(12) % 3 > 0
    pruned = {units.name: np.zeros(12, bool), heads.name: np.array([False, True])}
    hard = HardMovement(
        [unit_gate, blocks],
        progress=lambda step: step / 10,
        survivors=lambda progress: {units.name: stay if progress == 0.6 else ~stay},
        share_of_blocks=lambda progress: progress,
        pruned=lambda structure: pruned[structure.name],
    )
    hard.mask(6)
    np.testing.assert_array_equal(ops.convert_to_numpy(unit_gate.mask), stay)
    # Blocks of the second head, whose columns are the second half, count as the lowest.
    order = scores.copy()
    order[:, order.shape[1] // 2 :] -= 100
    lowest = np.sort(order, axis=None)[: int(0.6 * order.size)].max()
    np.testing.assert_array_equal(ops.convert_to_numpy(blocks.mask), order > lowest)
    hard.end(10)
    assert not np.any(ops.convert_to_numpy(blocks.mask))
    np.testing.assert_array_equal(ops.convert_to_numpy(unit_gate.mask), stay)
