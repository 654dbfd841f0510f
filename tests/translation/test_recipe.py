import keras
import pytest

from tfprune.datasets import number_words
from tfprune.structures import find_structures
from tfprune.translation.recipe import Recipe

pytestmark = pytest.mark.one_backend

SHAPE = {
    "encoder_layers": 1,
    "decoder_layers": 1,
    "model_dim": 16,
    "feed_forward_dim": 32,
    "num_heads": 2,
}


class Stages(keras.callbacks.Callback):
    """Notes which stages were trained, and stops one of them."""

    def __init__(self, seen, stage, kill):
        super().__init__()
        self.seen, self.stage, self.kill = seen, stage, kill

    def on_epoch_begin(self, epoch, logs=None):
        if self.stage == self.kill and epoch == 1:
            raise KeyboardInterrupt
        self.seen.append((self.stage, epoch))


def recipe(folder, seen, kill=None, **changed):
    sizes = {
        "text": number_words("en", "es", count=300),
        "shape": SHAPE,
        "vocabulary_size": 330,
        "tokens_per_batch": 500,
        "pretrain_epochs": 2,
        "prune_epochs": 2,
        "converge_epochs": 1,
    }
    return Recipe(
        folder=folder,
        callbacks=lambda stage, epochs: [Stages(seen, stage, kill)],
        **{**sizes, **changed},
    )


@pytest.mark.slow
@pytest.mark.tensorflow_only  # Works on JAX too, but compiles for a minute there.
def test_a_killed_recipe_goes_on_where_it_was(tmp_path):
    seen = []
    for killed in ("pretrained", "pruned_1"):
        with pytest.raises(KeyboardInterrupt):
            recipe(tmp_path, seen, kill=killed).pruned("pruned", ["ffn"], 1e-3)
    # What was gone on with in one stage does not shorten the next.
    assert seen == [("pretrained", 0), ("pretrained", 1), ("pruned_1", 0)]
    work = recipe(tmp_path, seen)
    model = work.pruned("pruned", ["ffn"], 1e-3)
    assert seen[3:] == [("pruned_1", 1), ("pruned", 0)]
    again = work.pruned("pruned", ["ffn"], 1e-3)
    assert len(seen) == 5
    assert again.count_params() == model.count_params()
    scores = work.scores("pruned", model, work.held_out("test", 4))
    assert scores["groups"] == {s.name: s.groups for s in find_structures(model)}
    assert scores["parameters"] == model.count_params() and len(scores["hypotheses"]) == 4


def test_a_folder_belongs_to_one_experiment(tmp_path):
    recipe(tmp_path, [])
    with pytest.raises(ValueError, match=r"another prune_epochs, shape; .*\(there: 2\)"):
        recipe(tmp_path, [], prune_epochs=3, shape={**SHAPE, "model_dim": 8})


def test_structures_are_scored_on_the_same_batches_each_time(tmp_path):
    work = recipe(tmp_path, [])
    found = work.some_batches(20)
    first = [found[i] for i in range(len(found))]
    assert sum(len(y) for _, y, *_ in first) == 20
    decoded = {work.vocabulary().decode(ids) for x, *_ in first for ids in x["source"]}
    assert decoded <= {source for source, _ in work.text.dev}  # Held out, unless asked for.
    trained = work.some_batches(20, "train")
    decoded = {work.vocabulary().decode(ids) for x, *_ in trained for ids in x["source"]}
    assert decoded <= {source for source, _ in work.text.train}
    found.on_epoch_end()
    for before, after in zip(first, [found[i] for i in range(len(found))], strict=True):
        for a, b in zip(keras.tree.flatten(before), keras.tree.flatten(after), strict=True):
            assert (a == b).all()
