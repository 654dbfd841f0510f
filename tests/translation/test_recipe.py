import json

import keras
import numpy as np
import pytest

import tfprune
from tfprune.callbacks import HeadLottery, ImportancePruning
from tfprune.datasets import number_words
from tfprune.structures import find_structures
from tfprune.translation import compile_student, student
from tfprune.translation import recipe as recipe_module
from tfprune.translation.recipe import Recipe

pytestmark = pytest.mark.sampled

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


class Rates(keras.callbacks.Callback):
    """Notes the steps of the optimizer and its learning rate before each batch."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_begin(self, batch, logs=None):
        optimizer = self.model.optimizer
        self.seen.append((int(optimizer.iterations), float(optimizer.learning_rate)))


@pytest.mark.slow
@pytest.mark.tensorflow_only
def test_rounds_of_a_lottery_go_on_at_the_learning_rate_of_the_checkpoint(tmp_path):
    work = recipe(tmp_path, [], pretrain_epochs=5)
    before = 5 * len(work.batches())
    of_round = round(0.6 * before)
    assert not work.pretrained().compiled
    # The optimizer goes on with the gradients that it has seen.
    checkpoint = work.checkpoint()
    assert any(np.any(m) for m in map(keras.ops.convert_to_numpy, checkpoint.optimizer._momentums))
    lottery = HeadLottery(
        tfprune.Sparsity(0.5),
        heads_per_round=1,
        data=work.some_batches(20),
        within="layer",
        start=0,
        verbose=0,
    )
    rates = Rates()
    work.stage("search", work.checkpoint, 9, 5, [lottery, rates])
    rounds = len(lottery.rounds)
    assert rounds == 2  # One head of two in each of the two layers.
    # 400 steps of warm-up, counted from the first step of pretraining.
    steps = (before + np.arange(rounds * of_round) % of_round).tolist()
    assert [step for step, _ in rates.seen] == steps
    expected = [2e-3 * (step + 1) / 400 for step in steps]
    np.testing.assert_allclose([rate for _, rate in rates.seen], expected, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:Skipping variable loading")  # Keras says so too.
def test_a_checkpoint_without_its_optimizer_is_refused(tmp_path):
    work = recipe(tmp_path, [])
    model = compile_student(student(len(work.vocabulary()), **SHAPE))
    model.optimizer = None
    model.save(tmp_path / "pretrained.keras")
    with pytest.raises(ValueError, match="pretrained.keras' must hold the optimizer"):
        work.checkpoint()


def test_a_folder_belongs_to_one_experiment(tmp_path):
    recipe(tmp_path, [])
    with pytest.raises(ValueError, match=r"another prune_epochs, shape; .*\(there: 2\)"):
        recipe(tmp_path, [], prune_epochs=3, shape={**SHAPE, "model_dim": 8})


def test_a_folder_may_be_older_than_an_argument(tmp_path):
    recipe(tmp_path, [])
    path = tmp_path / "recipe.json"
    sizes = json.loads(path.read_text())
    del sizes["patience"], sizes["min_gain"], sizes["teacher"]
    path.write_text(json.dumps(sizes))
    recipe(tmp_path, [])
    with pytest.raises(ValueError, match=r"another patience; .*patience=1 \(there: None\)"):
        recipe(tmp_path, [], patience=1)


def test_bad_numbers_of_pretraining(tmp_path):
    for name, value in (("patience", 0), ("min_gain", -1.0)):
        with pytest.raises(ValueError, match=f"`{name}`"):
            recipe(tmp_path, [], **{name: value})


class Penalties(keras.callbacks.Callback):
    """Notes the penalty of each epoch."""

    def __init__(self, seen, stage):
        super().__init__()
        self.seen, self.stage = seen, stage

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append((self.stage, logs.get("penalty/group_lasso", 0.0) > 0))


@pytest.mark.slow
@pytest.mark.tensorflow_only
@pytest.mark.filterwarnings("ignore:GroupLasso. the target is met by removing")  # Twenty steps.
def test_half_of_the_training_has_a_penalty_that_follows_a_target(tmp_path):
    seen = []
    work = recipe(tmp_path, [], pretrain_epochs=1, prune_epochs=None)
    work.callbacks = lambda stage, epochs: [Penalties(seen, stage)]
    model = work.pruned("half", ["ffn"], target=tfprune.Sparsity(0.5), check_every=5)
    assert seen == [("pretrained", False), ("half_1", True), ("half_1", True), ("half", False)]
    groups = {s.name: s.groups for s in find_structures(model)}
    assert groups["encoder_0_ffn_in"] == groups["decoder_0_ffn_in"] == 16  # Of 32.


class Upper:
    """A teacher that notes what it was asked."""

    def __init__(self):
        self.asked = []

    def translate(self, sentences, beam, batch_size):
        self.asked += sentences
        return ["" if s.startswith("one") else s.upper() for s in sentences]


def test_a_recipe_can_learn_from_a_teacher(tmp_path):
    teacher = Upper()
    work = recipe(tmp_path, [], teacher=teacher, max_words=2)
    sources = [s for s, _ in work.text.train if len(s.split()) <= 2]
    expected = [(s, s.upper()) for s in sources if not s.startswith("one")]
    assert work.train_pairs == expected and teacher.asked == sources
    decoded = {work.vocabulary().decode(ids) for _, labels, _ in work.batches() for ids in labels}
    assert decoded == {target for _, target in expected}
    assert set(work.held_out("test", 5)) <= set(work.text.test)
    again = recipe(tmp_path, [], teacher=Upper(), max_words=2)
    assert again.train_pairs == expected and not again.teacher.asked
    with pytest.raises(ValueError, match=r"another teacher; .*\(there: 'Upper'\)"):
        recipe(tmp_path, [], max_words=2)


def test_translations_are_made_once_for_each_teacher(tmp_path):
    class Lower(Upper):
        def translate(self, sentences, beam, batch_size):
            return [s.lower() for s in super().translate(sentences, beam, batch_size)]

    teacher, same, other = Upper(), Upper(), Lower()
    made = recipe(tmp_path, []).translated_by(teacher)
    assert all(target == source.upper() for source, target in made)
    assert recipe(tmp_path, []).translated_by(same) == made and len(same.asked) == 20
    assert recipe(tmp_path, []).translated_by(other) != made and len(other.asked) > 20


def test_a_teacher_is_not_asked_for_what_is_too_long(tmp_path):
    teacher, work = Upper(), recipe(tmp_path, [], max_length=12)
    sources = [source for source, _ in work.train_pairs]
    tokens = work.vocabulary().encode_all(sources)
    short = [s for s, ids in zip(sources, tokens, strict=True) if len(ids) < 12]
    work.translated_by(teacher)
    assert 20 < len(short) < len(sources) and teacher.asked == short[:20] + short


@pytest.mark.slow
def test_what_is_pruned_can_learn_from_a_teacher_while_the_dense_model_does_not(
    tmp_path, monkeypatch
):
    learned, make = [], recipe_module.batches

    def noted(pairs, *args, **kwargs):
        learned.append(pairs)
        return make(pairs, *args, **kwargs)

    monkeypatch.setattr(recipe_module, "batches", noted)
    work, teacher = recipe(tmp_path, []), Upper()
    work.dense()
    assert all(pairs == work.train_pairs for pairs in learned)
    learned.clear()
    small = work.pruned_by("taught", lambda: [random_half()], teacher)
    sources = [source for source, _ in work.train_pairs]
    expected = [(s, s.upper()) for s in sources if not s.startswith("one")]
    # In the stage with pruning and in the last one; pretraining was there.
    assert learned == [expected, expected] and teacher.asked == sources[:20] + sources
    assert [s.groups for s in find_structures(small)] != [
        s.groups for s in find_structures(work.dense())
    ]
    teacher.asked.clear()
    recipe(tmp_path, []).pruned_by("taught", lambda: [random_half()], teacher)
    assert not teacher.asked


@pytest.mark.slow
@pytest.mark.tensorflow_only  # Works on JAX too, but compiles for a minute there.
def test_what_is_pruned_can_do_without_dropout_from_pruning_on(tmp_path):
    rates = []

    class Rates(keras.callbacks.Callback):
        def __init__(self, stage):
            super().__init__()
            self.stage = stage

        def on_epoch_begin(self, epoch, logs=None):
            drops = [k for k in self.model.layers if isinstance(k, keras.layers.Dropout)]
            rates.append((self.stage, {k.rate for k in drops}))

    work = recipe(tmp_path, [], shape={**SHAPE, "dropout": 0.2}, pretrain_epochs=1, prune_epochs=1)
    work.callbacks = lambda stage, epochs: [Rates(stage)]
    small = work.pruned_by("small", lambda: [random_half()], dropout=False)
    work.pruned_by("other", lambda: [random_half()])
    assert rates == [
        ("pretrained", {0.2}),
        ("small_1", {0.0}),
        ("small", {0.0}),
        ("other_1", {0.2}),
        ("other", {0.2}),
    ]
    x = {"source": np.ones((2, 4), "int32"), "target": np.ones((2, 4), "int32")}
    np.testing.assert_array_equal(small(x, training=True), small(x, training=False))


def random_half():
    return ImportancePruning(
        target=tfprune.Sparsity(0.5), criterion=tfprune.criteria.random(0), start=0.5, verbose=0
    )


@pytest.mark.tensorflow_only
def test_pretraining_ends_when_bleu_stalls(tmp_path, monkeypatch):
    class Scripted(keras.callbacks.Callback):
        def __init__(self, pairs, vocabulary, max_length):
            super().__init__()
            assert set(pairs) <= set(work.text.dev)

        def on_epoch_end(self, epoch, logs=None):
            logs["val_bleu"] = [3.0, 5.0, 5.5, 5.4, 20.0][epoch]

    monkeypatch.setattr("tfprune.translation.recipe.SacreBleu", Scripted)
    seen = []
    work = recipe(tmp_path, seen, pretrain_epochs=5, patience=2)
    # Half a point in two epochs; the best is kept, and what follows counts from there.
    assert work.pretrained_epochs == 3
    assert seen == [("pretrained", epoch) for epoch in range(4)]
    assert int(work.checkpoint().optimizer.iterations) == 3 * len(work.batches())
    assert recipe(tmp_path, seen, pretrain_epochs=5, patience=2).pretrained_epochs == 3
    assert len(seen) == 4


def test_steps_are_compiled_on_jax_and_traced_on_tensorflow(tmp_path):
    compiled = []

    class Compiled(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            compiled.append(bool(self.model.jit_compile))

    kind = recipe(tmp_path, [], text=number_words("en", "es", count=120), pretrain_epochs=1)
    kind.callbacks = lambda stage, epochs: [Compiled()]
    kind.pretrained()
    assert set(compiled) == {keras.backend.backend() == "jax"}


def test_a_stage_may_be_a_single_step(tmp_path):
    work = recipe(tmp_path, [], tokens_per_batch=10_000, pretrain_epochs=1)
    assert len(work.batches(pairs=work.train_pairs[:4])) == 1
    model = student(len(work.vocabulary()), **SHAPE)
    before = [weights.copy() for weights in model.get_weights()]
    for name, rate, epochs in (("short", None, 1), ("high", 1e-3, 2)):
        options = {"learning_rate": rate, "last": True, "pairs": work.train_pairs[:4]}
        trained = work.stage(name, lambda: model, epochs, 0, **options).get_weights()
        assert all(np.isfinite(weights).all() for weights in trained)
    # The rate of the first step of a rise is 0.
    assert any(np.any(a != b) for a, b in zip(before, trained, strict=True))


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
