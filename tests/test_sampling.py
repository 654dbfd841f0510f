"""Which tests `make test` runs and which it leaves to `make test-slow`."""

import pytest

from tests.conftest import is_in_rest, is_in_sample

BACKENDS = ["tensorflow", "jax"]


class Item:
    """A test with some marks."""

    def __init__(self, number, *marks, backends=()):
        self.nodeid = f"tests/test_something.py::test[{number}]"
        self.marks = {name: getattr(pytest.mark, name).mark for name in marks}
        if backends:
            self.marks["sampled"] = pytest.mark.sampled(*backends).mark

    def get_closest_marker(self, name):
        return self.marks.get(name)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("marks", [(), ("sampled",), ("sampled", "tensorflow_only"), ("slow",)])
def test_the_parts_are_all_tests_and_share_none(marks, backend):
    items = [Item(i, *marks) for i in range(200)]
    assert all(is_in_sample(item, backend) != is_in_rest(item, backend) for item in items)


def test_of_what_is_sampled_a_tenth_runs_on_tensorflow_and_another_on_jax():
    items = [Item(i, "sampled") for i in range(1000)]
    first, second = ({i.nodeid for i in items if is_in_sample(i, b)} for b in BACKENDS)
    assert 70 < len(first) < 130 and 70 < len(second) < 130 and not first & second


def test_the_others_all_run_on_tensorflow_and_half_of_them_on_jax():
    items = [Item(i) for i in range(1000)]
    assert all(is_in_sample(item, "tensorflow") for item in items)
    assert 420 < sum(is_in_sample(item, "jax") for item in items) < 580


def test_what_is_sampled_on_jax_alone_runs_on_tensorflow():
    items = [Item(i, backends=["jax"]) for i in range(200)]
    assert all(is_in_sample(item, "tensorflow") for item in items)
    assert 5 < sum(is_in_sample(item, "jax") for item in items) < 40
    assert all(is_in_sample(item, b) != is_in_rest(item, b) for item in items for b in BACKENDS)


def test_slow_ones_that_are_sampled_run_on_one_backend():
    items = [Item(i, "sampled", "slow") for i in range(100)]
    assert all(sum(is_in_rest(item, backend) for backend in BACKENDS) == 1 for item in items)


@pytest.mark.parametrize("backend", BACKENDS)
def test_random_models_are_drawn_in_both_parts(backend):
    item = Item(0, "hypothesis")
    assert is_in_sample(item, backend) and is_in_rest(item, backend)
