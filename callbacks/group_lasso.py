"""Group lasso during `fit`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras
import numpy as np

from tfprune import penalties
from tfprune.arguments import number, one_of
from tfprune.budgets.choosing import has_channels
from tfprune.budgets.targets import Target
from tfprune.callbacks import proximal_steps
from tfprune.callbacks.group_lasso_warnings import warn_of_large, warn_of_strength
from tfprune.callbacks.targeted import TargetedPruning
from tfprune.fit.strength_control import StrengthControl
from tfprune.fit.strengths import checked_strengths, strength_of_each
from tfprune.keras_private.optimizers import trained_by
from tfprune.schedules import Moment, scheduled

# What the strength is, or begins with under a target, unless it is given.
STRENGTH = 1e-5
# The share of the steps from `start` to `stop` after which groups are to be small under a target.
ARRIVAL = 0.8


class GroupLasso(TargetedPruning):
    """Shrinks whole units and heads to zero while a model is trained.

    The penalty `strength · Σ_g √d_g · ‖w_g‖₂` joins the loss from `start` to `stop`. Groups that
    have shrunk below a threshold are then removed: their weights become exactly zero and stay zero
    until the fit ends, in which the rest trains on without the penalty. `tfprune.rebuild` cuts them
    out.

    With a `target` nobody has to choose the strength. Groups are ranked by their root mean square
    as a share of the structure's median when pruning starts, and the strength follows the speed at
    which the groups shrink that the target would remove: it rises where they are too slow to be
    small by `stop`, and falls where they are faster. At `stop` the lowest are removed until the
    target is met. Proximal steps on the lowest alone take each straight to zero instead.

    Args:
        structures: Kinds (`"ffn"`, `"heads"`, `"channels"`, `"recurrent"`), names or regular
            expressions; `None` means all but `"width"`, the channels of a residual stream.
        strength: Loss units for each unit of `√d_g · ‖w_g‖₂`; or a dictionary from patterns to
            strengths, where the last pattern that matches counts; or a function of the step since
            `start`, such as a schedule of tensorflow_model_optimization. With a `target`, the
            strength to begin with, above 0 and no function; a dictionary keeps its ratios among
            the structures that `within` compares. By default 1e-5. With a `target` and proximal
            steps: on all groups, what would take one of usual size to zero by `stop` at the
            learning rate of `start`; on the lowest, each of them goes straight to zero after 80 %
            of the way to `stop`, whatever its size and the learning rate are.
        target: How far: `tfprune.Sparsity(0.5)`, `Parameters`, `Flops` or `Latency`. By default
            `strength` decides.
        words_per_batch: If given, `strength` is the paper's λ, for a loss that is the mean over
            words: the penalty is divided by this number.
        start: When the penalty begins: steps (int), a fraction of this fit (float), or an `Epoch`
            or `Plateau` of `tfprune.schedules`.
        stop: When it ends, as `start`; half of the fit by default, as in the paper. `None` means
            the end of the fit. There is no penalty in what remains of the fit. With a `target` it
            may not be a `Plateau`.
        removal: `"at_stop"`: all groups are removed at once at `stop`, as in the paper. Until then
            a group that has shrunk may grow again, if the loss comes to need it. `"during"`: a
            group is removed as soon as it is below the threshold, so that `groups/…` in the logs
            falls as pruning goes on, and a strength can be judged early. A group that hovers about
            the threshold is lost at the first look that finds it below. With a `target` no more
            are removed than it asks for, and at `stop` what is missing.
        step: `"gradient"`: the penalty is a term of the loss, as in the paper; the optimizer
            treats it as any other. `"proximal"`: the loss stays as it is and each group's norm
            shrinks by `learning rate · strength · √d_g` for each step, down to exactly zero. By
            default `"gradient"`; with a `target` and channels among the structures `"proximal"`,
            for all of them: the factors of normalizations, which begin near 1, move by no more than
            the learning rate in a step.
        penalized: `"all"`: all groups, as in the paper. `"lowest"`, with a `target`: only those
            that it would have removed at the last look; the others are not penalized. By default
            `"all"`; with a `target` and channels among the structures `"lowest"`: behind a
            normalization the size of a channel does not tell what it is worth, and a network whose
            channels are all small dies.
        threshold: Absolute sum of a group's weights below which it is removed; 1e-5 in the paper.
        relative_threshold: Root mean square of a group's weights up to which it is removed too, as
            a share of the structure's median root mean square when pruning starts. 0 is the paper's
            rule alone, for long training whose learning rate falls: with Adam, weights under the
            penalty hover about zero at the height of the learning rate, and their absolute sum
            over d weights stays near `d · learning rate`, far above 1e-5.
        groups: `"joint"`: a unit is one group with its column, bias and row. `"rowcol"`: rows and
            columns are groups by themselves, as in the paper.
        heads: `"head"`: all weights of a head are one group. `"rowcol"`: rows and columns are,
            and a head is removed when at least half of them are below the threshold.
        within: With a `target`, what is compared: `"kind"` and `"layer"` remove the same share from
            each and steer a strength for each; `"model"` ranks all groups together. By default
            `"layer"` for the `Flops` of channels, else `"kind"`.
        round_to: With a `target`, kind to a number whose multiples are left, such as `{"ffn": 8}`.
        check_every: Steps from one look at the norms to the next.
        verbose: 1 prints a table at the end.
        log_structures: As in `PruningCallback`.

    Attributes:
        strengths_reached: With a `target`, structure name to the last strength; `None` where groups
            go straight to zero, whatever the strength. The epoch logs have the strengths as
            `strength/…`, by kind.

    Raises:
        ValueError: For arguments out of range; in `fit`, if a pattern matches nothing, the model
            is not built or not compiled, its weights are not finite, it is given twice, or a
            target cannot be reached.

    Source: Behnke & Heafield, "Pruning Neural Machine Translation for Speed Using Group Lasso",
    WMT 2021, equations 1 and 2, sections 4 and 5.3; a penalty on the lowest alone: Wang et al.,
    "Neural Pruning via Growing Regularization", ICLR 2021. How a target steers the strength is of
    tfprune.

    Example:

    >>> import keras, numpy as np, tfprune
    >>> model = keras.Sequential([
    ...     keras.Input((4,)),
    ...     keras.layers.Dense(8, "relu", name="hidden"),
    ...     keras.layers.Dense(1, name="out"),
    ... ])
    >>> model.compile(keras.optimizers.Adam(0.01), "mse")
    >>> x = np.random.default_rng(0).normal(size=(256, 4))
    >>> lasso = GroupLasso(["ffn"], target=tfprune.Sparsity(0.5), start=0.25, stop=0.75, verbose=0)
    >>> history = model.fit(x, x[:, :1], epochs=40, verbose=0, callbacks=[lasso]).history
    >>> history["groups/ffn"][-1]
    4
    >>> tfprune.find_structures(tfprune.rebuild(model))[0].groups
    4
    """

    def __init__(
        self,
        structures: str | Iterable[str] | None = None,
        strength: float | Mapping[str, float] | Callable | None = None,
        target: Target | None = None,
        words_per_batch: float | None = None,
        start: Moment = 0,
        stop: Moment | None = 0.5,
        removal: str = "at_stop",
        step: str | None = None,
        penalized: str | None = None,
        threshold: float = 1e-5,
        relative_threshold: float = 0.05,
        groups: str = "joint",
        heads: str = "head",
        within: str | None = None,
        round_to: Mapping[str, int] | None = None,
        check_every: int = 20,
        verbose: int = 1,
        log_structures: bool = False,
    ):
        self._compares_by_default = within is None
        super().__init__(
            structures,
            target=target,
            start=start,
            stop=stop,
            within="kind" if within is None else within,
            per_cost=False,
            round_to=round_to,
            check_every=check_every,
            verbose=verbose,
            log_structures=log_structures,
        )
        self.removal = one_of("removal", removal, ("at_stop", "during"))
        if step is not None:
            one_of("step", step, ("gradient", "proximal"))
        if penalized is not None:
            one_of("penalized", penalized, ("all", "lowest"))
        one_of("groups", groups, ("joint", "rowcol"))
        one_of("heads", heads, ("head", "rowcol"))
        if step == "proximal" and "rowcol" in (groups, heads):
            raise ValueError(
                "`step='proximal'` works on joint groups. Received: "
                f"groups={groups!r}, heads={heads!r}"
            )
        if penalized == "lowest" and target is None:
            raise ValueError(
                "`penalized='lowest'` needs a `target`, which says which groups those are. "
                "Received: target=None"
            )
        self._strength_is_given = strength is not None
        self.strength = checked_strengths(STRENGTH if strength is None else strength)
        self._check_target()
        self.words_per_batch = number("words_per_batch", words_per_batch, above=0, optional=True)
        self._given = step, penalized
        self.step, self.penalized = step or "gradient", penalized or "all"
        self.threshold = number("threshold", threshold, least=0)
        self.relative_threshold = number("relative_threshold", relative_threshold, least=0, below=1)
        self.groups = groups
        self.heads = heads
        self.strengths_reached: dict[str, float] | None = None

    def _check_target(self):
        """A target steers the strength; what belongs to one is of no use without it."""
        if self.schedule is not None:
            raise ValueError(
                "`target` must be a target such as tfprune.Sparsity(0.5). Received: a function; "
                "`ImportancePruning` and `MovementPruning` take one."
            )
        if self.target is None:
            if self.round_to is not None:
                raise ValueError(
                    "`round_to` needs a `target`. Received: "
                    f"round_to={self.round_to!r}, target=None"
                )
            return
        values = self.strength.values() if isinstance(self.strength, Mapping) else [self.strength]
        if callable(self.strength) or not any(values):
            raise ValueError(
                "`strength` must be what λ is at `start`, a number above 0 or a dictionary of "
                "such, where a `target` is given. Received: "
                f"strength={self.strength!r}, target={self.target!r}"
            )

    # -- set up and tear down -----------------------------------------------------------------

    @property
    def needs_span(self) -> bool:
        """Under a target, λ is set by what is left of the way to `stop`."""
        return self.target is not None

    def prepare(self) -> None:
        """Chooses each structure's strength and puts the penalties in place."""
        super().prepare()
        self._choose_how()
        self._has_pressed = False
        self._control = StrengthControl(
            self.state.control, [self._family(s) for s in self.structures], self.relative_threshold
        )
        self._schedules = [
            scheduled(s, "strength") for s in strength_of_each(self.strength, self.structures)
        ]
        self._pressed = {}
        if self.step == "gradient":
            for index, structure in enumerate(self.structures):
                pressed: Any = 1.0
                if self.penalized == "lowest":
                    pressed = self.state.add_factors(index, structure.groups)
                    self._pressed[structure.name] = pressed
                self.state.add_penalty(
                    penalties.StructurePenalty(
                        structure, self.state.strengths, index, self._mode(structure), pressed
                    )
                )

    def _choose_how(self):
        """Sets what depends on the kinds of the structures, unless it was given."""
        to_channels = self.target is not None and has_channels(self.structures.kinds)
        joint = "rowcol" not in (self.groups, self.heads)
        step, penalized = self._given
        self.step = step or ("proximal" if to_channels and joint else "gradient")
        self.penalized = penalized or ("lowest" if to_channels else "all")
        self._goes_by_size = (
            self.target is not None and self.step == "proximal" and not self._strength_is_given
        )
        self._goes_straight = self._goes_by_size and self.penalized == "lowest"

    def finish(self) -> None:
        """Removes groups at the end, if not done yet; says if the strength was far off."""
        if self._decides_at_stop and self.owner.clock.has_begun and not self.state.decided:
            if self.stop is not None:
                self.warn_if_cut_short("groups are removed now")
            self._decide()
        self.strengths_reached = None
        if self.target is not None:
            if not self._goes_straight:
                starts = [float(schedule(0)) for schedule in self._schedules]
                last = map(float, starts * self._control.factors())
                names = (s.name for s in self.structures)
                self.strengths_reached = dict(zip(names, last, strict=True))
        elif self.state.has_begun:
            warn_of_strength(
                type(self).__name__,
                self.structures,
                self._left_in_weights(),
                self._references(),
                self.relative_threshold,
                self._has_pressed,
            )
        super().finish()

    def _family(self, structure):
        return {"model": "", "kind": structure.kind, "layer": structure.name}[self.within]

    def _mode(self, structure):
        mode = self.groups if structure.of_single_connections else self.heads
        return "rowcol" if mode == "rowcol" else "joint"

    # -- during the fit -----------------------------------------------------------------------

    def strengths(self) -> dict[str, float]:
        """Structure name to λ as it is now, in the unit of `strength`; 0 while pruning is off."""
        return self._by_structure(self.state.strengths * (self.words_per_batch or 1.0))

    def on_step(self, step: int, steps: int) -> None:
        """Sets the strengths, and prunes the groups that have shrunk."""
        since_start = self.state.since_start(step)
        self._keep_references()
        divisor = self.words_per_batch or 1.0
        strengths = [schedule(since_start) / divisor for schedule in self._schedules]
        keep: dict[str, np.ndarray] = {}
        if self.target is not None:
            sizes = self._relative_sizes()
            keep = self.survivors(sizes)
            if self._goes_straight:
                strengths = proximal_steps.strengths_to_zero(
                    [sizes[s.name] for s in self.structures],
                    [keep[s.name] for s in self.structures],
                    self._references(),
                    self._learning_rates(),
                    self._steps_left(step) + steps,
                )
            else:
                self._steer(step, sizes, keep)
                factors = self._control.factors()
                strengths = [s * f for s, f in zip(strengths, factors, strict=True)]
        self._has_pressed |= any(strengths)
        self.state.strengths.assign(np.asarray(strengths, "float32"))
        for name, pressed in self._pressed.items():
            pressed.assign((~keep[name]).astype("float32"))
        if self.step == "proximal" and steps:
            if self._goes_straight:
                left = self._steps_left(step)
                # Each loses the share of the way that was made since the last look.
                proximal_steps.take_toward_zero(self.structures, keep, left / (left + steps))
            else:
                amounts = self._learning_rates() * np.asarray(strengths) * steps
                lowest = self.penalized == "lowest"
                proximal_steps.shrink(self.structures, amounts, keep, lowest)
        if self._removes_at_stop and steps:
            for structure in self.structures:
                self.prune(structure, self.pruned(structure))
        elif self._removes_at_stop or not (since_start or steps):
            # The penalty has not worked yet: only what is zero is removed.
            self.prune_zero_groups()
        else:
            self._remove_small()

    @property
    def _removes_at_stop(self):
        return self.removal == "at_stop"

    @property
    def _decides_at_stop(self):
        return self._removes_at_stop or self.target is not None

    def _keep_references(self):
        """Keeps what was usual when pruning started."""
        if np.isnan(self._references()).any():
            medians = [np.median(penalties.root_mean_squares(s)) for s in self.structures]
            self.state.references.assign(np.asarray(medians, "float32"))

    def _relative_sizes(self):
        """Structure name to the root mean squares of its groups, as shares of the reference."""
        sizes = {}
        for s, reference in zip(self.structures, self._references(), strict=True):
            sizes[s.name] = penalties.root_mean_squares(s, groups=self._mode(s))
            self.refuse_not_finite(s, sizes[s.name])
            sizes[s.name] /= max(reference, 1e-12)
        return sizes

    def _steer(self, step, sizes, keep):
        """Sets the factors on the strengths by the speeds at which groups shrink."""
        last_look = self._control.last_look()
        if step - last_look < self.check_every / 2:
            return  # Too few steps, as at the end of an epoch, to tell a speed.
        first, last = self.span()
        # The last part of the way is not to be covered all at once.
        steps_left = max(self._steps_left(step), (1 - ARRIVAL) * (last - first))
        begin = None
        if self._goes_by_size:
            begin = proximal_steps.factors_to_zero(
                self._references(),
                self._learning_rates(),
                steps_left,
                STRENGTH / (self.words_per_batch or 1.0),
            )
        self._control.look(step, steps_left, list(sizes.values()), list(keep.values()), begin)

    def _steps_left(self, step):
        """Until groups are to be small."""
        first, last = self.span()
        return max(first + ARRIVAL * (last - first) - step, 0.0)

    def _remove_small(self):
        """Removes the groups below the thresholds, but no more than the target would."""
        keep = {} if self.target is None else self.survivors(self._relative_sizes())
        for structure, reference in zip(self.structures, self._references(), strict=True):
            norms = structure.norms()
            dead = penalties.dead_groups(
                structure,
                self.threshold,
                self._mode(structure),
                norms,
                self.relative_threshold * float(reference),
            )
            self.prune(structure, dead & ~keep.get(structure.name, np.False_), norms)

    def _decide(self):
        """Removes groups at the end of pruning, once."""
        if self.target is not None:
            self._keep_references()
            sizes = self._relative_sizes()
            keep = self.survivors(sizes)
            warn_of_large(
                type(self).__name__, self.structures, sizes, keep, not self._goes_straight
            )
            self.remove(sizes)
        elif self.state.has_begun:
            self._remove_small()
        self.state.decide()

    def _references(self):
        return keras.ops.convert_to_numpy(self.state.references)

    def _learning_rates(self):
        """That of each structure now."""
        optimizer = self.model.optimizer
        trained = [trained_by(optimizer, s.slices[0].variable) for s in self.structures]
        return np.array([float(keras.ops.convert_to_numpy(o.learning_rate)) for o in trained])

    def on_step_outside(self) -> None:
        """No penalty; what is removed stays at zero, and at `stop` it is removed."""
        self.state.strengths.assign(np.zeros(len(self.structures), "float32"))
        self.prune_zero_groups()
        if (
            self._decides_at_stop
            and self._reached("stop", self._last_step)
            and not self.state.decided
        ):
            self._decide()
