import inspect

import numpy as np
import pytest

import tfprune
from tests.models import transformer
from tfprune.callbacks import GroupLasso
from tfprune.user_warnings import warn


def line():
    """The number of the line that calls this."""
    return inspect.currentframe().f_back.f_lineno


def test_a_warning_in_a_fit_points_to_the_call_of_fit():
    model = transformer()
    model.compile("sgd", "mse")
    x = np.zeros((8, 6, 8), "float32")
    y = np.zeros((8, 6, 3), "float32")
    lasso = GroupLasso(["ffn"], 1e-9, verbose=0)
    with pytest.warns(UserWarning, match="nothing was removed") as found:
        here = line() + 1
        model.fit(x, y, epochs=2, verbose=0, callbacks=[lasso])
    mine = [w for w in found if "GroupLasso" in str(w.message)]
    assert [(w.filename, w.lineno) for w in mine] == [(__file__, here)]


def test_a_warning_of_rebuild_points_to_the_call_of_rebuild():
    with pytest.warns(UserWarning, match="no group of `model` is zero") as found:
        here = line() + 1
        tfprune.rebuild(transformer())
    assert [(w.filename, w.lineno) for w in found] == [(__file__, here)]


@pytest.mark.parametrize("name", ["keras.src.trainers", "keras_hub.src.utils.pipeline_model"])
def test_frames_of_keras_are_passed_over(name):
    library = {"__name__": name, "warn": warn}
    exec("def call(): warn('said')", library)  # As if Keras's own file called it.
    with pytest.warns(UserWarning, match="said") as found:
        here = line() + 1
        library["call"]()
    assert [(w.filename, w.lineno) for w in found] == [(__file__, here)]
