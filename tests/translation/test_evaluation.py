"""Whether differences in BLEU are chance."""

import numpy as np
import pytest

from tfprune.translation import paired_bootstrap, score

WORDS = ["one", "two", "three", "four", "five", "six", "seven"]


def sentences(count, seed=0):
    draw = np.random.default_rng(seed)
    return [" ".join(draw.choice(WORDS, 6)) for _ in range(count)]


@pytest.mark.tensorflow_only
def test_the_same_translations_differ_by_chance_and_bad_ones_do_not():
    references = sentences(40)
    near = [text.replace("seven", "six") for text in references]
    far = sentences(40, seed=1)
    found = paired_bootstrap(references, near, {"same": list(near), "far": far}, samples=200)
    assert (found["same"]["bleu_p"], found["same"]["chrf_p"]) == (1, 1)
    assert found["far"]["bleu_p"] < 0.05
    assert found["far"]["bleu"] == score(far, references)["bleu"]
    assert np.isnan(found["baseline"]["bleu_p"])
    # No word right in either: they differ as texts, not in their scores.
    wrong = {"wrong": ["red green"] * 40}
    found = paired_bootstrap(references, ["blue white"] * 40, wrong, samples=20)
    assert found["wrong"]["bleu"] == found["baseline"]["bleu"] and found["wrong"]["bleu_p"] == 1
