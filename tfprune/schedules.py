"""When a method acts, and how strongly.

Every callback says when with the same words: a number of steps, a fraction of training, an epoch,
or the moment at which a metric stops gaining.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any

from tfprune.arguments import called_with_one, integer, number
from tfprune.configurable import Configurable


@dataclass(frozen=True)
class Clock:
    """How long this fit is.

    Args:
        steps_per_epoch: Batches in an epoch, or `None` if unknown.
        epochs: Epochs in this fit.
    """

    steps_per_epoch: int | None
    epochs: int

    def steps(self, amount: float, name: str) -> int:
        """Turns epochs into steps."""
        if self.steps_per_epoch is None:
            raise ValueError(
                f"`{name}` is given in epochs or as a fraction, and the data does not tell how "
                "many batches it has. Give `steps_per_epoch` to `fit`, or a number of steps."
            )
        return round(amount * self.steps_per_epoch)


@dataclass(frozen=True)
class Step(Configurable):
    """After a number of steps of this fit."""

    number: int

    def __post_init__(self):
        object.__setattr__(self, "number", integer("number", self.number, least=0))

    def at(self, clock: Clock, name: str) -> int:
        """The step."""
        return self.number


@dataclass(frozen=True)
class Fraction(Configurable):
    """After a share of this fit's steps, 0 to 1."""

    share: float

    def __post_init__(self):
        object.__setattr__(self, "share", number("share", self.share, least=0, most=1))

    def at(self, clock: Clock, name: str) -> int:
        """The step."""
        return clock.steps(self.share * clock.epochs, name)


@dataclass(frozen=True)
class Epoch(Configurable):
    """At the start of an epoch, counted from 0; 1.5 is halfway through the second epoch."""

    number: float

    def __post_init__(self):
        object.__setattr__(self, "number", number("number", self.number, least=0))

    def at(self, clock: Clock, name: str) -> int:
        """The step."""
        return clock.steps(self.number, name)


@dataclass(frozen=True)
class Plateau(Configurable):
    """At the end of the first epoch in which a metric gains less than `min_delta`.

    Args:
        monitor: The metric's name in the epoch logs, such as `"val_bleu"`.
        min_delta: The gain per epoch that is still worth waiting for.
        mode: `"max"` if more is better, `"min"` if less is. By default `"min"` for names that
            end in `loss`.

    Source: Behnke & Heafield, WMT 2021, section 4: pruning starts when BLEU gains less than one
    point from one checkpoint to the next.
    """

    monitor: str
    min_delta: float = 0.0
    mode: str = field(default="")

    def __post_init__(self):
        if self.mode not in ("", "max", "min"):
            raise ValueError(f"`mode` must be 'max' or 'min'. Received: mode={self.mode!r}")
        if not isinstance(self.monitor, str) or not self.monitor:
            raise ValueError(
                f"`monitor` must be a name in the epoch logs. Received: monitor={self.monitor!r}"
            )
        object.__setattr__(self, "min_delta", number("min_delta", self.min_delta))

    def gain(self, before: float, now: float) -> float:
        """How much better `now` is than `before`."""
        lower = self.mode == "min" or (not self.mode and self.monitor.endswith("loss"))
        return before - now if lower else now - before


When = Step | Fraction | Epoch | Plateau

Moment = int | float | When
"""A point in time as arguments give it: steps, a fraction of the fit, or one of `When`."""


def when(value: Any, name: str) -> When:
    """Reads a point in time.

    Args:
        value: An `int` (steps), a `float` from 0 to 1 (fraction of this fit), or one of `Step`,
            `Fraction`, `Epoch`, `Plateau`.
        name: The argument's name, for the message.

    Raises:
        ValueError: If it is none of these.

    Example:

    >>> when(0.25, "start")
    Fraction(share=0.25)
    """
    if isinstance(value, (Step, Fraction, Epoch, Plateau)):
        return value
    if isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 0:
        return Step(int(value))
    if isinstance(value, Real) and not isinstance(value, Integral) and 0 <= float(value) <= 1:
        return Fraction(float(value))
    raise ValueError(
        f"`{name}` must be a number of steps (int), a fraction of training (float, 0 to 1), or an "
        f"`Epoch`, `Step`, `Fraction` or `Plateau` of tfprune.schedules. Received: {name}={value!r}"
    )


def cubic(passed: float) -> float:
    """Share of the total to remove after a share of the time: most of it early.

    Args:
        passed: 0 to 1.

    Raises:
        ValueError: If it is not.

    Source: Zhu & Gupta, "To Prune, or Not to Prune", 2017, equation 1.
    """
    return 1.0 - (1.0 - number("passed", passed, least=0, most=1)) ** 3


def scheduled(
    schedule: Any, name: str = "schedule", most: float = math.inf
) -> Callable[[int], float]:
    """Reads a value that may change over steps.

    Args:
        schedule: A number, a function of the step, or a schedule of
            tensorflow_model_optimization (`PolynomialDecay`, `ConstantSparsity`), which returns
            whether to act and the value.
        name: The argument's name, for messages.
        most: The largest value that is allowed; the smallest is 0.

    Returns:
        A function of the step, counted from the start of pruning. It raises `ValueError` where the
        schedule gives no number in this range.

    Raises:
        ValueError: If `schedule` is no such number, or a function that takes no step.
    """
    if not callable(schedule):
        value = float(number(name, schedule, least=0, most=most))
        return lambda step: value
    return _Scheduled(called_with_one(name, schedule, "the step"), name, most)


class _Scheduled:
    """A function of the step; of a schedule that does not act at each step, the last that acted.

    Looks go forward in time, and each goes on from the one before, so that no step is asked for
    twice. The schedules of tensorflow_model_optimization say how often they act.
    """

    def __init__(self, schedule, name, most):
        self._schedule, self._name, self._most = schedule, name, most
        self._seen, self._value = -1, 0.0

    def __call__(self, step: int) -> float:
        last = self._last_that_acts(step)
        if last is not None:
            return 0.0 if last < 0 else self._amount(last)[1]
        if step < self._seen:
            self._seen, self._value = -1, 0.0
        for earlier in range(step, self._seen, -1):
            acts, amount = self._amount(earlier)
            if acts:
                self._value = amount
                break
        self._seen = max(step, self._seen)
        return self._value

    def _last_that_acts(self, step):
        """The step at or before this one at which the schedule acts; -1 if there is none.

        `None` where the schedule does not tell.
        """
        names = ("begin_step", "end_step", "frequency")
        begin, end, frequency = (getattr(self._schedule, name, None) for name in names)
        if begin is None or end is None or frequency is None:
            return None
        step = step if end < 0 else min(step, end)
        return -1 if step < begin else step - (step - begin) % frequency

    def _amount(self, step) -> tuple[bool, float]:
        """Whether the schedule acts at a step, and the value; a number alone always acts."""
        result = self._schedule(step)
        acts, amount = result if isinstance(result, tuple) and len(result) == 2 else (True, result)
        try:
            value = float(amount)
            fits = 0 <= value <= self._most and math.isfinite(value)
        except (TypeError, ValueError):
            fits = False
        if not fits:
            want = "0 or more" if math.isinf(self._most) else f"from 0 to {self._most:g}"
            raise ValueError(
                f"`{self._name}` must be a function of the step that gives a finite number, "
                f"{want}. Received: {result!r} at step {step}"
            )
        return bool(acts), value
