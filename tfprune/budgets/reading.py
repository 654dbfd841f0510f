"""Targets in words, as the command line takes them."""

from __future__ import annotations

from tfprune.budgets.targets import Flops, Parameters, Sparsity, Target

_TARGETS: dict[str, type[Target]] = {
    "sparsity": Sparsity,
    "parameters": Parameters,
    "flops": Flops,
}


def target_in_words(text: str) -> Target:
    """The target that a text names.

    Args:
        text: `"sparsity 50%"`, the share of the weights of units and heads that goes; or
            `"parameters 40%"` or `"flops 60%"`, the share of all parameters or operations that
            stays. A share may be a number too, such as `"flops 0.6"`.

    Returns:
        The target.

    Raises:
        ValueError: If it names none, or the share does not lie in [0, 1].

    Example:

    >>> target_in_words("flops 60%")
    Flops(left='60%', sequence_length=128)
    """
    words = text.lower().split() if isinstance(text, str) else []
    if len(words) != 2 or words[0] not in _TARGETS:
        raise ValueError(
            "`target` must be 'sparsity', 'parameters' or 'flops' and a share, such as "
            f"'flops 60%'. Received: {text!r}"
        )
    kind, share = words
    try:
        return _TARGETS[kind](share if share.endswith("%") else float(share))  # type: ignore[call-arg]
    except ValueError as error:
        raise ValueError(f"`target` must end in a share, such as '60%'. {error}") from error
