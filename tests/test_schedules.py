import pytest

from tfprune.schedules import Clock, Epoch, Fraction, Plateau, Step, scheduled, when


def test_moments():
    clock = Clock(steps_per_epoch=10, epochs=4)
    assert when(7, "start").at(clock, "start") == 7
    assert when(0.5, "start").at(clock, "start") == 20
    assert Epoch(1.5).at(clock, "start") == 15
    assert (when(3, "start"), when(0.25, "start")) == (Step(3), Fraction(0.25))


@pytest.mark.parametrize("bad", [-1, 1.5, "soon", True, None, float("nan")])
def test_bad_moments(bad):
    with pytest.raises(ValueError, match="`start`"):
        when(bad, "start")


def test_unknown_length():
    with pytest.raises(ValueError, match="steps_per_epoch"):
        Fraction(0.5).at(Clock(None, 3), "stop")


def test_plateau_knows_which_way_is_better():
    assert Plateau("val_bleu").gain(10, 12) == 2
    assert Plateau("val_loss").gain(10, 12) == -2
    assert Plateau("val_bleu", mode="min").gain(10, 12) == -2
    with pytest.raises(ValueError, match="`mode`"):
        Plateau("x", mode="up")


def test_values_over_time():
    assert scheduled(0.3)(100) == 0.3
    assert scheduled(lambda step: step / 10)(5) == 0.5
    # The form of tensorflow_model_optimization: whether to act, and the value.
    assert scheduled(lambda step: (step > 3, 0.8))(5) == 0.8
    assert scheduled(lambda step: (step > 3, 0.8))(2) == 0.0
    # Between its own steps, and after its last, the value stays as it was.
    assert scheduled(lambda step: (step % 4 == 0 and step < 9, step))(15) == 8
