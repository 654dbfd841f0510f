"""Movement pruning during `fit`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from tfprune import criteria
from tfprune.arguments import integer, number, one_of
from tfprune.budgets.targets import Target
from tfprune.callbacks.gated import GatedPruning
from tfprune.callbacks.hard_movement import HardMovement
from tfprune.callbacks.soft_movement import SoftMovement
from tfprune.criteria.gradients import absolute_gradients
from tfprune.fit.strengths import checked_strengths
from tfprune.gates import BlockScores, Gate, MovementScores
from tfprune.gates.gate import kernels_of
from tfprune.gates.movement import checked_block, of_all_kernels
from tfprune.schedules import Moment, cubic

METHODS = ("struct", "hybrid", "hybrid_filled", "block")
INITIAL_SCORES = ("zeros", "gradient_importance")
# So far above and below 0 do scores by importance begin: σ(S) from 0.05 to 0.95.
HIGHEST_INITIAL_SCORE = 3.0


class MovementPruning(GatedPruning):
    """Keeps what moves away from zero while a pretrained model is fine-tuned.

    Scores are trained with the weights. Under a target the lowest of them are masked, more and more
    from `start` to `stop` (hard movement pruning). Under a strength λ all with `σ(S) <= τ` are
    masked (soft movement pruning): τ grows from 0 to 0.1 from `start` to `stop`, and λ with it.
    With both, λ brings the scores down in that time, and the target is met by rank at `stop`.

    Args:
        method: `"struct"`: one score for each head and unit. `"hybrid"`: blocks of the attention
            kernels, and units. A head leaves at `stop` if its query, key, value or output is masked
            throughout; the masked blocks of other heads stay masked to the end of the fit, and
            zero in what `rebuild` cuts. A layer may lose all its heads.
            `"hybrid_filled"`: likewise, and at `stop` what was masked inside the heads that stay is
            drawn anew, near the mean of the kernel, and trained without masks.
            `"block"`: blocks of all kernels.
        target: How far: `tfprune.Sparsity(0.5)`, `Parameters`, `Flops`, `Latency`; or a function of
            the step since `start` that gives a sparsity, such as a schedule of
            tensorflow_model_optimization.
        strength: λ of the penalty on σ(S); 5 to 10 leave about a quarter to a fifth of BERT's
            weights in a long fine-tuning. In a short one of some hundred steps, beside a target,
            take 1 (`"struct"`, as `{".*": 1.0}`) to 3 (`"hybrid"`): under a large λ Adam moves all
            scores alike. The mean of σ(S) over each matrix of scores counts, then
            the mean over the matrices of a kind and over the kinds. A dictionary from patterns to
            strengths, as in `GroupLasso`, sets λ by part, such as
            `{".*": 10.0, "decoder.*": 20.0}`. A single number, or a function of the step since
            `start`, counts `1/32` for whole heads, as in the paper. A function gives the present
            λ; a number is the last λ, and grows with τ.
        structures: Kinds (`"ffn"`, `"heads"`, `"channels"`, `"recurrent"`), names or regular
            expressions; `None` means all but `"width"`, the channels of a residual stream.
        block: Height and width of the blocks.
        initial_scores: `"zeros"`, as in the paper; or `"gradient_importance"`: at `start` the
            scores of a kind are set from -3 to 3, in the order of `|∂L/∂M|` for what they mask, the
            mean over the batches of `data`. A short fine-tuning then need not find that order by
            itself.
        data: What the loss is taken on for `"gradient_importance"`: a dataset or `(x, y)`.
        batches: Batches of `data` to look at; all by default.
        score_learning_rate: Learning rate of the scores, for Adam and its variants. At 0.05 it
            takes about 44 full steps from 0 until σ(S) is 0.1.
        start: When masking begins: steps (int), a fraction of this fit (float), or an `Epoch`
            or `Plateau` of `tfprune.schedules`.
        stop: When it ends, as `start`; what remains of the fit is the cool-down.
        cool_down: Under a strength alone, what the masks do in the cool-down. `"trained"`: scores
            and λ go on, so that masks still change until the fit ends, as in the authors' code.
            `"fixed"`: masks stay as they are at `stop`, as they do under a target and for
            `"hybrid_filled"`.
        within: As in `ImportancePruning`, but for `"error"`: trained scores are no errors. By
            default each kind loses the same share, since scores of units, heads and blocks are not
            of one size, and for the `Flops` of channels each layer.
        round_to: As in `ImportancePruning`.
        seed: Seed of what `"hybrid_filled"` draws.
        check_every: Steps from one change of the masks to the next.
        verbose: 1 prints a table at the end.
        log_structures: As in `PruningCallback`.

    Raises:
        ValueError: For arguments out of range; in `fit`, if a target cannot be reached, and as
            `PruningCallback`.

    Source: Lagunas et al., "Block Pruning For Faster Transformers", 2021, sections 3 and 4, and
    its code, huggingface/nn_pruning; under a target, Sanh et al., "Movement Pruning", 2020,
    section 4. What is masked under a target, τ and λ follow Zhu & Gupta, "To Prune, or Not to
    Prune", 2017, equation 1.

    Example:

    >>> import keras, numpy as np, tfprune
    >>> model = keras.Sequential([
    ...     keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(1)])
    >>> model.compile("adam", "mse")
    >>> x = np.random.default_rng(0).normal(size=(64, 4))
    >>> pruning = MovementPruning("struct", target=tfprune.Sparsity(0.5), verbose=0)
    >>> history = model.fit(x, x[:, :1], epochs=3, verbose=0, callbacks=[pruning])
    >>> tfprune.find_structures(tfprune.rebuild(model))[0].groups
    4
    """

    _is_cooling_down: bool
    _masking: HardMovement | SoftMovement

    def __init__(
        self,
        method: str = "struct",
        target: Target | Callable | None = None,
        strength: float | Mapping[str, float] | Callable | None = None,
        structures: str | Iterable[str] | None = None,
        block: tuple[int, int] = (32, 32),
        initial_scores: str = "zeros",
        data: Any = None,
        batches: int | None = None,
        score_learning_rate: float = 0.05,
        start: Moment = 0.25,
        stop: Moment | None = 0.7,
        cool_down: str = "trained",
        within: str | None = None,
        round_to: Mapping[str, int] | None = None,
        seed: int | None = 0,
        check_every: int = 10,
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
        if target is None and strength is None:
            raise ValueError("`target`, `strength` or both must be given. Received: neither")
        self.method = one_of("method", method, METHODS)
        self.strength = None if strength is None else checked_strengths(strength)
        self.seed = integer("seed", seed, least=0, optional=True)
        self.cool_down = one_of("cool_down", cool_down, ("trained", "fixed"))
        self.block = checked_block(block)
        self.initial_scores = one_of("initial_scores", initial_scores, INITIAL_SCORES)
        self.criterion = None
        if self.initial_scores != "zeros":
            self.criterion = criteria.get(self.initial_scores, data)
        self.data = data
        self.batches = integer("batches", batches, optional=True)
        self.score_learning_rate = number("score_learning_rate", score_learning_rate, above=0)

    # -- gates -----------------------------------------------------------------------------------

    def make_gates(self) -> list[Gate]:
        """A score for each group, or for each block of each kernel."""
        scale = self.score_scale(self.score_learning_rate)
        gates: list[Gate] = []
        for s in self.structures:
            if not self._in_blocks(s):
                gates.append(MovementScores(s, scale))
                continue
            for i, share in enumerate(kernels_of(s)):
                name = f"{s.name}_{i}_blocks".replace("/", "_")
                gates.append(BlockScores(s, share, self.block, scale, name))
        return gates

    def _in_blocks(self, structure):
        of_heads = not structure.of_single_connections
        return self.method == "block" or (self.method.startswith("hybrid") and of_heads)

    def prepare(self) -> None:
        """Chooses what masks by: rank, or a penalty and a threshold."""
        super().prepare()
        if self.criterion is not None:
            self.criterion.try_data(self.model, self.subject, self.data, self.batches)
        if self.strength is None:
            self._masking = HardMovement(
                self.gates, self._progress, self._best, self._share_of_blocks, self.pruned
            )
        else:
            self._masking = SoftMovement(
                self.gates, self.structures, self.strength, self.state, self._grown
            )

    # -- during the fit --------------------------------------------------------------------------

    @property
    def needs_span(self) -> bool:
        """More and more is masked from start to stop."""
        return True

    @property
    def _has_target(self):
        return self.target is not None or self.schedule is not None

    def strengths(self) -> dict[str, float]:
        """Structure name to λ as it is now; none without `strength`."""
        if self.strength is None:
            return {}
        return self._by_structure(self.state.strengths)

    def on_step(self, step: int, steps: int) -> None:
        """Masks more, as the schedule says: what scores lowest, or what is below the threshold."""
        self.prune_zero_groups()
        if not self.state.has_begun and self.criterion is not None:
            self._start_from_importance()
        self.state.since_start(step)
        self._masking.mask(step)

    def _start_from_importance(self):
        """Sets the scores of each kind by their order."""
        found = absolute_gradients(
            self.model, self.data, [g.scores for g in self.gates], steps=self.batches
        )
        for kind in {g.structure.kind for g in self.gates}:
            mine = [i for i, g in enumerate(self.gates) if g.structure.kind == kind]
            each = np.concatenate([found[i].ravel() for i in mine])
            scores = HIGHEST_INITIAL_SCORE * np.linspace(-1, 1, len(each), dtype="float32")
            placed = np.empty_like(scores)
            placed[np.argsort(each, kind="stable")] = scores
            ends = np.cumsum([found[i].size for i in mine])
            for i, values in zip(mine, np.split(placed, ends[:-1]), strict=True):
                self.gates[i].set_scores(values.reshape(found[i].shape))

    def _progress(self, step):
        if self.schedule:
            return self.schedule(max(step - self.span()[0], 0))
        return self._grown(step)

    def _grown(self, step):
        first, last = self.span()
        return cubic(min(max(step - first, 0) / max(last - first, 1), 1.0))

    def _best(self, progress):
        return self.survivors(criteria.movement(self.subject), progress)

    def _share_of_blocks(self, progress):
        """The share that the target removes of the structures' cost."""
        if self.schedule:
            return progress
        assert self.target is not None
        to_go = (self._full - self.target.limit) / max(self._full - self._least, 1e-12)
        return progress * to_go

    def on_step_outside(self) -> None:
        """Before pruning there is no penalty; after it, the cool-down."""
        if self._masks_are_trained:
            if not self._is_cooling_down:
                self._is_cooling_down = True
                self.owner.model_changed()  # The best epoch is one of the cool-down.
            self._masking.mask(self._last_step)
            self._masking.end(self._last_step)
            self._close_what_leaves()
            self.prune_zero_groups()
            return
        self.state.strengths.assign(np.zeros(len(self.structures), "float32"))
        super().on_step_outside()

    def _close_what_leaves(self):
        """Masks what is left of groups that leave, so that training goes on without them."""
        for gate in self.gates:
            if gate.in_blocks:
                gate.close_groups(~self._open(gate.structure))

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begins anew."""
        super().on_train_begin(logs)
        self._is_cooling_down = False

    @property
    def _masks_are_trained(self):
        """Whether this is a cool-down in which masks may change.

        Scores that were not trained before `stop`, as after a resume without them, are not worth
        training then.
        """
        fixed = self._has_target or self.method == "hybrid_filled" or self.cool_down == "fixed"
        trained = not fixed and self.state.has_begun and not self.decided
        return trained and self._reached("stop", self._last_step)

    def _left_in_weights(self):
        left = super()._left_in_weights()
        if self.owner.is_open and self._masks_are_trained:
            for s in self.structures:
                left[s.name] = int(np.count_nonzero(self._open(s) & (s.norms() > 0)))
        return left

    # -- the decision ----------------------------------------------------------------------------

    def finish(self) -> None:
        """Ends a cool-down: masks stay as they are, and what is masked is pruned."""
        if self.owner.clock.has_begun and self._masks_are_trained:
            keep = self.select()
            self.fix(keep)
            for name, stays in keep.items():
                # Past `prune`, to which this were another model than that of the last epochs.
                self.owner.pruned.prune(self.structures[name], ~stays, self.model.optimizer)
        super().finish()

    def select(self) -> dict[str, np.ndarray]:
        """What scores highest; under a strength alone, what is not masked."""
        last = self.span()[1]
        if self.state.has_begun:
            self._masking.end(last)
        if self._has_target:
            return self._best(self._progress(last))
        return {s.name: self._open(s) for s in self.structures}

    def _open(self, structure):
        mine = [g for g in self.gates if g.structure is structure]
        each = [g.open_groups() for g in mine]
        return of_all_kernels(mine, each) if mine[0].in_blocks else each[0]

    def fix(self, keep: dict[str, np.ndarray]) -> None:
        """Masks stay, but for what is drawn anew."""
        for place, gate in enumerate(self.gates):
            stays = keep[gate.structure.name]
            if not gate.in_blocks:
                gate.fix(stays)
            elif self.method == "hybrid_filled":
                seed = None if self.seed is None else self.seed + place
                (share,) = gate.shares
                share.variable.assign(gate.filled_kernel(seed))
                gate.fix(np.ones(gate.scores.shape, "float32"))
            else:
                gate.fix(gate.mask_that_leaves(stays) if self._has_target else gate.values())
