"""What is written to files while layers compute with something else than their weights.

A file is that of an ordinary model, whoever saves it: it holds the weights that the layers compute
with outside training. A backup from which a fit is to be resumed holds those that are trained.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar

import keras
from keras import ops

from tfprune.overlay.folding import Transform, folded

_IS_BACKUP: ContextVar[bool] = ContextVar("is_backup", default=False)


@contextmanager
def backing_up() -> Iterator[None]:
    """Makes what is saved inside a `with` block a backup of what is trained."""
    token = _IS_BACKUP.set(True)
    try:
        yield
    finally:
        _IS_BACKUP.reset(token)


def is_backup() -> bool:
    """Whether what is saved now is a backup."""
    return _IS_BACKUP.get()


@contextmanager
def as_computed(
    transformed: Iterable[tuple[keras.Variable, Sequence[Transform]]],
) -> Iterator[None]:
    """Writes transforms into variables while they are saved, unless it is a backup.

    Args:
        transformed: Pairs of a variable and the transforms that files hold.
    """
    with ExitStack() as undo:
        for variable, transforms in () if is_backup() else transformed:
            if transforms:
                undo.callback(variable.assign, ops.convert_to_numpy(variable).copy())
                variable.assign(folded(variable, transforms))
        yield
