"""No model of the matrix loses what `benchmarks/results/models.json` says that it can.

All of them are checked. Exporting takes most of the time, so one in eight is exported here;
`benchmarks/models.py` exports all.
"""

import json
from functools import cache
from pathlib import Path

import keras
import pytest

from tests.matrix.answers import NOT_ALIKE, exactness, is_wrong, lost, share_of
from tests.matrix.case import Case, numbers
from tests.matrix.checking import check
from tests.matrix.models import groups

pytestmark = pytest.mark.tensorflow_only  # The results are those of one backend.

RESULTS = json.loads(
    (Path(__file__).parents[2] / "benchmarks" / "results" / "models.json").read_text()
)
KNOWN = list(RESULTS["models"])


@cache
def models():
    pytest.importorskip("keras_hub")
    return {name: make for members in groups().values() for name, make in members.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", KNOWN)
def test_nothing_is_lost(name):
    now = check(models()[name], exported=KNOWN.index(name) % 8 == 0)
    keras.backend.clear_session()
    before = RESULTS["models"][name]
    assert set(is_wrong(now)) <= set(is_wrong(before)), now
    assert not lost(before, now)


@pytest.mark.slow
def test_all_models_are_in_the_results():
    assert RESULTS["groups"] == {group: list(members) for group, members in groups().items()}
    assert list(models()) == KNOWN


def dense():
    """One pair of dense layers, 8 units between them; 3 outputs."""
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(8, "relu")(inputs)
    return Case(keras.Model(inputs, keras.layers.Dense(3)(hidden)), numbers(4))


def test_what_is_said_of_a_pair_of_dense_layers():
    answers = check(dense)
    assert answers["weights"] == 67 and answers["kinds"] == {"ffn": 64}
    assert share_of(answers) == 64 / 67
    assert answers["how"] == "copy" and answers["exported"] == "ok"
    assert answers["small"] == round((4 * 4 + 4 + 4 * 3 + 3) / 67, 3) and answers["changed"] > 0.01
    for question in ("half", "whole", "saved", "again"):
        assert exactness(answers, question) == "exact"
    assert not is_wrong(answers) and not lost(answers, answers)


class Unknown(keras.layers.Layer):
    """No `get_config`, so a model with it is cut in place and does not save and load."""

    def __init__(self, hidden, out):
        super().__init__()
        self.hidden, self.out = hidden, out

    def call(self, x):
        return self.out(self.hidden(x))


def uncopyable():
    inputs = keras.Input((4,))
    layer = Unknown(keras.layers.Dense(8, "gelu"), keras.layers.Dense(3))
    return Case(keras.Model(inputs, layer(inputs)), numbers(4))


def test_what_is_said_of_a_model_that_cannot_be_copied():
    answers = check(uncopyable, exported=False)
    assert answers["how"] == "in place" and answers["saved"] == "not"
    assert exactness(answers, "half") == exactness(answers, "whole") == "exact"
    assert "exported" not in answers


def test_what_is_lost_and_what_is_wrong():
    before = {"weights": 100, "kinds": {"ffn": 90}, "half": 1e-7, "saved": 0.0, "exported": "ok"}
    assert not lost(before, {**before, "kinds": {"ffn": 60, "heads": 30}})
    assert len(lost(before, {**before, "kinds": {"ffn": 89}})) == 1
    assert len(lost(before, {**before, "half": "ValueError: no", "exported": "no"})) == 2
    assert is_wrong({**before, "half": 1e-2, "whole": NOT_ALIKE}) == ["half", "whole"]
    assert is_wrong({**before, "half": "RuntimeError: other outputs"}) == ["half"]
    assert not is_wrong({**before, "saved": "not", "whole": "ValueError: cannot be copied"})
