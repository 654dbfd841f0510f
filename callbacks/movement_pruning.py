"""Movement pruning during `fit`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from keras import ops

from tfprune import criteria
from tfprune.arguments import number, one_of
from tfprune.budgets.targets import Target
from tfprune.callbacks.gated import GatedPruning
from tfprune.fit.strengths import checked_strengths, strength_of_each
from tfprune.gates import BlockScores, MovementScores
from tfprune.gates.gate import kernels_of
from tfprune.gates.movement import checked_block
from tfprune.gates.penalties import ScorePenalty
from tfprune.schedules import cubic, scheduled

METHODS = ("struct", "hybrid", "hybrid_filled", "block")
# Under a strength, a group is closed when σ(S) is below this.
CLOSED_BELOW = 0.1


class MovementPruning(GatedPruning):
    """Keeps what moves away from zero while a pretrained model is fine-tuned.

    Scores are trained with the weights; what scores lowest is masked, more and more from `start` to
    `stop`. Then the heads and units that stay are selected, and training goes on without masks.

    Args:
        method: `"struct"`: one score for each head and unit. `"hybrid"`: blocks of the attention
            kernels, and units; a head is removed with its blocks. `"hybrid_filled"`:
            likewise, and what was masked inside the heads that stay is initialised anew when the
            masks are removed.
            `"block"`: blocks of all kernels.
        target: How far: `tfprune.Sparsity(0.5)`, `Parameters`, `Flops`, `Latency`; or a function of
            the step since `start` that gives a sparsity, such as a schedule of
            tensorflow_model_optimization.
        strength: Instead of a target: λ of the penalty `λ Σ σ(S)`; what is below σ(S) = 0.1 is
            masked. A dictionary from patterns to strengths, as in `GroupLasso`, sets λ by part. A
            single number, or a function of the step since `start`, counts `1/32` for whole heads
            and `decoder_strength` times for structures of a decoder, as in the paper.
        decoder_strength: See `strength`.
        structures: Kinds (`"ffn"`, `"heads"`), names or regular expressions; `None` means all.
        block: Height and width of the blocks.
        score_learning_rate: Learning rate of the scores, for Adam and its variants.
        start: When masking begins: steps (int), a fraction of this fit (float), or an `Epoch`
            or `Plateau` of `tfprune.schedules`.
        stop: When it ends, as `start`; what remains of the fit only trains.
        within: As in `ImportancePruning`; by default each kind loses the same share, since scores
            of units, heads and blocks are not of one size.
        round_to: As in `ImportancePruning`.
        check_every: Steps from one change of the masks to the next.
        verbose: 1 prints a table at the end.

    Raises:
        ValueError: For arguments out of range; in `fit`, if a target cannot be reached, and as
            `PruningCallback`.

    Source: Lagunas et al., "Block Pruning For Faster Transformers", 2021, section 3 and 4; the
    share masked follows Zhu & Gupta, "To Prune, or Not to Prune", 2017, equation 1.

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

    def __init__(
        self,
        method: str = "struct",
        target: Target | None = None,
        strength: float | Mapping[str, float] | Callable | None = None,
        decoder_strength: float = 2.0,
        structures=None,
        block: tuple[int, int] = (32, 32),
        score_learning_rate: float = 0.01,
        start=0.1,
        stop=0.7,
        within: str = "kind",
        round_to: Mapping[str, int] | None = None,
        check_every: int = 10,
        verbose: int = 1,
    ):
        super().__init__(
            structures, target, start, stop, within, False, round_to, check_every, verbose
        )
        if (target is None) == (strength is None):
            raise ValueError(
                "Either `target` or `strength` must be given. Received: "
                f"target={target!r}, strength={strength!r}"
            )
        self.method = one_of("method", method, METHODS)
        self.strength = None if strength is None else checked_strengths(strength)
        self.decoder_strength = number("decoder_strength", decoder_strength, least=0)
        self.block = checked_block(block)
        self.score_learning_rate = number("score_learning_rate", score_learning_rate, above=0)

    # -- gates -----------------------------------------------------------------------------------

    def make_gates(self):
        """A score for each group, or for each block of each kernel."""
        scale = self.score_scale(self.score_learning_rate)
        gates = []
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

    def prepare(self):
        """Puts the penalty on the scores into the loss."""
        super().prepare()
        if self.strength is None:
            return
        each = strength_of_each(self.strength, self.structures)
        # Structure by structure, a function of the step since `start` and a factor.
        self._strengths = [
            (
                scheduled(strength, "strength"),
                1.0 if isinstance(self.strength, Mapping) else self._factor(s),
            )
            for s, strength in zip(self.structures, each, strict=True)
        ]
        names = [s.name for s in self.structures]
        for gate in self.gates:
            place = names.index(gate.structure.name)
            self.state.add_penalty(ScorePenalty(gate, self.state.strengths, place))

    def _factor(self, structure):
        whole_heads = structure.kind == "heads" and not self._in_blocks(structure)
        of_decoder = self.decoder_strength if "decoder" in structure.name else 1.0
        return of_decoder / (32 if whole_heads else 1)

    # -- during the fit --------------------------------------------------------------------------

    @property
    def needs_span(self):
        """More and more is masked from start to stop."""
        return self.strength is None

    def on_step(self, step, steps):
        """Masks what scores lowest, as much of it as the schedule says."""
        self.hold()
        if self.strength is not None:
            since_start = self.state.since_start(step)
            strengths = [schedule(since_start) * factor for schedule, factor in self._strengths]
            self.state.strengths.assign(np.asarray(strengths, "float32"))
            for gate in self.gates:
                gate.set_threshold(math.log(CLOSED_BELOW / (1 - CLOSED_BELOW)))
            return
        progress = self._progress(step)
        keep = self.survivors(criteria.movement(self.subject), progress)
        for gate in self.gates:
            if not gate.in_blocks:
                gate.set_mask(keep[gate.structure.name])
        self._mask_blocks(progress)

    def _progress(self, step):
        first, last = self.span()
        if self.schedule:
            return self.schedule(max(step - first, 0))
        passed = min(max(step - first, 0) / max(last - first, 1), 1.0)
        return cubic(passed)

    def _mask_blocks(self, progress):
        """Closes the same share of blocks as the target removes of the structures' cost."""
        blocks = [g for g in self.gates if g.in_blocks]
        if not blocks:
            return
        share = progress if self.schedule else progress * self._share_to_go()
        scores = np.concatenate([self._scores_of_blocks(g).ravel() for g in blocks])
        stay = np.ones(len(scores), bool)
        stay[np.argsort(scores, kind="stable")[: int(share * len(scores))]] = False
        ends = np.cumsum([g.scores.shape[0] * g.scores.shape[1] for g in blocks])
        for gate, mask in zip(blocks, np.split(stay, ends[:-1]), strict=True):
            gate.set_mask(mask.reshape(gate.scores.shape))

    def _scores_of_blocks(self, gate):
        """S; lowest of all for what is pruned already, which counts as masked."""
        scores = ops.convert_to_numpy(gate.scaled_scores)
        return np.where(gate.blocks_within(self.pruned(gate.structure)), -np.inf, scores)

    def _share_to_go(self):
        return (self._full - self.target.limit) / max(self._full - self._least, 1e-12)

    def on_step_outside(self):
        """No penalty."""
        self.state.strengths.assign(np.zeros(len(self.structures), "float32"))
        super().on_step_outside()

    # -- the decision ----------------------------------------------------------------------------

    def select(self):
        """What scores highest; under a strength, what is not masked."""
        if self.strength is None:
            final = self._progress(self.span()[1])
            return self.survivors(criteria.movement(self.subject), final)
        return {s.name: self._open(s) for s in self.structures}

    def _open(self, structure):
        mine = [g for g in self.gates if g.structure is structure]
        if not mine[0].in_blocks:
            return mine[0].open_groups()
        # A group works as long as something makes it and something reads it.
        silencers = [id(s.variable) for s in structure.silencers]
        made = [g.open_groups() for g in mine if id(g.shares[0].variable) in silencers]
        read = [g.open_groups() for g in mine if g.shares[0].role == "consumer"]
        works = np.logical_or.reduce(read)
        return works & np.logical_or.reduce(made) if made else works

    def fix(self, keep):
        """Masks of whole groups stay; those of blocks in groups that live come off."""
        for gate in self.gates:
            stays = keep[gate.structure.name].astype("float32")
            if not gate.in_blocks:
                gate.fix(stays)
                continue
            (share,) = gate.shares
            share.variable.assign(gate.masked_kernel(fill=self.method == "hybrid_filled"))
            gate.fix(np.ones(gate.scores.shape, "float32"))
