"""A translator in a small setting, for runs of minutes: help texts of at most six words."""

from pathlib import Path

import keras
import numpy as np
import smoke
from progress import Log
from reports import about, arguments, smoke_folder, write
from small_minilm import finished, once

from tfprune.batches import each_batch
from tfprune.datasets import libreoffice_help
from tfprune.translation.recipe import Recipe
from tfprune.translation.sentence_pairs import batches
from tfprune.translation.training import WordCrossEntropy

SHAPE = {
    "encoder_layers": 4,
    "decoder_layers": 1,
    "model_dim": 128,
    "feed_forward_dim": 512,
    "num_heads": 8,
}
TEST = 1000  # Pairs at most.


class SmallStudent:
    """The runs of one seed, and how they are judged.

    Args:
        folder: Where finished runs are kept.
        seed: Of new weights and of the order of sentences; the sentences are the same.
        epochs: Before pruning, with it, and after it, as in `Recipe`.
        tiny: Tiny texts and weights, as for `--smoke`.
    """

    def __init__(self, folder, seed, epochs, tiny=False):
        self.folder = folder / f"{'-'.join(map(str, epochs))}-epochs-seed-{seed}"
        sizes = {
            "vocabulary_size": 1000,
            "max_words": 6,
            "max_length": 32,
            "tokens_per_batch": 1000,
            **dict(
                zip(("pretrain_epochs", "prune_epochs", "converge_epochs"), epochs, strict=True)
            ),
        }
        self.recipe = Recipe(
            smoke.pairs() if tiny else libreoffice_help("en", "de"),
            self.folder,
            {**smoke.STUDENT, "encoder_layers": 2} if tiny else SHAPE,
            **{**sizes, **(smoke.TRAINING if tiny else {})},
            seed=seed,
            callbacks=lambda stage, epochs: [Log(f"{seed} {stage}")],
        )

    def figures(self, name, make):
        """How good a run is, and what is left of it; from its file if it is there.

        Args:
            name: Of the run.
            make: Gives the model, and a dictionary of what else is to be kept.
        """

        def figures():
            model, more = make()
            return {**self.judged(name, model), **more}

        return once(self.folder / f"{name}.json", figures)

    def judged(self, name, model):
        """Loss of each test sentence, BLEU, and the groups that are left."""
        pairs = self.recipe.held_out("test", TEST)
        scores = self.recipe.scores(name, model, pairs)
        return {
            "each": self.losses(model).tolist(),
            "bleu": scores["bleu"],
            "groups": scores["groups"],
            "parameters": scores["parameters"],
        }

    def losses(self, model):
        """The cross-entropy of each test sentence, by the words that a sentence has on average.

        So their mean is the cross-entropy of a word.
        """
        recipe = self.recipe
        pairs = recipe.held_out("test", TEST)
        data = batches(pairs, recipe.vocabulary(), max_length=recipe.max_length, shuffle=False)
        losses = []
        for x, labels, weights in each_batch(data):
            each = WordCrossEntropy().call(labels, model.predict_on_batch(x))
            losses.append(np.sum(keras.ops.convert_to_numpy(each) * weights, axis=1))
        losses = np.concatenate(losses)
        return losses * len(losses) / data.words

    def about(self):
        """What the runs have alike."""
        recipe = self.recipe
        return {
            **recipe.shape,
            "vocabulary": len(recipe.vocabulary()),
            "training": len(recipe.train_pairs),
            "test": len(recipe.held_out("test", TEST)),
            "longest": recipe.max_words,
            "batch": recipe.tokens_per_batch,
            "epochs": [recipe.pretrain_epochs, recipe.prune_epochs, recipe.converge_epochs],
            "steps": len(recipe.batches()),
        }


def mean(each, form):
    """The mean over seeds, in words; `form` as in `format`."""
    return format(float(np.mean(list(each.values()))), form) if each else ""


def run_all(script, text, runs, tiny_runs, epochs, run, rows_of, table):
    """The command line of a benchmark: makes the runs, seed by seed, and reports after each.

    Args:
        script: The benchmark's own file; its name is that of the results too.
        text: Its documentation.
        runs: The names of all runs.
        tiny_runs: Those of `--smoke`.
        epochs: As in `SmallStudent`.
        run: Makes a run of a `SmallStudent` by name, unless it is there.
        rows_of: Gives what is reported of each run, from figures by run and seed.
        table: Gives the results in Markdown.
    """
    stem, here = Path(script).stem, Path(script).parent
    parser = arguments(text)
    parser.add_argument("--runs", nargs="+", choices=runs, default=list(runs))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, default=here / "checkpoints" / stem)
    options = parser.parse_args()
    folder, seeds = options.folder, options.seeds
    if options.smoke:
        folder, seeds, options.runs = smoke_folder(), [0, 1], tiny_runs
    for seed in seeds:
        work = SmallStudent(folder, seed, epochs, options.smoke)
        for name in dict.fromkeys(["dense", *options.runs]):
            run(work, name)
            rows = rows_of(finished(folder, runs))
            results = {**about(script, "sacrebleu"), "sizes": work.about(), "models": rows}
            write(stem, results, table(results))
