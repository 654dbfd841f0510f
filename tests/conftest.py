"""Every test starts from the same seed; tests that need TensorFlow say so."""

import gc
import os
import shutil
import tempfile
import time
import zlib

# Small models train in milliseconds and compile in seconds. What JAX compiled once is kept until
# the run ends, for all tests and the processes that they start, and XLA spends no time on making
# it fast. What is set already stays; an empty XLA_FLAGS gives XLA's own defaults.
CACHE = None
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    CACHE = os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="tfprune-tests-")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import hypothesis  # noqa: E402
import pytest  # noqa: E402

# Random models and masks: a few in `make test`, many in `make test-slow`, which asks for "many".
hypothesis.settings.register_profile("few", max_examples=12, deadline=None, derandomize=True)
hypothesis.settings.register_profile("many", max_examples=60, deadline=None, derandomize=True)
# `make fuzz N=1000`: other models every time; what fails is printed so that it can be run again.
hypothesis.settings.register_profile(
    "fuzz", max_examples=int(os.environ.get("N", "1000")), deadline=None, print_blob=True
)
hypothesis.settings.load_profile("few")

STARTED = time.monotonic()


def pytest_addoption(parser):
    parser.addoption(
        "--within",
        type=float,
        metavar="SECONDS",
        help="skip the tests that have not begun after so many seconds",
    )


def pytest_unconfigure(config):
    if CACHE and not hasattr(config, "workerinput"):
        shutil.rmtree(CACHE, ignore_errors=True)


def pytest_runtest_setup(item):
    seconds = item.config.getoption("within")
    if seconds and time.monotonic() - STARTED > seconds:
        pytest.skip(f"not begun within {seconds:g} seconds")


@pytest.fixture(autouse=True)
def seed():
    import keras  # Not above: the process that hands out the tests need not load TensorFlow.

    keras.utils.set_random_seed(0)
    if not gc.get_freeze_count():
        gc.freeze()  # What is imported stays; a collection need not look at it again.
    yield
    # Models refer to themselves, and hundreds of them with their compiled steps fill the memory.
    gc.collect()


@pytest.hookimpl(tryfirst=True)  # Before `-m` chooses.
def pytest_collection_modifyitems(items):
    import keras

    backend = keras.backend.backend()
    deal_out(items, ("tensorflow", "jax").index(backend))
    if backend == "tensorflow":
        import tensorflow as tf

        # Making the graph of a step fast takes longer than the few steps that a test trains.
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
        return
    skip = pytest.mark.skip(reason="runs on TensorFlow alone")
    for item in items:
        if item.get_closest_marker("tensorflow_only"):
            item.add_marker(skip)


def deal_out(items, turn):
    """Leaves each test that is marked `one_backend` to one of two backends, by its name."""
    for item in items:
        mine = zlib.crc32(item.nodeid.encode()) % 2 == turn
        alone = item.get_closest_marker("tensorflow_only")
        if item.get_closest_marker("one_backend") and not alone and not mine:
            item.add_marker(pytest.mark.other_backend)
