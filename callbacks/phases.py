"""When a pruning callback acts: its phases, and the metrics that they wait for."""

from __future__ import annotations

from dataclasses import astuple
from typing import Any

from tfprune.fit.owner import FitOwner
from tfprune.schedules import Clock, Plateau, when
from tfprune.user_warnings import warn


class Phases:
    """Mixed into `PruningCallback`: before `start`, from then on, and past `stop`.

    Moments that are known only in the fit are kept in the callback's `state`, so that a fit that
    is resumed has them.

    Attributes:
        start: When pruning starts, a moment of `tfprune.schedules`.
        stop: When it stops, or `None` for the end of the fit.
    """

    owner: FitOwner
    params: dict[str, Any] | None  # Keras's: `steps` of an epoch and `epochs`.
    _moments: dict[str, float]  # Those of the fit, as `State.moments` gives them.

    def _set_phases(self, start, stop):
        self.start = when(start, "start")
        self.stop = None if stop is None else when(stop, "stop")
        if self.stop is None or isinstance(self.start, Plateau):
            return
        if type(self.start) is type(self.stop) and astuple(self.stop) <= astuple(self.start):
            raise _stops_too_early(start, stop)

    def _set_fit_length(self):
        """Learns how long the fit is, and refuses moments that do not fit into it."""
        params = self.params or {}
        self._clock = Clock(params.get("steps"), params.get("epochs") or 1)
        # A fraction of an unknown number of steps is an error before training starts.
        steps = [
            moment.at(self._clock, name)
            for name in ("start", "stop")
            if (moment := getattr(self, name)) and not isinstance(moment, Plateau)
        ]
        if len(steps) == 2 and steps[1] < steps[0]:
            raise _stops_too_early(self.start, self.stop)

    def _reached(self, name: str, step: int) -> bool:
        moment = getattr(self, name)
        if moment is None:
            return False
        if isinstance(moment, Plateau):
            return name in self._moments and step >= self._moments[name]
        return step >= moment.at(self._clock, name)

    def _phase(self, step: int) -> tuple[bool, bool]:
        return self._reached("start", step), self._reached("stop", step)

    def _check_plateaus(self, step: int, logs: dict[str, Any]) -> None:
        """Keeps the step at which a monitored metric stopped improving."""
        for name in ("start", "stop"):
            moment = getattr(self, name)
            if not isinstance(moment, Plateau) or name in self._moments:
                continue
            if name == "stop" and not self._reached("start", step):
                continue
            if moment.monitor not in logs:
                raise ValueError(
                    f"`{name}` waits for {moment.monitor!r}, which is not in the epoch logs. Put "
                    f"the callback that writes it before this one. The logs hold: {', '.join(logs)}"
                )
            now = float(logs[moment.monitor])
            before = self._moments.get(f"{name}_metric")
            if before is not None and moment.gain(before, now) < moment.min_delta:
                self._keep_moment(name, step)
            self._keep_moment(f"{name}_metric", now)

    def _keep_moment(self, name, value):
        self._moments[name] = value
        self.owner.state(self).keep_moment(name, value)

    def _warn_if_start_was_not_reached(self):
        if isinstance(self.start, Plateau) and "start" not in self._moments:
            warn(
                f"{type(self).__name__}: {self.start.monitor!r} did not stop improving, so "
                "that `start` was not reached before the end of the fit.",
            )

    def warn_if_cut_short(self, what: str) -> None:
        """Warns that something is done after the last step that should have been done before.

        Args:
            what: What is done, a clause.
        """
        clock, steps = self.owner.clock, None
        if self._clock.steps_per_epoch:
            steps = self._clock.steps(self._clock.epochs, "stop")
        if steps is None or clock.steps < steps:
            of = "" if steps is None else f" of {steps}"
            warn(
                f"{type(self).__name__}: the fit ended after {clock.steps}{of} steps, before "
                f"pruning was over; {what}, without training after it. Another callback, such as "
                "EarlyStopping, may have ended it: give it a `start_from_epoch` after pruning, or "
                "let pruning begin and end earlier.",
            )


def _stops_too_early(start, stop):
    return ValueError(f"`stop` must come after `start`. Received: start={start!r}, stop={stop!r}")
