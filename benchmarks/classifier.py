"""What the benchmarks on pretrained MiniLM share: one schedule, and runs that are made once."""

import json

import keras
import keras_hub
import numpy as np
from progress import Log

from tfprune.batches import each_batch
from tfprune.datasets import TextBatches, minilm
from tfprune.files import atomic_write

BATCH = 32
RATE = 5e-5


def plain(model):
    """A KerasHub task as a Functional model of the same layers."""
    return keras.Model(model.input, model.output, name=f"plain_{model.name}")


class Classification:
    """Fine-tunes MiniLM under one schedule, whatever is pruned.

    Args:
        folder: Checkpoints and scores.
        classes: Number of classes.
        length: Longest text, in tokens.
        epochs: Epochs of each run.
        seed: Seed of weights and order.
        weights: Folder of pretrained weights; MiniLM's by default.
    """

    def __init__(self, folder, classes, length, epochs, seed, weights=None):
        self.weights = weights or minilm()
        self.folder = folder / f"{epochs}-epochs-seed-{seed}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.classes, self.length, self.epochs, self.seed = classes, length, epochs, seed
        self.tokenizer = keras_hub.models.BertTokenizer.from_preset(self.weights)

    def batches(self, examples, shuffle=False, tokenizer=None):
        """Texts, in batches of similar length."""
        tokenizer = tokenizer or self.tokenizer
        return TextBatches(examples, tokenizer, BATCH, self.length, shuffle, self.seed)

    def fresh(self, layers=None):
        """The pretrained classifier, or one of its first layers alone."""
        keras.utils.set_random_seed(self.seed)
        backbone = keras_hub.models.BertBackbone.from_preset(self.weights)
        if layers is not None:
            fewer = {**backbone.get_config(), "num_layers": layers}
            short = keras_hub.models.BertBackbone.from_config(fewer)
            for layer in short.layers:
                if layer.weights:
                    layer.set_weights(backbone.get_layer(layer.name).get_weights())
            backbone = short
        return keras_hub.models.BertTextClassifier(backbone, self.classes, dropout=0.1)

    def compile(self, model, steps, distilled=False):
        """One schedule for all runs."""
        rate = keras.optimizers.schedules.CosineDecay(
            0.0, int(0.9 * steps), warmup_target=RATE, warmup_steps=int(0.1 * steps)
        )
        optimizer = keras.optimizers.AdamW(rate, weight_decay=0.01)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        more = {} if distilled else {"metrics": ["accuracy"]}
        model.compile(optimizer, loss, jit_compile=False, **more)

    def trained(self, name, model, data, callback=None, teacher=None, epochs=None):
        """Trains a plain model, with the logits of a teacher if there is one."""
        epochs = epochs or self.epochs
        fitted = model
        if teacher is not None:
            fitted = keras.distillation.Distiller(
                plain(teacher),
                model,
                # By its name alone Keras takes the loss of probabilities, and gives it logits.
                keras.distillation.LogitsDistillation(2.0, loss=keras.losses.KLDivergence()),
                student_loss_weight=0.5,
            )
        self.compile(fitted, epochs * len(data), teacher is not None)
        callbacks = [c for c in (callback, Log(name)) if c is not None]
        fitted.fit(data, epochs=epochs, verbose=0, callbacks=callbacks)
        return model

    def save(self, model, name):
        """Writes a model whole or not at all."""
        with atomic_write(self.folder / f"{name}.keras") as temporary:
            model.save(temporary)

    def load(self, name):
        """A finished model."""
        return keras.saving.load_model(self.folder / f"{name}.keras", compile=False)

    def score(self, name, load, examples, tokenizer=None):
        """Accuracy on texts, kept beside the model, which `load` gives if it is not known yet."""
        path = self.folder / f"{name}.score.json"
        if not path.exists():
            model, right = load(), []
            for x, y in each_batch(self.batches(examples, tokenizer=tokenizer)):
                right.append(model.predict_on_batch(x).argmax(-1) == y)
            with atomic_write(path) as temporary:
                temporary.write_text(json.dumps({"right": np.concatenate(right).tolist()}))
        return float(np.mean(json.loads(path.read_text())["right"]))
