"""What a criterion is, and how one is found by its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import keras
import numpy as np

from tfprune.structures import Structure, Structures

Scores = Callable[[Structure], np.ndarray] | Mapping[str, np.ndarray]
"""A function of a structure, or structure name to array; one score `(groups,)` for each group."""

_CRITERIA: dict[str, type[Criterion]] = {}


class Criterion:
    """Scores the groups of structures, and says what it needs for that.

    A criterion is one file: a subclass that implements `scores` and is registered under its name.
    Callbacks then take it by this name.

    Attributes:
        name: The name by which callbacks know it.
        needs_data: What the data is used for, in words for an error message; `None` if the
            criterion needs none.
        needs_labels: Whether it needs targets and a loss, `(x, y)`; without, `x` is enough.
        kinds: The kinds of structures that it can score; `None` means all.

    Example:

    >>> import keras, tfprune
    >>> from tfprune.criteria import Criterion, get, register_criterion
    >>> @register_criterion
    ... class LargestNorm(Criterion):
    ...     name = "largest_norm"
    ...
    ...     def scores(self, model, subject, structures, data=None, batches=None):
    ...         return lambda structure: structure.norms()
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.Dense(3, "relu"), keras.layers.Dense(1)])
    >>> structures = tfprune.find_structures(model)
    >>> get("largest_norm").scores(model, model, structures)(structures[0]).shape
    (3,)
    """

    name: ClassVar[str | None] = None
    needs_data: ClassVar[str | None] = None
    needs_labels: ClassVar[bool] = False
    kinds: ClassVar[tuple[str, ...] | None] = None

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({options})"

    def scores(
        self,
        model: keras.Model,
        subject: keras.Model,
        structures: Structures,
        data: Any = None,
        batches: int | None = None,
    ) -> Scores:
        """The scores of structures; a higher score means a more important group.

        Args:
            model: The model that is trained, whose loss is used.
            subject: The model that is pruned: `model` itself, or the student of a distiller.
            structures: Structures of `subject`.
            data: A dataset or arrays.
            batches: How many batches of `data` to use; `None` means all.

        Returns:
            A `callable(structure)` or a mapping from structure names, to arrays `(groups,)`.
        """
        raise NotImplementedError

    def check_data(self, data: Any) -> None:
        """Raises `ValueError` if the criterion needs data and `data` is `None`."""
        if self.needs_data is not None and data is None:
            raise ValueError(
                f"`data` must be given for criterion={self.name!r}: {self.needs_data}. Received: "
                "data=None"
            )

    def check_structures(self, subject: keras.Model, structures: Structures) -> None:
        """Raises `ValueError` if the criterion cannot score one of the structures.

        Args:
            subject: The model that is pruned.
            structures: Its structures.
        """
        others = [s.name for s in structures if self.kinds and s.kind not in self.kinds]
        if others:
            raise ValueError(
                f"`structures` must be {' or '.join(self.kinds)} for criterion={self.name!r}. "
                f"Received: {', '.join(others)}"
            )

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the same criterion again."""
        return {}


class ScoreFunction(Criterion):
    """A plain function of a structure as a criterion.

    Args:
        function: A `callable(structure)` that returns one score for each group, `(groups,)`.
    """

    def __init__(self, function: Callable[[Structure], np.ndarray]):
        self.function = function

    def scores(self, model, subject, structures, data=None, batches=None):
        """The function itself."""
        return self.function

    def get_config(self):
        """The function, which only the program that defines it knows."""
        return {"function": self.function}


def register_criterion(criterion: type[Criterion]) -> type[Criterion]:
    """Lets callbacks find a criterion by its `name`; a class decorator.

    Args:
        criterion: A subclass of `Criterion` with a `name`, whose arguments all have defaults.

    Returns:
        The class.

    Raises:
        ValueError: If it is no such class.

    Example: see `Criterion`.
    """
    if not (isinstance(criterion, type) and issubclass(criterion, Criterion) and criterion.name):
        raise ValueError(
            "`criterion` must be a subclass of `tfprune.criteria.Criterion` with a `name`. "
            f"Received: {criterion!r}"
        )
    _CRITERIA[criterion.name] = criterion
    return criterion


def get(identifier: str | Criterion | Callable, data: Any = None) -> Criterion:
    """Finds a criterion, and checks that it has the data that it needs.

    Args:
        identifier: The name of a registered criterion, a `Criterion`, or a `callable(structure)`.
        data: What the criterion will be given; only whether there is any is checked.

    Returns:
        The criterion.

    Raises:
        ValueError: If the criterion is unknown or lacks data.

    Example:

    >>> from tfprune import criteria
    >>> criteria.get("magnitude")
    Magnitude()
    >>> criteria.get("gradient_importance").needs_labels
    Traceback (most recent call last):
    ...
    ValueError: `data` must be given for criterion='gradient_importance': what the loss is \
computed on, as a dataset or (x, y). Received: data=None
    """
    criterion = deserialize(identifier)
    criterion.check_data(data)
    return criterion


def serialize(criterion: Criterion) -> str | dict[str, Any]:
    """Writes a criterion down, for the configuration of a callback.

    Args:
        criterion: A registered criterion.

    Returns:
        Its name, or a dictionary of its `name` and `config` where it has options.

    Raises:
        ValueError: If it is a plain function, or not registered.

    Example:

    >>> from tfprune import criteria
    >>> criteria.serialize(criteria.get("magnitude"))
    'magnitude'
    """
    if _CRITERIA.get(criterion.name) is not type(criterion):
        raise ValueError(
            "`criterion` must be registered to be serialized: make it a subclass of "
            "`tfprune.criteria.Criterion` under `@register_criterion`. Received: "
            f"criterion={criterion!r}"
        )
    config = criterion.get_config()
    if config == type(criterion)().get_config():
        return criterion.name
    return {"name": criterion.name, "config": config}


def deserialize(identifier: str | Mapping | Criterion | Callable) -> Criterion:
    """Finds a criterion without a look at its data: the inverse of `serialize`.

    Args:
        identifier: What `get` takes, or what `serialize` has returned.

    Returns:
        The criterion.

    Raises:
        ValueError: If the criterion is unknown.

    Example:

    >>> from tfprune import criteria
    >>> criteria.deserialize({"name": "gradient_importance", "config": {"per": "batch"}})
    GradientImportance(per='batch')
    """
    if isinstance(identifier, Criterion):
        return identifier
    named = identifier if isinstance(identifier, Mapping) else {"name": identifier}
    if named.get("name") in _CRITERIA:
        return _CRITERIA[named["name"]](**named.get("config", {}))
    if callable(identifier):
        return ScoreFunction(identifier)
    raise ValueError(
        f"`criterion` must be {', '.join(map(repr, sorted(_CRITERIA)))} or a function of a "
        f"structure. Received: criterion={identifier!r}"
    )
