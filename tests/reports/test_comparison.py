import json

import numpy as np
import pytest

import tfprune
from tests.models import kill, randomize, transformer


def test_what_is_gone_is_named():
    model = transformer()
    small = tfprune.rebuild(model, keep={"attention": np.zeros(2, bool)})
    text = str(tfprune.compare(model, small, latency=False))
    assert "Nothing is left of attention: skipped at inference." in text
    assert "Nothing is left" not in str(tfprune.compare(model, model, latency=False))


@pytest.mark.tensorflow_only
def test_compare(tmp_path):
    model = randomize(transformer())
    model.compile("adam", "mse")
    kill(model, {"ffn_in": np.arange(12) >= 3, "attention": np.ones(2, bool)})
    small = tfprune.rebuild(model)
    result = tfprune.compare(model, small, sequence_length=4)
    before, after = result.figures["parameters"]
    assert (before, after) == (model.count_params(), small.count_params())
    assert result.figures["bytes of weights"] == (4 * before, 4 * after)
    assert result.survivors == {"attention": (0, 2), "ffn_in": (3, 12)}
    assert result.figures["FLOPs"][1] < result.figures["FLOPs"][0]
    assert result.latency_ratio > 0
    text = str(result)
    assert "LiteRT ms" in text and "ffn_in" in text
    assert json.loads(json.dumps(result.to_dict()))["survivors"]["ffn_in"] == [3, 12]
    result.plot(tmp_path / "s.png")
    assert (tmp_path / "s.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(ValueError, match="`after`"):
        tfprune.compare(model, None)
