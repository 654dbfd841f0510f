"""Batches of examples of similar length."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfprune.arguments import integer
from tfprune.batches import put_different_shapes_first
from tfprune.datasets.labelled import Example
from tfprune.embeddings.tokenizers import token_lists


class Bucketed(keras.utils.PyDataset):
    """Base of data sets that batch examples of one padded length together.

    Each epoch has its own order, which depends on the seed and the number of the epoch alone, so
    that a resumed fit sees what the whole one would have seen.

    A subclass sets what `shape` needs before it calls this `__init__`, and says how a batch looks
    in `__getitem__` (the numbers of its examples are `self.numbers(index)`).

    Args:
        lengths: For each example the padded length of each of its sequences. Examples of the same
            lengths are batched together, what is left over of them with its neighbours in length.
        batch_size: From the longest padded length of a batch to the number of its examples.
        shuffle: Whether the order changes with each epoch.
        seed: Seed of the order.
        initial_epoch: The first epoch's number, when training is resumed.
    """

    def __init__(
        self,
        lengths: Sequence[tuple[int, ...]],
        batch_size: Callable[[int], int],
        shuffle: bool = True,
        seed: int = 0,
        initial_epoch: int = 0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.lengths = lengths
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = initial_epoch
        self.arrange()

    def shape(self, numbers: Sequence[int]) -> tuple[int, ...]:
        """The sizes that differ from batch to batch."""
        lengths = (self.lengths[i] for i in numbers)
        return len(numbers), *(max(each) for each in zip(*lengths, strict=True))

    def numbers(self, index: int) -> list[int]:
        """The numbers of the examples in a batch."""
        return self._batches[index]

    def __len__(self):
        return len(self._batches)

    def on_epoch_end(self) -> None:
        """Makes the batches of the next epoch."""
        self.epoch += 1
        if self.shuffle:
            self.arrange()

    def arrange(self) -> None:
        """Deals the examples out into batches."""
        order = np.arange(len(self.lengths))
        draw = np.random.default_rng((self.seed, self.epoch))
        if self.shuffle:
            draw.shuffle(order)
        buckets: dict[tuple[int, ...], list[int]] = {}
        batches = []
        for i in order.tolist():
            lengths = self.lengths[i]
            bucket = buckets.setdefault(lengths, [])
            bucket.append(i)
            if len(bucket) >= self.batch_size(max(lengths)):
                batches.append(buckets.pop(lengths))
        batches.extend(self._left_over(buckets))
        if self.shuffle:
            draw.shuffle(batches)
        self._batches = batches
        put_different_shapes_first(self._batches, self.shape)

    def _left_over(self, buckets):
        """Batches of what fills none of its own lengths, the shortest first."""
        batch: list[int] = []
        by_length = sorted(buckets.items(), key=lambda item: (max(item[0]), item[0]))
        for lengths, bucket in by_length:
            for i in bucket:
                # The last example is the longest.
                if batch and len(batch) >= self.batch_size(max(lengths)):
                    yield batch
                    batch = []
                batch.append(i)
        if batch:
            yield batch


def padded_to(multiple: int, length: int) -> int:
    """A length, rounded up, so that few shapes occur and a compiled step is reused."""
    return -(-length // multiple) * multiple


class TextBatches(Bucketed):
    """Labelled texts as a KerasHub BERT reads them, in batches of similar length.

    Args:
        examples: Texts with a class each; or a dictionary from the names of subnetworks,
            such as languages, to the texts of each.
        tokenizer: A KerasHub tokenizer with `cls_token_id` and `sep_token_id`.
        batch_size: Texts in a batch.
        max_length: Longer texts are cut, in tokens.
        shuffle: Whether the order changes with each epoch.
        seed: Seed of the order.
        initial_epoch: The first epoch's number, when training is resumed.
        length_multiple: Lengths are padded to a multiple of it.
        subnetwork_entry: For a dictionary: the entry of `x` that holds the number of each text's
            subnetwork, in the order of `examples`, as the callbacks' `subnetworks` expects it.

    Yields:
        `({"token_ids": (B, T), "padding_mask": (B, T), "segment_ids": (B, T)}, labels (B,))`; for a
        dictionary also `{subnetwork_entry: (B,)}` in the dictionary.

    Raises:
        ValueError: If there are no examples or a number is out of range.
    """

    def __init__(
        self,
        examples: Sequence[Example] | Mapping[str, Sequence[Example]],
        tokenizer: Any,
        batch_size: int = 32,
        max_length: int = 128,
        shuffle: bool = True,
        seed: int = 0,
        initial_epoch: int = 0,
        length_multiple: int = 8,
        subnetwork_entry: str = "language",
        **kwargs: Any,
    ):
        self._subnetworks, self._subnetwork_entry = None, subnetwork_entry
        if isinstance(examples, Mapping):
            sizes = [len(texts) for texts in examples.values()]
            self._subnetworks = np.repeat(np.arange(len(sizes)), sizes).astype("int32")
            examples = [example for texts in examples.values() for example in texts]
        integer("batch_size", batch_size)
        integer("max_length", max_length, least=3)
        integer("length_multiple", length_multiple)
        if not examples:
            raise ValueError("`examples` must not be empty. Received: 0 examples")
        tokens = token_lists(tokenizer, [text for text, _ in examples])
        first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
        self._tokens = [[first, *t[: max_length - 2], last] for t in tokens]
        self._labels = np.array([label for _, label in examples], "int32")
        super().__init__(
            [(padded_to(length_multiple, len(t)),) for t in self._tokens],
            lambda length: batch_size,
            shuffle,
            seed,
            initial_epoch,
            **kwargs,
        )

    def __getitem__(self, index):
        numbers = self.numbers(index)
        ids = np.zeros(self.shape(numbers), "int32")
        for row, i in zip(ids, numbers, strict=True):
            row[: len(self._tokens[i])] = self._tokens[i]
        mask = np.arange(ids.shape[1]) < np.array([[len(self._tokens[i])] for i in numbers])
        x = {"token_ids": ids, "padding_mask": mask, "segment_ids": np.zeros_like(ids)}
        if self._subnetworks is not None:
            x[self._subnetwork_entry] = self._subnetworks[numbers]
        return x, self._labels[numbers]
