import json

import keras
import numpy as np
from keras import layers

from tests.models import kill, randomize, transformer
from tfprune.rebuild import rebuild
from tfprune.reports.inspection import inspect


def with_embedding():
    """A table of 30 x 8, and 8 -> 12 -> 8 with biases, of which the last 3 units are zero."""
    ids = keras.Input((None,), dtype="int32")
    h = layers.Embedding(30, 8)(ids)
    h = h + layers.Dense(8)(layers.Dense(12, "relu", name="hidden")(h))
    model = randomize(keras.Model(ids, layers.LayerNormalization()(h)))
    kill(model, {"hidden": np.arange(12) >= 9})
    return model


def test_the_numbers_are_those_of_the_layers():
    found = inspect(with_embedding())
    in_groups = 12 * (8 + 1 + 8)
    # The bias behind the units and the two vectors of the normalization.
    assert found.kinds == {"ffn": in_groups, "embeddings": 240, "other": 8 + 16}
    assert found.parameters == sum(found.kinds.values())
    assert found.zero == {"hidden": 3} and found.zero_weights == 3 * (8 + 1 + 8)
    told = json.loads(json.dumps(found.to_dict()))
    assert told["kinds"]["embeddings"] == {"parameters": 240, "share": 240 / found.parameters}
    assert told["structures"] == [
        {"name": "hidden", "kind": "ffn", "groups": 12, "zero": 3, "weights": in_groups}
    ]


def test_zero_is_what_rebuild_cuts():
    model = randomize(transformer())
    # Heads whose outputs nobody reads, and units that emit a constant: their biases are left.
    kill(model, {"attention": [True, False]})
    kill(model, {"ffn_in": np.arange(12) < 5}, producers_only=True)
    before, after = inspect(model), inspect(rebuild(model))
    assert before.zero == {"attention": 1, "ffn_in": 5}
    assert {s.name: s.groups for s in after.structures} == {"attention": 1, "ffn_in": 7}
    assert before.parameters - after.parameters == before.zero_weights
    assert not any(after.zero.values()) and "are zero" not in str(after)


def test_what_is_printed():
    text = str(inspect(with_embedding()))
    assert "468 parameters by kind" in text and "51.3%" in text  # 240 of 468.
    assert "3 of 12 groups are zero: `rebuild` cuts them out, with 51 weights." in text
    nothing = str(inspect(keras.Sequential([keras.Input((4,)), layers.Dense(2)])))
    assert nothing.startswith("No structure that can be removed was found.\n")
    assert "Skipped" in nothing
    assert max(map(len, [*text.splitlines(), *nothing.splitlines()])) <= 80
