"""MiniLM in a small setting, for runs of minutes (three layers, 4,000 sentences), or in full."""

import gc
import json
import random
import time

import keras
import numpy as np
import smoke
from classifier import BATCH, Classification, plain
from kept_runs import keep, restore

import tfprune
from tfprune.batches import each_batch
from tfprune.datasets import movie_reviews
from tfprune.files import atomic_write

LAYERS, LENGTH, SENTENCES, EPOCHS = 3, 24, 4000, 4
FULL_LAYERS, FULL_LENGTH = 6, 64


class Small(Classification):
    """Movie reviews, fine-tuned for 500 steps; judged on what is not trained on.

    Args:
        folder: Where finished runs are kept.
        seed: Of new weights, of dropout and of the order of sentences; the sentences are the same.
        tiny: Tiny weights and texts, as for `--smoke`.
        full: All layers, all training sentences, and 64 tokens; steps of four times the work, and
            twice as many of them.
    """

    def __init__(self, folder, seed, tiny=False, full=False):
        weights = smoke.bert(folder / "bert") if tiny else None
        super().__init__(folder, 2, FULL_LENGTH if full else LENGTH, EPOCHS, seed, weights)
        text = smoke.reviews() if tiny else movie_reviews()
        train = list(text.train)
        random.Random(0).shuffle(train)  # They come in the order of their classes.
        self.train = train if full else train[:SENTENCES]
        self.test = [*text.dev, *text.test]
        self.layers = 1 if tiny else FULL_LAYERS if full else LAYERS

    def fit(self, name, make_callback=None, epochs=None):
        """A fine-tuned model, and the minutes that `fit` took.

        Args:
            name: Of the run.
            make_callback: Makes a pruning callback from training batches.
            epochs: If not as many as all.
        """
        # The same layers as a plain model: KerasHub's `fit` takes no batches by length.
        model = plain(self.fresh(self.layers))
        data = self.batches(self.train, shuffle=True)
        callback = make_callback and make_callback(self.batches(self.train))
        started = time.perf_counter()
        self.trained(name, model, data, callback, epochs=epochs)
        return model, (time.perf_counter() - started) / 60

    def right(self, model):
        """Sentence by sentence, whether a model is right: zeros and ones."""
        right = [model.predict_on_batch(x).argmax(-1) == y for x, y in self.test_batches()]
        return np.concatenate(right).astype(int).tolist()

    def test_batches(self):
        """All sentences that are not trained on, always in the same order."""
        return each_batch(self.batches(self.test))

    def about(self):
        """What the runs have alike."""
        return {
            "layers": self.layers,
            "training": len(self.train),
            "test": len(self.test),
            "epochs": self.epochs,
            "batch": BATCH,
            "longest": self.length,
        }


def left(model):
    """Weights of the encoder's structures, those that are not zero, and the groups of each."""
    structures = tfprune.find_structures(model)
    return {
        "weights": sum(s.weights for s in structures),
        "not_zero": structures.nonzero_weights,
        "groups": {s.name: s.groups for s in structures},
    }


def once(path, make):
    """The figures of a run, from its file; if that is not there, `make` gives them."""
    restore(path.parents[1])
    if not path.exists():
        figures = make()
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(figures))
        keep(path)
        keras.backend.clear_session()
        gc.collect()
    return json.loads(path.read_text())


def finished(folder, names=None, seeds="*-seed-*"):
    """The figures of all runs that are finished: name to seed to figures.

    Args:
        folder: Where the runs of all seeds are kept.
        names: Which runs, in this order; all by default.
        seeds: A pattern of the folders of seeds.
    """
    restore(folder)
    figures = {} if names is None else {name: {} for name in names}
    for path in sorted(folder.glob(f"{seeds}/*.json")):
        if names is None or path.stem in figures:
            seed = path.parent.name.rpartition("-")[2]
            figures.setdefault(path.stem, {})[seed] = json.loads(path.read_text())
    return {name: each for name, each in figures.items() if each}
