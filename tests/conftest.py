"""Every test starts from the same seed; tests that need TensorFlow say so."""

import keras
import pytest


@pytest.fixture(autouse=True)
def seed():
    keras.utils.set_random_seed(0)


def pytest_collection_modifyitems(items):
    if keras.backend.backend() == "tensorflow":
        return
    skip = pytest.mark.skip(reason="export is TensorFlow's")
    for item in items:
        if item.get_closest_marker("tensorflow_only"):
            item.add_marker(skip)
