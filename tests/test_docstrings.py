"""The examples in docstrings run and show what they say."""

import doctest
import importlib
import pkgutil

import pytest

import tfprune
import tfprune.callbacks


def examples():
    packages = {"tfprune.": tfprune, "tfprune.callbacks.": tfprune.callbacks}
    names = {
        info.name
        for prefix, package in packages.items()
        for info in pkgutil.walk_packages(package.__path__, prefix)
    }
    for name in sorted(names):
        module = importlib.import_module(name)
        for test in doctest.DocTestFinder(exclude_empty=True).find(module, name):
            if test.examples:
                yield pytest.param(test, id=test.name)


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("test", examples())
def test_example(test):
    report = []
    runner = doctest.DocTestRunner(verbose=False)
    # What an example registers is used after it, so the names it needs stay.
    failures, _ = runner.run(test, out=report.append, clear_globs=False)
    assert not failures, "".join(report)
