"""The first examples of what a user gives as data."""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import keras
from keras import tree

from tfprune.criteria.data import as_tensors, as_the_layers_take_it, batches_of, check_data

_BATCH = 32

EXAMPLES = 512
"""How many examples layers are fitted on, unless it is said otherwise."""


class FirstExamples(keras.utils.PyDataset):
    """The first examples of some data in batches, as the layers of a model take them.

    Args:
        model: The model.
        data: What its `fit` takes: a dataset or arrays, with labels or without.
        examples: How many examples of it, at most.

    Attributes:
        examples: How many there are.

    Raises:
        ValueError: If `data` is nothing that `fit` takes, or holds no example.
    """

    def __init__(self, model: keras.Model, data: Any, examples: int = EXAMPLES):
        super().__init__()
        check_data(data, 1)
        number = math.ceil(examples / _BATCH)
        data = as_the_layers_take_it(model, data, number, _BATCH)
        self.examples = 0
        self._batches = []
        for parts in batches_of(data, _BATCH):
            if self.examples >= examples:
                break
            while parts[-1] is None:  # Keras takes no such parts of a batch.
                parts = parts[:-1]
            size = len(tree.flatten(parts[0])[0])
            left = min(examples - self.examples, size)
            self._batches.append(
                tree.map_structure(lambda part: None if part is None else part[:left], parts)  # noqa: B023
            )
            self.examples += left
        if not self._batches:
            raise ValueError("`data` must hold at least one batch. Received: none")

    def __len__(self):
        return len(self._batches)

    def __getitem__(self, index):
        return self._batches[index]

    def split(self, size: int) -> FirstExamples:
        """The same examples in batches of at most `size`, in another order.

        All first parts of batches come first, since Keras infers from the first two batches which
        sizes differ between batches, and parts of one batch have the same.
        """
        parts: dict[int, list] = {}
        for batch in self._batches:
            for start in range(0, len(tree.flatten(batch[0])[0]), size):
                rows = slice(start, start + size)
                parts.setdefault(start, []).append(
                    tree.map_structure(lambda part: None if part is None else part[rows], batch)  # noqa: B023
                )
        smaller = copy.copy(self)
        smaller._batches = list(itertools.chain.from_iterable(parts.values()))
        return smaller

    def inputs(self) -> list[Any]:
        """x of each batch, as tensors."""
        return [as_tensors(parts[0]) for parts in self._batches]
