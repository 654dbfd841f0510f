"""What a criterion is, and how one is found by its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import keras
import numpy as np

from tfprune.arguments import called_with_one
from tfprune.configurable import Configurable
from tfprune.criteria import data as given
from tfprune.errors import in_one_line
from tfprune.structures import Structure, Structures

Scores = Callable[[Structure], np.ndarray] | Mapping[str, np.ndarray]
"""A function of a structure, or structure name to array; one score `(groups,)` for each group."""

_TRIED = 8
"""Examples of arrays that are tried."""

_CRITERIA: dict[str, type[Criterion]] = {}


class Criterion(Configurable):
    """Scores the groups of structures, and says what it needs for that.

    A criterion is one file: a subclass that implements `scores` and is registered under its name.
    Callbacks then take it by this name.

    Attributes:
        name: The name by which callbacks know it.
        needs_data: What the data is used for, in words for an error message; `None` if the
            criterion needs none.
        needs_labels: Whether it needs targets and a loss, `(x, y)`; without, `x` is enough.
        kinds: The kinds of structures that it can score; `None` means all.
        gives_errors: Whether scores say what is lost without a group, in a unit that is the same
            for all layers: a change of the loss, or an error. With a latency target,
            `within="error"` is then the default.
        within: What `tfprune.prune` compares by default, for targets other than a latency; see its
            `within`.
        expects_fit: Whether scores are errors after the weights that stay are fitted by least
            squares.

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
    gives_errors: ClassVar[bool] = False
    within: ClassVar[str] = "layer"
    expects_fit: ClassVar[bool] = False

    def __repr__(self) -> str:
        return f"<Criterion {self.name}>"

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

    def try_data(
        self, model: keras.Model, subject: keras.Model, data: Any, batches: int | None = None
    ) -> None:
        """Raises `ValueError` if the criterion cannot use the data, before training begins.

        By default nothing is tried. A criterion that runs the model overrides `try_batch`.

        Args:
            model: As in `scores`.
            subject: As in `scores`.
            data: As in `scores`.
            batches: As in `scores`.
        """
        if self.needs_data is None or type(self).try_batch is Criterion.try_batch:
            return
        given.check_data(data, batches)
        given.check_arrays(model, data)
        try:
            ready = given.as_the_layers_take_it(model, data, 1, _TRIED)
            self.try_batch(model, subject, *given.first_batch(ready, _TRIED, not self.needs_labels))
        except Exception as error:  # Whatever the model raises is the reason we report.
            raise ValueError(
                f"`data` must be what `fit` takes; criterion={self.name!r} needs {self.needs_data}."
                f" Its first batch cannot be used: {in_one_line(error)}"
            ) from error

    def try_batch(
        self, model: keras.Model, subject: keras.Model, x: Any, y: Any, weights: Any
    ) -> None:
        """Computes on one batch what `scores` needs; whatever it raises is what is wrong.

        Args:
            model: As in `scores`.
            subject: As in `scores`.
            x: Inputs of the model's layers.
            y: Targets, or `None`.
            weights: Sample weights, or `None`.
        """

    def check_structures(self, subject: keras.Model, structures: Structures) -> None:
        """Raises `ValueError` if the criterion cannot score one of the structures.

        Args:
            subject: The model that is pruned.
            structures: Its structures.
        """
        if self.kinds is None:
            return
        others = [s.name for s in structures if s.kind not in self.kinds]
        if others:
            raise ValueError(
                f"`structures` must be {' or '.join(self.kinds)} for criterion={self.name!r}. "
                f"Received: {', '.join(others)}"
            )


class ScoreFunction(Criterion):
    """A plain function of a structure as a criterion.

    Args:
        function: A `callable(structure)` that returns one score for each group, `(groups,)`.
    """

    def __init__(self, function: Callable[[Structure], np.ndarray]):
        self.function = function

    def scores(
        self,
        model: keras.Model,
        subject: keras.Model,
        structures: Structures,
        data: Any = None,
        batches: int | None = None,
    ) -> Scores:
        """The function itself."""
        return self.function


def register_criterion(criterion: type[Criterion]) -> type[Criterion]:
    """Lets callbacks find a criterion by its `name`, and Keras in saved configurations.

    A class decorator.

    Args:
        criterion: A subclass of `Criterion` with a `name`, whose arguments all have defaults.

    Returns:
        The class.

    Raises:
        ValueError: If it is no such class.

    Example: see `Criterion`.
    """
    is_one = isinstance(criterion, type) and issubclass(criterion, Criterion)
    if not is_one or not isinstance(criterion.name, str) or not criterion.name:
        raise ValueError(
            "`criterion` must be a subclass of `tfprune.criteria.Criterion` with a `name`. "
            f"Received: {criterion!r}"
        )
    _CRITERIA[criterion.name] = criterion
    return keras.saving.register_keras_serializable("tfprune.criteria", criterion.name)(criterion)


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
    <Criterion magnitude>
    >>> criteria.get(lambda structure: structure.norms()).needs_data is None
    True
    """
    criterion = _found(identifier)
    criterion.check_data(data)
    return criterion


def _found(identifier):
    if isinstance(identifier, Criterion):
        return identifier
    if isinstance(identifier, str) and identifier in _CRITERIA:
        return _CRITERIA[identifier]()
    if callable(identifier) and not isinstance(identifier, type):
        return ScoreFunction(called_with_one("criterion", identifier, "the structure"))
    raise ValueError(
        f"`criterion` must be {', '.join(map(repr, sorted(_CRITERIA)))}, a `Criterion`, no "
        f"class, or a function of a structure. Received: criterion={identifier!r}"
    )
