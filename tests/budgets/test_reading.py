import pytest

import tfprune
from tfprune.budgets.reading import target_in_words


@pytest.mark.parametrize(
    "text, target",
    [
        ("sparsity 50%", tfprune.Sparsity("50%")),
        ("FLOPs 0.6", tfprune.Flops(0.6)),
        ("parameters 40%", tfprune.Parameters("40%")),
    ],
)
def test_targets_in_words(text, target):
    assert target_in_words(text) == target


@pytest.mark.parametrize("text", ["", "50%", "flops", "flops half", "flops 160%", "speed 2", None])
def test_what_names_no_target(text):
    with pytest.raises(ValueError, match="`target`"):
        target_in_words(text)
