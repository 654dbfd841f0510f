"""Every test starts from the same seed; tests that need TensorFlow say so."""

import datetime
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
# The processes of one run agree on the day, at midnight too.
os.environ.setdefault("TFPRUNE_TESTS_DAY", str(datetime.date.today().toordinal()))

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
# `make test` runs the tests whose number, from 0 to 9, is one of these: of those that are marked
# `sampled`, and of the others. `make test-slow` runs the rest.
SAMPLED = {"tensorflow": (0,), "jax": (2,)}
OTHERS = {"tensorflow": range(10), "jax": range(5)}


def pytest_addoption(parser):
    parser.addoption(
        "--part",
        choices=["sample", "rest"],
        help="the tests of `make test`, or those that it leaves to `make test-slow`",
    )
    parser.addoption(
        "--within",
        type=float,
        metavar="SECONDS",
        help="skip the tests that have not begun after so many seconds; of a part others each day",
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


@pytest.hookimpl(trylast=True)  # Hypothesis has marked its tests by then.
def pytest_collection_modifyitems(config, items):
    import keras

    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        # Making the graph of a step fast takes longer than the few steps that a test trains.
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    else:
        skip = pytest.mark.skip(reason="runs on TensorFlow alone")
        for item in items:
            if item.get_closest_marker("tensorflow_only"):
                item.add_marker(skip)
    if config.getoption("part"):
        keep_part(config, items, backend)
    if config.getoption("part") and config.getoption("within") and items:
        first = int(os.environ["TFPRUNE_TESTS_DAY"]) * 997 % len(items)
        items[:] = items[first:] + items[:first]


def keep_part(config, items, backend):
    """Leaves of the tests those of one part, `--part`, on one backend."""
    of_part = is_in_sample if config.getoption("part") == "sample" else is_in_rest
    kept = [item for item in items if of_part(item, backend)]
    config.hook.pytest_deselected(items=[item for item in items if not of_part(item, backend)])
    items[:] = kept


def is_in_sample(item, backend):
    """Whether `make test` runs a test on a backend."""
    if item.get_closest_marker("slow"):
        return False
    sampled = item.get_closest_marker("sampled")
    in_full = sampled is None or (sampled.args and backend not in sampled.args)
    return number_of(item) in (OTHERS if in_full else SAMPLED)[backend]


def is_in_rest(item, backend):
    """Whether `make test-slow` runs a test on a backend; it draws more random models."""
    if not item.get_closest_marker("slow"):
        return bool(item.get_closest_marker("hypothesis")) or not is_in_sample(item, backend)
    if not item.get_closest_marker("sampled") or item.get_closest_marker("tensorflow_only"):
        return True
    return number_of(item) % 2 == ("tensorflow", "jax").index(backend)


def number_of(item):
    """A number from 0 to 9 that stays the same for each test."""
    return zlib.crc32(item.nodeid.encode()) % 10
