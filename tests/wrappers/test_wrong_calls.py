"""Wrong arguments of wrappers: an error that names the argument and says what would be right."""

import keras
import numpy as np
import pytest

from tests.models import noise
from tfprune.wrappers import HardConcreteGroups, MaskedGroups, MovementGroups

pytestmark = pytest.mark.sampled


def dense():
    return keras.layers.Dense(3)


def built(kind=MovementGroups):
    wrapper = kind(dense())
    wrapper(noise(2, 4))
    return wrapper


@pytest.mark.parametrize(
    "name, call",
    [
        ("layer", lambda: MaskedGroups(3)),
        ("layer", lambda: HardConcreteGroups(keras.layers.Dense)),
        ("strength", lambda: HardConcreteGroups(dense(), strength="x")),
        ("strength", lambda: HardConcreteGroups(dense(), strength=None)),
        ("strength", lambda: MovementGroups(dense(), strength=np.inf)),
        ("strength", lambda: setattr(built(), "strength", "x")),
        ("initial", lambda: HardConcreteGroups(dense(), initial="x")),
        ("seed", lambda: HardConcreteGroups(dense(), seed="x")),
        ("score_scale", lambda: HardConcreteGroups(dense(), score_scale=0)),
        ("score_scale", lambda: MovementGroups(dense(), score_scale="x")),
        ("block", lambda: MovementGroups(dense(), block=8)),
        ("block", lambda: MovementGroups(dense(), block=(0, 1))),
        ("share", lambda: built().keep("x")),
        ("share", lambda: built().keep(2)),
        ("threshold", lambda: setattr(built(), "threshold", "x")),
        ("threshold", lambda: setattr(built(), "threshold", np.nan)),
        ("mask", lambda: setattr(built(MaskedGroups), "mask", "x")),
    ],
)
def test_what_is_wrong_is_named(name, call):
    with pytest.raises(ValueError, match=rf"`{name}` must be .*Received: {name}="):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: MovementGroups(dense()).keep(0.5),
        lambda: MovementGroups(dense()).threshold,
        lambda: setattr(MovementGroups(dense()), "threshold", 1.0),
        lambda: HardConcreteGroups(dense()).gate,
        lambda: HardConcreteGroups(dense()).groups,
        lambda: HardConcreteGroups(dense()).open_groups(),
        lambda: HardConcreteGroups(dense()).expected_share(),
    ],
)
def test_what_there_is_once_the_layer_is_built(call):
    with pytest.raises(ValueError, match="once the layer is built"):
        call()
