import numpy as np
import pytest

from tfprune.schedules import Clock, Epoch, Fraction, Plateau, Step, cubic, scheduled, when


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


class Polynomial:
    """A schedule in the form of tensorflow_model_optimization; counts how often it is asked."""

    def __init__(self, begin_step=100, end_step=1000, frequency=30, tells=True):
        self.limits = begin_step, end_step, frequency
        self.asked = 0
        if tells:
            self.begin_step, self.end_step, self.frequency = self.limits

    def __call__(self, step):
        self.asked += 1
        begin, end, frequency = self.limits
        acts = begin <= step and (end < 0 or step <= end) and (step - begin) % frequency == 0
        return acts, step / 1000


def last_that_acts(step, begin, end, frequency):
    value = 0.0
    for earlier in range(step + 1):
        if begin <= earlier <= (end if end >= 0 else step) and (earlier - begin) % frequency == 0:
            value = earlier / 1000
    return value


@pytest.mark.parametrize("end_step", [1000, -1])
@pytest.mark.parametrize("tells", [True, False])
def test_between_its_steps_a_schedule_stays_as_it_was(tells, end_step):
    schedule = Polynomial(end_step=end_step, tells=tells)
    value = scheduled(schedule)
    for step in (0, 99, 100, 129, 130, 500, 490, 999, 1000, 1500):  # One look is back in time.
        assert value(step) == last_that_acts(step, 100, end_step, 30)


@pytest.mark.parametrize("tells", [True, False])
def test_a_look_at_a_schedule_costs_the_same_however_late(tells):
    schedule = Polynomial(begin_step=5000, end_step=-1, frequency=10_000, tells=tells)
    value = scheduled(schedule)
    for step in range(0, 20_000, 20):
        value(step)
    assert schedule.asked <= (1000 if tells else 20_000)
    before = schedule.asked
    value(20_000)
    assert schedule.asked - before <= (1 if tells else 20)


@pytest.mark.parametrize(
    "make, name",
    [
        (lambda: Epoch(-3), "number"),
        (lambda: Epoch("x"), "number"),
        (lambda: Step(-3), "number"),
        (lambda: Step(1.5), "number"),
        (lambda: Fraction(7), "share"),
        (lambda: Plateau(3), "monitor"),
        (lambda: Plateau("loss", "x"), "min_delta"),
    ],
)
def test_moments_out_of_range(make, name):
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        make()


def test_numbers_of_numpy_are_moments():
    assert when(np.int64(3), "start") == Step(3)
    assert when(np.float32(0.5), "start") == Fraction(0.5)
    assert Epoch(np.float64(1.5)) == Epoch(1.5)


@pytest.mark.parametrize("given", [float("nan"), -0.5, None, "half", (1, 2, 3), 1.5, float("inf")])
def test_what_a_schedule_must_not_give(given):
    share = scheduled(lambda step: given, "target", most=1)
    with pytest.raises(ValueError, match="`target` must be a function .* at step 3"):
        share(3)


@pytest.mark.parametrize("given", ["x", None, -1.0, lambda: 1.0, lambda a, b: 1.0, float])
def test_what_is_no_schedule(given):
    with pytest.raises(ValueError, match="`strength` must be .*Received: strength="):
        scheduled(given, "strength")


@pytest.mark.parametrize("passed", [-0.1, 1.1, "x", None])
def test_a_share_of_the_time(passed):
    with pytest.raises(ValueError, match="`passed` must be .*Received: passed="):
        cubic(passed)
