from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfprune.datasets import TextBatches
from tfprune.datasets.bucketed import Bucketed, put_different_shapes_first

EXAMPLES = [("word " * (1 + i % 19), i % 2) for i in range(100)]


class Tokenizer:
    cls_token_id, sep_token_id = 101, 102

    def __call__(self, texts):
        return [[7] * len(text.split()) for text in texts]


def test_texts_are_packed_and_batched_by_length():
    data = TextBatches(EXAMPLES, Tokenizer(), batch_size=8, max_length=16, seed=3)
    seen = []
    for i in range(len(data)):
        x, labels = data[i]
        ids, mask = x["token_ids"], x["padding_mask"]
        assert ids.shape == mask.shape and ids.shape[1] in (8, 16) and len(ids) <= 8
        np.testing.assert_array_equal(mask, ids != 0)
        assert np.all(ids[:, 0] == 101) and not x["segment_ids"].any()
        for row, label in zip(ids, labels, strict=True):
            row = row[row != 0]
            assert row[-1] == 102 and np.all(row[1:-1] == 7)
            seen.append((len(row), int(label)))
    expected = [(min(1 + i % 19, 14) + 2, i % 2) for i in range(100)]
    assert sorted(seen) == sorted(expected)
    assert all(
        a != b
        for a, b in zip(
            data[0][1].shape + data[0][0]["token_ids"].shape[1:],
            data[1][1].shape + data[1][0]["token_ids"].shape[1:],
            strict=True,
        )
    )


def test_groups_come_with_their_number():
    groups = {"en": [("a " * 3, 0)] * 5, "de": [("b " * 9, 1)] * 4}
    data = TextBatches(groups, Tokenizer(), batch_size=3, subnetwork_entry="which")
    batches = [data[i] for i in range(len(data))]
    found = [
        (int(g), len(row[row != 0]) - 2, int(y))
        for x, labels in batches
        for g, row, y in zip(x["which"], x["token_ids"], labels, strict=True)
    ]
    assert sorted(found) == [(0, 3, 0)] * 5 + [(1, 9, 1)] * 4


def test_epochs_differ_and_can_be_resumed():
    data = TextBatches(EXAMPLES, Tokenizer(), batch_size=8, seed=3)
    first = data[2][0]["token_ids"]
    data.on_epoch_end()
    resumed = TextBatches(EXAMPLES, Tokenizer(), batch_size=8, seed=3, initial_epoch=1)
    for i in range(len(data)):
        np.testing.assert_array_equal(data[i][1], resumed[i][1])
    other = data[2][0]["token_ids"]
    assert first.shape != other.shape or not np.array_equal(first, other)
    still = TextBatches(EXAMPLES, Tokenizer(), shuffle=False)
    before = still[0][1]
    still.on_epoch_end()
    np.testing.assert_array_equal(before, still[0][1])


@given(st.lists(st.tuples(*[st.integers(1, 3)] * 3), max_size=8))
def test_no_two_batches_differ_in_more_than_the_first(shapes):
    arranged = list(shapes)
    put_different_shapes_first(arranged, lambda shape: shape)
    assert sorted(arranged) == sorted(shapes)

    def differing(a, b):
        return int(np.sum(np.array(a) != b))

    if len(shapes) > 1:
        assert differing(*arranged[:2]) == max(differing(*p) for p in combinations(shapes, 2))


def test_bad_numbers():
    wrong = [{"batch_size": 0}, {"batch_size": -1}, {"batch_size": "8"}, {"max_length": 2}]
    for options in (*wrong, {"length_multiple": 0}):
        with pytest.raises(ValueError, match=f"`{next(iter(options))}` must be"):
            TextBatches(EXAMPLES, Tokenizer(), **options)
    with pytest.raises(ValueError, match="`examples`"):
        TextBatches([], Tokenizer())


LENGTHS = st.lists(st.tuples(*[st.integers(1, 6).map(lambda n: 4 * n)] * 2), min_size=1)


@given(LENGTHS, st.integers(24, 200), st.integers(0, 3))
def test_each_example_is_in_one_batch_that_is_as_full_as_can_be(lengths, tokens, epoch):
    data = Bucketed(lengths, lambda length: tokens // length, seed=1, initial_epoch=epoch)
    batches = [data.numbers(i) for i in range(len(data))]
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    rest = []
    for batch in batches:
        count, *longest = data.shape(batch)
        assert count == len(batch) and count * max(longest) <= tokens
        assert longest == np.max([lengths[i] for i in batch], axis=0).tolist()
        if count < tokens // max(longest):
            rest.append((max(longest), min(max(lengths[i]) for i in batch), count))
    # Where there is room left, the next longer example had none.
    for (_, _, count), (_, shortest, _) in pairwise(sorted(rest)):
        assert (count + 1) * shortest > tokens
