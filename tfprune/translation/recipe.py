"""Train, prune, rebuild, converge: the paper's experiment as a few resumable stages.

The demo and the benchmark are two sizes of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import keras

from tfprune.arguments import integer, number
from tfprune.callbacks import GroupLasso
from tfprune.datasets import ParallelText
from tfprune.datasets.parallel import Pair
from tfprune.files import atomic_write
from tfprune.rebuild import rebuild
from tfprune.schedules import Plateau
from tfprune.structures import find_structures
from tfprune.translation.best_checkpoint import BestCheckpoint
from tfprune.translation.distillation import distill
from tfprune.translation.evaluation import SacreBleu, evaluate
from tfprune.translation.sentence_pairs import batches
from tfprune.translation.student import student
from tfprune.translation.training import compile_student, without_dropout
from tfprune.translation.translates import Translates
from tfprune.translation.translator import Translator
from tfprune.translation.vocabulary import Vocabulary

_MANY_SHAPES = {"length_multiple": 4, "bucket_by": "both"}


@dataclass
class Recipe:
    """The sizes of one experiment.

    Args:
        text: Parallel text.
        folder: Where checkpoints and results are written; what exists is not made again.
        shape: Arguments of `student`.
        vocabulary_size: Units of the vocabulary.
        max_words: Longer sentences are left out of training, in words.
        max_length: Longest sentence, in tokens.
        tokens_per_batch: Tokens in a batch.
        pretrain_epochs: Epochs before pruning starts; the most of them, if there is a `patience`.
        prune_epochs: Epochs with the penalty; by default as many as those before and after it
            together, so that there is a penalty for half of all training, as in the paper.
        converge_epochs: Epochs after the rebuild, in which the learning rate falls to 0.
        learning_rate: Of pretraining.
        later_learning_rate: Of what follows.
        seed: Seed of weights and order.
        patience: Pretraining ends when the best BLEU of so many epochs is less than `min_gain` over
            the best before them, on 200 development pairs that are translated greedily after each
            epoch; the best epoch is kept. Not before BLEU has reached `min_gain`, as small models
            may need epochs to their first right words. `None` trains for all `pretrain_epochs`.
        min_gain: In BLEU points; one point in the paper.
        teacher: Anything with `translate(sentences, beam=, batch_size=)`, such as a `Translator`,
            whose translations of the training sources are learned in place of the targets of
            `text`. They are made once and kept in `folder`; another teacher needs another folder.
            Development and test pairs stay as they are.
        callbacks: More callbacks for each `fit`, made anew each time, such as a progress display.

    Raises:
        ValueError: If `folder` holds an experiment of other sizes or on other text, or `patience`
            or `min_gain` is out of range.

    Source: Behnke & Heafield, WMT 2021, section 4: pretraining until BLEU stalls, the penalty for
    half of the training, rebuilding, convergence; students of a teacher's translations.
    """

    text: ParallelText
    folder: Path
    shape: dict[str, Any]
    vocabulary_size: int = 6000
    max_words: int = 30
    max_length: int = 48
    tokens_per_batch: int = 3000
    pretrain_epochs: int = 12
    prune_epochs: int | None = None
    converge_epochs: int = 6
    learning_rate: float = 2e-3
    later_learning_rate: float = 1e-3
    seed: int = 0
    patience: int | None = None
    min_gain: float = 1.0
    teacher: Any = None
    callbacks: Callable[[str, int], Sequence[keras.callbacks.Callback]] = field(
        default=lambda stage, epochs: ()
    )

    def __post_init__(self):
        integer("patience", self.patience, optional=True)
        number("min_gain", self.min_gain, least=0)
        self.folder = Path(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._check_folder()

    def _check_folder(self):
        """Going on with checkpoints of another experiment would mix the two without a word."""
        sizes = {f.name: getattr(self, f.name) for f in fields(self)}
        sizes = {k: v for k, v in sizes.items() if k not in ("text", "folder", "callbacks")}
        if self.teacher is not None:
            sizes["teacher"] = type(self.teacher).__name__
        sizes = json.loads(json.dumps({"text": repr(self.text), **sizes}))
        path = self.folder / "recipe.json"
        if not path.exists():
            with atomic_write(path) as temporary:
                temporary.write_text(json.dumps(sizes, indent=1) + "\n")
        # A folder may be older than an argument, which had the effect of its default then.
        defaults = {f.name: f.default for f in fields(self) if f.name in sizes}
        before = {**defaults, **json.loads(path.read_text())}
        names = sorted(k for k in {*before, *sizes} if before.get(k) != sizes.get(k))
        if names:
            raise ValueError(
                f"`folder` holds an experiment with another {', '.join(names)}; delete it or give "
                f"another folder. Received: folder={str(self.folder)!r}, "
                + ", ".join(f"{k}={sizes.get(k)!r} (there: {before.get(k)!r})" for k in names)
            )

    # -- data ----------------------------------------------------------------------------------

    @property
    def train_pairs(self):
        """Training pairs whose source is short enough, with the targets of the teacher, if any."""
        pairs = [p for p in self.text.train if 1 <= len(p[0].split()) <= self.max_words]
        if self.teacher is None:
            return pairs
        return self._distilled(self.teacher, pairs, "distilled")

    def translated_by(self, teacher: Translates) -> list[Pair]:
        """The training pairs with the translations of a teacher in place of their targets.

        They are made once and kept in `folder`, for all models that learn from it. Sources of
        `max_length` tokens or more are left out, as they are in training.

        Args:
            teacher: As in `Recipe`; it is known again by how it translates some sentences.
        """
        pairs = self._within_length(self.train_pairs)
        some = teacher.translate([source for source, _ in pairs[:20]], beam=1, batch_size=20)
        key = hashlib.sha256(json.dumps(some).encode()).hexdigest()[:12]
        return self._distilled(teacher, pairs, f"distilled_{key}")

    def _distilled(self, teacher, pairs, name):
        path = self.folder / f"{name}.json"
        if not path.exists():
            pairs = distill(teacher, pairs, progress=False)
            with atomic_write(path) as temporary:
                temporary.write_text(json.dumps(pairs))
        return [tuple(pair) for pair in json.loads(path.read_text())]

    def held_out(self, split: str, count: int):
        """The first `count` pairs of a split that are of a sentence's length."""
        pairs = [p for p in getattr(self.text, split) if 2 <= len(p[0].split()) <= self.max_words]
        return self._within_length(pairs)[:count]

    def _within_length(self, pairs):
        """The pairs whose sources need not be cut."""
        tokens = self.vocabulary().encode_all([source for source, _ in pairs])
        return [p for p, ids in zip(pairs, tokens, strict=True) if len(ids) < self.max_length]

    def vocabulary(self) -> Vocabulary:
        """The vocabulary, trained at the first call."""
        path = self.folder / "vocabulary.model"
        if not path.exists():
            sentences = [text for pair in self.train_pairs for text in pair]
            Vocabulary.train(sentences, self.vocabulary_size).save(path)
        return Vocabulary.load(path)

    def batches(self, initial_epoch: int = 0, pairs: Sequence[Pair] | None = None):
        """The training batches from an epoch on, of other pairs if some are given."""
        return batches(
            self.train_pairs if pairs is None else pairs,
            self.vocabulary(),
            tokens_per_batch=self.tokens_per_batch,
            max_length=self.max_length,
            seed=self.seed,
            initial_epoch=initial_epoch,
            **(_MANY_SHAPES if _shapes_are_free() else {}),
        )

    def some_batches(self, count: int = 600, split: str = "dev"):
        """The first `count` pairs of a split unshuffled, to score structures on.

        Args:
            count: How many pairs.
            split: `"dev"`, which is held out as the lottery wants it, or `"train"`.
        """
        pairs = self.train_pairs[:count] if split == "train" else self.held_out(split, count)
        return batches(pairs, self.vocabulary(), max_length=self.max_length, shuffle=False)

    # -- stages --------------------------------------------------------------------------------

    def dense(self) -> keras.Model:
        """The unpruned model after as many steps as the pruned ones."""

        def begun():
            return self.stage(
                "dense_1", self.pretrained, self.pruning_epochs, self.pretrained_epochs
            )

        return self.converged("dense", begun)

    @property
    def pruning_epochs(self) -> int:
        """How many epochs the stage with the penalty has."""
        if self.prune_epochs is None:
            return self.pretrained_epochs + self.converge_epochs
        return self.prune_epochs

    def pruned(
        self,
        name: str,
        structures,
        strength: float = 1e-5,
        teacher: Translates | None = None,
        dropout: bool = True,
        **options,
    ) -> keras.Model:
        """A model pruned by group lasso, rebuilt and converged.

        Args:
            name: Name of the files.
            structures: As in `GroupLasso`.
            strength: As in `GroupLasso`.
            teacher: As in `pruned_by`.
            dropout: As in `pruned_by`.
            **options: More arguments of `GroupLasso`, such as `target`. By default the penalty
                lasts for all `pruning_epochs`, during which groups are removed.
        """
        given = {"stop": None, "removal": "during", **options}
        return self.pruned_by(
            name, lambda: [GroupLasso(structures, strength, verbose=0, **given)], teacher, dropout
        )

    def pruned_by(
        self,
        name: str,
        callbacks: Callable[[], Sequence[keras.callbacks.Callback]],
        teacher: Translates | None = None,
        dropout: bool = True,
    ) -> keras.Model:
        """A model pruned by any callbacks of this package, rebuilt and converged.

        Args:
            name: Name of the files.
            callbacks: Makes the callbacks of the stage with pruning, which has `pruning_epochs`.
            teacher: Whose translations of the training sources are learned after pretraining in
                place of the targets, such as the dense model's; as in `translated_by`.
            dropout: Whether dropout goes on after pretraining. What is smaller and learns from a
                teacher may need none; the papers' students have none.
        """
        pairs = None
        if teacher is not None and not (self.folder / f"{name}.keras").exists():
            pairs = self.translated_by(teacher)

        def begun():
            return self.pretrained() if dropout else without_dropout(self.pretrained())

        def pruned():
            done = self.pretrained_epochs
            stage = f"{name}_1"
            epochs, made = self.pruning_epochs, callbacks()
            return rebuild(self.stage(stage, begun, epochs, done, made, pairs=pairs))

        return self.converged(name, pruned, pairs)

    def from_scratch(self, name: str, like: keras.Model) -> keras.Model:
        """The same shape with new weights, trained for as many steps altogether."""

        def untrained():
            keras.utils.set_random_seed(self.seed + 1)
            return type(like).from_config(like.get_config())

        def begun():
            epochs = self.pretrained_epochs + self.pruning_epochs
            return self.stage(f"{name}_1", untrained, epochs, 0, learning_rate=self.learning_rate)

        return self.converged(name, begun)

    def pretrained(self) -> keras.Model:
        """The whole model before anything is pruned."""

        def untrained():
            keras.utils.set_random_seed(self.seed)
            return student(len(self.vocabulary()), max_length=self.max_length, **self.shape)

        return self.stage(
            "pretrained",
            untrained,
            self.pretrain_epochs,
            0,
            self._until_it_stalls(),
            learning_rate=self.learning_rate,
            keep_optimizer=True,
        )

    def _until_it_stalls(self):
        if self.patience is None:
            return ()
        pairs = self.held_out("dev", 200)
        plateau = Plateau("val_bleu", self.min_gain)
        return (
            SacreBleu(pairs, self.vocabulary(), self.max_length),
            BestCheckpoint(self._pretraining, plateau, self.patience, untrained=0.0),
        )

    @property
    def _pretraining(self):
        return self.folder / "pretraining.json"

    @property
    def pretrained_epochs(self) -> int:
        """How many epochs the pretrained model has seen; it is trained if it was not yet."""
        if self.patience is None:
            return self.pretrain_epochs
        if not (self.folder / "pretrained.keras").exists():
            self.pretrained()
        return BestCheckpoint.best_epoch(self._pretraining)

    def checkpoint(self) -> keras.Model:
        """The pretrained model, compiled, with the optimizer as it was at the end of pretraining.

        What goes on from it has neither a second warm-up nor an optimizer that knows no gradients.

        Raises:
            ValueError: If the file of the pretrained model holds no optimizer.
        """
        self.pretrained()
        path = self.folder / "pretrained.keras"
        model = keras.saving.load_model(path)
        # Keras makes a new optimizer where the file has none.
        if model.optimizer is None or not int(model.optimizer.iterations):
            raise ValueError(
                f"{str(path)!r} must hold the optimizer of pretraining. Received: a file without "
                "one. Give another folder, or delete this file, which trains the model again."
            )
        return model

    def converged(
        self,
        name: str,
        make: Callable[[], keras.Model],
        pairs: Sequence[Pair] | None = None,
    ) -> keras.Model:
        """What `make` gives, trained to the end, on other pairs if some are given.

        Args:
            name: Name of its file.
            make: As in `stage`.
            pairs: As in `stage`.
        """
        done = self.pretrained_epochs + self.pruning_epochs
        return self.stage(name, make, self.converge_epochs, done, last=True, pairs=pairs)

    def stage(
        self,
        name: str,
        make: Callable[[], keras.Model],
        epochs: int,
        done: int,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        learning_rate: float | None = None,
        last: bool = False,
        keep_optimizer: bool = False,
        pairs: Sequence[Pair] | None = None,
    ) -> keras.Model:
        """Trains for some epochs, unless that was done before; goes on where it was killed.

        Args:
            name: Name of the file.
            make: Gives the model to train. One that is compiled, as `checkpoint` gives it, goes on
                with its optimizer and the learning rate of that, whatever `learning_rate` and
                `last` are.
            epochs: How many epochs.
            done: How many came before, so that batches come in another order.
            callbacks: Callbacks of this stage alone.
            learning_rate: The highest; `later_learning_rate` by default.
            last: Whether it falls to 0.
            keep_optimizer: Whether the file holds the optimizer too, which is as large as two more
                copies of the weights.
            pairs: What it is trained on; `train_pairs` by default.

        Returns:
            The model, not compiled.
        """
        path = self.folder / f"{name}.keras"
        if not path.exists():
            model = self._trained(name, make(), epochs, done, callbacks, learning_rate, last, pairs)
            if not keep_optimizer:
                model.optimizer = None
            with atomic_write(path) as temporary:
                model.save(temporary)
        # Read even if it was just written: in a model that went on after a kill, Keras remembers
        # the epoch it went on from, and begins the next fit there.
        return keras.saving.load_model(path, compile=False)

    def _trained(self, name, model, epochs, done, callbacks, learning_rate, last, pairs):
        backup = self.folder / f"{name}.backup"
        state = backup / "training_metadata.json"
        begun = json.loads(state.read_text())["epoch"] if state.exists() else 0
        data = self.batches(done + begun, pairs)
        # The rate of even a single step rises and falls.
        steps = max(2, epochs * len(data))
        warmup_steps = 400 if learning_rate else 50
        may_be_short = last or not learning_rate
        if not model.compiled:
            compile_student(
                model,
                learning_rate or self.later_learning_rate,
                warmup_steps=min(warmup_steps, steps // 2) if may_be_short else warmup_steps,
                # XLA compiles each shape for longer than it saves.
                jit_compile=False if _shapes_are_free() else "auto",
                total_steps=steps if last else None,
            )
        model.fit(
            data,
            epochs=epochs,
            verbose=0,
            callbacks=[
                *callbacks,
                *self.callbacks(name, epochs),
                keras.callbacks.BackupAndRestore(str(backup), delete_checkpoint=True),
            ],
        )
        return model

    # -- results -------------------------------------------------------------------------------

    def translator(self, model: keras.Model) -> Translator:
        """A translator around a model of this recipe."""
        return Translator(model, self.vocabulary(), self.max_length)

    def scores(self, name: str, model: keras.Model, pairs) -> dict[str, Any]:
        """BLEU, chrF and translations of a test set, kept beside the model."""
        path = self.folder / f"{name}.scores.json"
        test_set = hashlib.sha256(json.dumps(pairs).encode()).hexdigest()
        if path.exists():
            kept = json.loads(path.read_text())
            if kept["test_set"] == test_set:
                return kept
        result = evaluate(self.translator(model), pairs)
        result["test_set"] = test_set
        result["groups"] = {s.name: s.groups for s in find_structures(model)}
        result["parameters"] = model.count_params()
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(result))
        return result


def _shapes_are_free():
    """Whether a step need not be compiled for each shape."""
    return keras.backend.backend() == "tensorflow"
