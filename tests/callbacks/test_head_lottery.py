import warnings

import keras
import numpy as np
import pytest
from keras import layers

import tfprune
from tests.models import Killed, assert_same, noise, outputs, randomize
from tfprune import criteria
from tfprune.callbacks import HeadLottery
from tfprune.criteria.data import shares_examples
from tfprune.keras_private.optimizers import slots
from tfprune.schedules import Epoch, Plateau, Step
from tfprune.translation import InverseSquareRoot

pytestmark = pytest.mark.sampled

X, Y = noise(24, 5, 8), noise(24, 5, 8, seed=2)
DEV = noise(20, 5, 8, seed=3)  # What heads are judged on.


def compiled(depth=2, heads=4, optimizer=None, **options):
    x = inputs = keras.Input((None, 8), name="x")
    for i in range(depth):
        y = layers.MultiHeadAttention(heads, 4, name=f"attention_{i}")(x, x)
        x = layers.Add(name=f"add_{i}")([x, y])
        y = layers.Dense(8, name=f"out_{i}")(layers.Dense(12, "relu", name=f"in_{i}")(x))
        x = layers.Add(name=f"sum_{i}")([x, y])
    model = randomize(keras.Model(inputs, x))
    model.compile(optimizer or keras.optimizers.Adam(1e-2), "mse", **options)
    return model


def fit(model, *callbacks, epochs=12, **options):
    return model.fit(
        X,
        Y,
        batch_size=8,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
        **options,
    )


def state(model):
    return [
        np.array(keras.ops.convert_to_numpy(v))
        for v in [*model.weights, *model.optimizer.variables]
    ]


def by_hand(model, rounds, number):
    """The lottery as a loop: three steps, then rounds of three from the same checkpoint."""
    structures = tfprune.find_structures(model).select("heads")

    def three_steps():
        for start in (0, 8, 16):
            model.train_on_batch(X[start : start + 8], Y[start : start + 8])

    three_steps()
    kept = state(model)
    gone = {s.name: np.zeros(s.groups, bool) for s in structures}
    for _ in range(rounds):
        three_steps()
        found = criteria.attention_confidence(model, DEV)
        for _ in range(number):
            _, name, head = min(
                (found[s.name][h], s.name, h)
                for s in structures
                for h in range(s.groups)
                if not gone[s.name][h]
            )
            gone[name][head] = True
        for variable, value in zip([*model.weights, *model.optimizer.variables], kept, strict=True):
            variable.assign(value.copy())
        for s in structures:
            alive = (~gone[s.name]).astype("float32")
            s.scale(alive)
            for share in s.slices:
                for slot in slots(model.optimizer, share.variable):
                    slot.assign(slot * s.spread(alive, share))
    return gone


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "loss scale"])
def test_it_is_the_loop_of_the_paper(optimizer):
    make = {
        "adam": lambda: keras.optimizers.Adam(1e-2),
        "sgd": lambda: keras.optimizers.SGD(1e-2, momentum=0.9),
        "loss scale": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(1e-2)),
    }[optimizer]
    reference, model = compiled(optimizer=make()), compiled(optimizer=make())
    gone = by_hand(reference, rounds=3, number=2)
    lottery = HeadLottery(tfprune.Sparsity(0.75), heads_per_round=2, data=DEV, verbose=0)

    history = fit(model, lottery)

    assert len(history.epoch) == 4  # One to the checkpoint, three rounds; the search is over.
    assert [sum(r["left"].values()) for r in lottery.rounds] == [6, 4, 2]
    removed = {n: sorted(h for r in lottery.rounds for h in r["removed"].get(n, [])) for n in gone}
    assert removed == {n: np.flatnonzero(g).tolist() for n, g in gone.items()}
    for a, b in zip(state(reference), state(model), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert int(keras.ops.convert_to_numpy(model.optimizer.iterations)) == 3


def test_the_small_model_has_the_heads_that_won_and_trains_on():
    model = compiled()
    lottery = HeadLottery(tfprune.Sparsity(0.5), 2, data=DEV, verbose=0)
    fit(model, lottery)

    small = tfprune.rebuild(model)

    assert {s.name: s.groups for s in tfprune.find_structures(small) if s.kind == "heads"} == {
        n: left for n, left in lottery.rounds[-1]["left"].items() if left
    }
    assert_same(outputs(model, X), outputs(small, X))
    small.compile("adam", "mse")
    fit(small, epochs=1)


def make():
    return HeadLottery(tfprune.Sparsity(0.75), 2, data=DEV, monitor="loss", verbose=0)


@pytest.fixture(scope="module")
def not_killed():
    """What a search leaves that nothing stopped: all variables, and what each round removed."""
    keras.utils.set_random_seed(0)
    model, lottery = compiled(), make()
    fit(model, lottery)
    return state(model), [r["removed"] for r in lottery.rounds]


@pytest.mark.slow
@pytest.mark.parametrize("killed_at", [1, 2, 3])
@pytest.mark.parametrize("order", ["before", "after"])
def test_killed_and_resumed_is_not_killed(tmp_path, not_killed, killed_at, order):
    def callbacks(lottery):
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        return (lottery, backup) if order == "after" else (backup, lottery)

    whole, removed = not_killed
    killed = compiled()
    with pytest.raises(KeyboardInterrupt):
        fit(killed, *callbacks(make()), Killed(killed_at))
    resumed, again = compiled(), make()
    fit(resumed, *callbacks(again))

    assert [r["removed"] for r in again.rounds] == removed
    for a, b in zip(whole, state(resumed), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_below_the_floor_the_heads_of_the_last_round_come_back():
    class Metric(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["val_bleu"] = [20.0, 19.0, 18.0, 16.0][epoch]

    model = compiled()
    lottery = HeadLottery(
        tfprune.Sparsity(0.9), 1, data=DEV, monitor="val_bleu", floor=17.0, verbose=0
    )

    fit(model, Metric(), lottery)

    assert [r["metric"] for r in lottery.rounds] == [19.0, 18.0, 16.0]
    assert [sum(r["left"].values()) for r in lottery.rounds] == [7, 7, 7]
    alive = sum(np.count_nonzero(s.norms()) for s in tfprune.find_structures(model).select("heads"))
    assert alive == 7


def test_the_ticket_of_any_round_can_be_cut_out_of_the_checkpoint():
    model, checkpoint = compiled(), compiled()
    lottery = HeadLottery(tfprune.Sparsity(0.75), 2, data=DEV, start=0, round_length=3, verbose=0)
    fit(model, lottery)
    for number, left in enumerate([8, 6, 4, 2]):
        masks = lottery.keep(number)
        assert sum(int(mask.sum()) for mask in masks.values()) == left
    ticket = tfprune.rebuild(checkpoint, keep=lottery.keep())
    assert_same(outputs(model, X), outputs(ticket, X))  # The fit gave the checkpoint back.
    with pytest.raises(ValueError, match="a round from 0 to 3"):
        lottery.keep(4)


def test_layer_by_layer_takes_the_same_from_each():
    def scores(structure):  # All of the second layer score below all of the first.
        return np.arange(structure.groups) + 10.0 * (structure.name == "attention_0")

    model = compiled()
    lottery = HeadLottery(
        tfprune.Sparsity(0.5),
        2,
        criterion=scores,
        within="layer",
        start=0,
        round_length=3,
        verbose=0,
    )
    fit(model, lottery)
    assert [list(r["left"].values()) for r in lottery.rounds] == [[3, 3], [2, 2]]
    model = compiled()
    lottery = HeadLottery(
        tfprune.Sparsity(0.5), 2, criterion=scores, start=0, round_length=3, verbose=0
    )
    fit(model, lottery)
    assert [list(r["left"].values()) for r in lottery.rounds] == [[4, 2], [4, 0]]


def test_rounds_of_steps_and_training_on():
    model = compiled()
    lottery = HeadLottery(
        tfprune.Sparsity(0.5),
        2,
        data=(DEV, Y[:20]),
        criterion="gradient_importance",
        start=Step(2),
        round_length=Step(4),
        stop_training=False,
        check_every=1,
        verbose=0,
    )
    history = fit(model, lottery, epochs=5)  # 15 steps: checkpoint at 2, rounds end at 6 and 10.
    assert len(history.epoch) == 5
    assert int(keras.ops.convert_to_numpy(model.optimizer.iterations)) == 2 + 5
    assert history.history["groups/heads"] == [8, 6, 6, 4, 4]


def test_a_round_trains_for_a_share_of_the_steps_to_the_checkpoint(tmp_path):
    """Those of an earlier fit are counted, and those before an interruption."""

    class Ends(keras.callbacks.Callback):
        def __init__(self, lottery):
            super().__init__()
            self.lottery, self.step, self.seen = lottery, 0, {}

        def on_train_batch_end(self, batch, logs=None):
            self.step += 1
            self.seen.setdefault(len(self.lottery.rounds), self.step)

    options = {"data": DEV, "start": 4, "check_every": 1, "verbose": 0}
    model, lottery = compiled(), HeadLottery(tfprune.Sparsity(0.5), 1, **options)
    fit(model, epochs=2)  # Three steps in an epoch: six before, four more to the checkpoint.
    fit(model, ends := Ends(lottery), lottery, epochs=10)
    # Noted by a callback before this one: one step after a round has ended.
    assert ends.seen == {0: 1, 1: 4 + 6 + 1, 2: 4 + 12 + 1, 3: 4 + 18 + 1}
    assert lottery.rounds[-1]["round"] == 4

    model, lottery = compiled(), HeadLottery(tfprune.Sparsity(0.5), 1, **options)
    ends = Ends(lottery)
    fit(model, ends, lottery, epochs=10)
    assert ends.seen == {0: 1, 1: 4 + 2 + 1, 2: 4 + 4 + 1, 3: 4 + 6 + 1}
    resumed = compiled()
    backup = keras.callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False)
    lottery = HeadLottery(tfprune.Sparsity(0.5), 1, **options)
    with pytest.raises(KeyboardInterrupt):
        fit(resumed, lottery, backup, Killed(2), epochs=10)
    resumed, lottery = compiled(), HeadLottery(tfprune.Sparsity(0.5), 1, **options)
    fit(resumed, lottery, backup, epochs=10)
    for one, other in zip(resumed.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_share_of_no_steps_is_refused():
    with pytest.raises(ValueError, match="`round_length` is a share of the steps"):
        fit(compiled(), HeadLottery(tfprune.Sparsity(0.5), 2, data=DEV, start=0, verbose=0))


def test_the_metric_of_the_checkpoint_is_that_of_no_round():
    # Three steps in an epoch: the checkpoint at the end of the first, then rounds of two.
    lottery = HeadLottery(
        tfprune.Sparsity(0.5),
        1,
        data=DEV,
        start=3,
        round_length=2,
        check_every=1,
        monitor="loss",
        verbose=0,
    )
    losses = fit(compiled(), lottery, epochs=4).history["loss"]
    metrics = [each["metric"] for each in lottery.rounds[:2]]
    assert metrics == [None, pytest.approx(losses[1])]


def test_pretrained_weights_are_what_is_gone_back_to():
    model = compiled()
    before = [np.array(w) for w in model.get_weights()]
    lottery = HeadLottery(
        tfprune.Sparsity(0.5), 4, data=DEV, start=0, round_length=Epoch(1), verbose=0
    )
    fit(model, lottery)
    dense = [
        w
        for w, v in zip(model.get_weights(), model.weights, strict=True)
        if "attention" not in v.path
    ]
    same = [w for w, v in zip(before, model.weights, strict=True) if "attention" not in v.path]
    for a, b in zip(dense, same, strict=True):
        np.testing.assert_array_equal(a, b)


def test_table_and_picture_show_the_rounds(tmp_path, capsys):
    model = compiled()
    lottery = HeadLottery(tfprune.Sparsity(0.75), 3, data=DEV, monitor="val_loss")
    fit(model, lottery, validation_data=(DEV, Y[:20]))
    text = capsys.readouterr().out
    assert "round 1: 5 of 8 heads left, val_loss" in text and "The search is over." in text
    rows = lottery.table().splitlines()
    assert rows[0] == "| round | gone | encoder | val_loss |"
    assert rows[1] == "|---|---|---|---|"
    assert rows[2] == "| 0 | 0% | 4 4 |  |"
    left = " ".join(map(str, lottery.rounds[-1]["left"].values()))
    assert rows[-1].startswith(f"| 2 | 75% | {left} | ")
    (axes,) = lottery.plot(tmp_path / "rounds.png").axes
    assert len(axes.texts) == 2 * 3
    assert (tmp_path / "rounds.png").stat().st_size > 1000


def seen(model, data, x=X, y=Y, **options):
    """Whether a fit says that heads are judged on what it trains on."""
    lottery = HeadLottery(tfprune.Sparsity(0.5), 2, data, verbose=0, round_length=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(x, y, epochs=3, verbose=0, callbacks=[lottery], **options)
    messages = [str(w.message) for w in caught if "held out of training" in str(w.message)]
    assert len(messages) <= 1  # Once, whatever the number of rounds.
    return bool(messages)


def test_data_that_the_fit_trains_on_is_warned_of():
    model, both, targets = compiled(), np.concatenate([X, DEV]), np.concatenate([Y, Y])[:44]
    assert seen(model, X) and seen(model, (X, Y)) and seen(model, {"x": X}, {"x": X})
    assert seen(model, both[:30], both, targets)  # Some of them.
    assert not seen(model, DEV) and not seen(model, both[24:], both[:24])
    assert not seen(model, both[1::2], both[::2], Y[:22])
    # The end of it is for validation.
    assert seen(model, both, both, targets, validation_split=0.5)
    assert not seen(model, both[22:], both, targets, validation_split=0.5)
    # The same mask for all examples is no example.
    assert not shares_examples({"x": DEV, "mask": Y}, {"x": X, "mask": Y})


def test_a_dataset_that_the_fit_trains_on_is_warned_of():
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return X[8 * index : 8 * index + 8], Y[8 * index : 8 * index + 8]

    data, model = Batches(), compiled()
    assert seen(model, data, data, None)
    assert not seen(model, DEV, data, None)


def test_data_may_be_made_anew_in_each_round():
    def kernel(model):
        return np.array(keras.ops.convert_to_numpy(model.get_layer("in_0").kernel))

    model, reference, kernels = compiled(), compiled(), []

    def data():
        kernels.append(kernel(model))
        return DEV

    lottery = HeadLottery(tfprune.Sparsity(0.75), 2, data, verbose=0)
    assert "data" not in lottery.get_config()
    fit(model, lottery)
    by_hand(reference, rounds=3, number=2)
    for a, b in zip(state(reference), state(model), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    # Before the first step, and at the end of each round with the weights of that moment.
    trained = compiled()
    fit(trained, epochs=2)
    assert len(kernels) == 4
    np.testing.assert_array_equal(kernels[0], kernel(compiled()))
    np.testing.assert_allclose(kernels[1], kernel(trained), atol=1e-5)


class Rates(keras.callbacks.Callback):
    """The learning rate that each step used."""

    def on_train_begin(self, logs=None):
        self.seen = []

    def on_train_batch_begin(self, batch, logs=None):
        optimizer = self.model.optimizer  # On JAX, `self.model` brings it up to date.
        self.seen.append(float(keras.ops.convert_to_numpy(optimizer.learning_rate)))


def test_a_round_goes_on_from_the_rate_of_the_checkpoint_and_repeats_no_warm_up():
    rate = InverseSquareRoot(1e-2, warmup_steps=4)
    model, rates = compiled(optimizer=keras.optimizers.Adam(rate)), Rates()
    lottery = HeadLottery(
        tfprune.Sparsity(0.5),
        2,
        data=DEV,
        start=5,
        round_length=3,
        check_every=1,
        stop_training=False,
        verbose=0,
    )
    fit(model, lottery, rates, epochs=4)  # Five steps, two rounds of three, and one more.
    steps = [*range(5), 5, 6, 7, 5, 6, 7, 5]
    expected = [float(keras.ops.convert_to_numpy(rate(step))) for step in steps]
    np.testing.assert_allclose(rates.seen, expected, rtol=1e-5)


def test_a_plateau_opens_the_search():
    class Metric(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["val_bleu"] = [3.0, 9.0, 9.5, 9.6, 9.7, 9.8][epoch]

    model = compiled()
    lottery = HeadLottery(
        tfprune.Sparsity(0.5), 4, data=DEV, start=Plateau("val_bleu", 1.0), verbose=0
    )
    # Three epochs to the checkpoint, of three steps each, then 0.6 · 9 = 5 steps.
    assert len(fit(model, Metric(), lottery, epochs=6).epoch) == 5
    assert len(lottery.rounds) == 1


def test_all_heads_may_go():
    model = compiled()
    fit(model, HeadLottery(tfprune.Sparsity(1.0), 4, data=DEV, verbose=0))
    small = tfprune.rebuild(model)
    assert not [s for s in tfprune.find_structures(small) if s.kind == "heads"]
    assert_same(outputs(model, X), outputs(small, X))


def test_a_loss_that_is_no_number_is_said():
    model = compiled()
    model.compile("adam", lambda y, y_pred: keras.ops.sum(y_pred) * float("nan"))
    with pytest.raises(ValueError, match="no longer finite"):
        fit(model, HeadLottery(tfprune.Sparsity(0.5), 2, data=DEV, verbose=0))


def test_an_interrupted_search_can_be_followed_by_another():
    model = compiled()
    with pytest.raises(KeyboardInterrupt):
        fit(model, HeadLottery(tfprune.Sparsity(0.5), 2, data=DEV, verbose=0), Killed(2))
    lottery = HeadLottery(tfprune.Sparsity(0.75), 2, data=DEV, verbose=0)
    fit(model, lottery)
    assert sum(lottery.rounds[-1]["left"].values()) == 2
    assert not [w.path for w in model.weights if "pruning" in w.path]


def test_a_fit_that_is_too_short_is_refused_with_the_length_it_needs():
    model = compiled()
    with pytest.raises(ValueError, match=r"`epochs` of this fit must be at least 4 for 3 rounds"):
        lottery = HeadLottery(tfprune.Sparsity(0.75), 2, DEV, round_length=Epoch(1), verbose=0)
        fit(model, lottery, epochs=3)
    assert not [w.path for w in model.weights if "pruning" in w.path]


@pytest.mark.parametrize(
    "options, name",
    [
        ({"target": 0.5}, "target"),
        ({"heads_per_round": 0}, "heads_per_round"),
        ({"heads_per_round": 1.5}, "heads_per_round"),
        ({"data": None}, "data"),
        ({"data": lambda model: DEV}, "data"),
        ({"data": object}, "data"),
        ({"criterion": "confidence"}, "criterion"),
        ({"within": "kind"}, "within"),
        ({"floor": 3.0}, "monitor"),
        ({"round_length": Plateau("loss")}, "round_length"),
        ({"round_length": "epoch"}, "round_length"),
        ({"round_length": 0.0}, "round_length"),
    ],
)
def test_bad_arguments(options, name):
    with pytest.raises(ValueError, match=f"`{name}`"):
        HeadLottery(**{"target": tfprune.Sparsity(0.5), "data": DEV, **options})


def test_what_only_fit_can_know():
    with pytest.raises(ValueError, match="`structures` must be heads"):
        fit(compiled(), HeadLottery(tfprune.Sparsity(0.5), 2, data=DEV, structures=None, verbose=0))
    with pytest.raises(ValueError, match="'val_bleu', which is not in the epoch logs"):
        fit(compiled(), HeadLottery(tfprune.Sparsity(0.5), 2, data=DEV, monitor="val_bleu"))
    with pytest.raises(ValueError, match="`round_length` must be at least one step"):
        fit(compiled(), HeadLottery(tfprune.Sparsity(0.5), 2, data=DEV, round_length=Epoch(0.1)))


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_with_jit_and_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = compiled(jit_compile=True)
        lottery = HeadLottery(tfprune.Sparsity(0.5), 2, data=DEV, verbose=0)
        fit(model, lottery)
        assert lottery.reached == pytest.approx(0.5)
        assert set(lottery.scores.kinds.values()) == {"encoder"}
        tolerance = 1e-5 if policy == "float32" else 3e-2
        assert_same(outputs(model, X), outputs(tfprune.rebuild(model), X), tolerance)
    finally:
        keras.config.set_dtype_policy("float32")


def test_a_keras_hub_classifier(tmp_path):
    keras_hub = pytest.importorskip("keras_hub")
    backbone = keras_hub.models.BertBackbone(30, 2, 4, 16, 24, max_sequence_length=8)
    model = keras_hub.models.BertTextClassifier(backbone, num_classes=2)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss)
    ids = np.random.default_rng(0).integers(1, 30, (32, 6))
    x = {"token_ids": ids, "padding_mask": ids > 3, "segment_ids": np.zeros_like(ids)}
    lottery = HeadLottery(tfprune.Sparsity(0.5), 2, data=x, start=0, round_length=4, verbose=0)

    model.fit(x, ids[:, 0] % 2, batch_size=8, epochs=9, verbose=0, callbacks=[lottery])

    small = tfprune.rebuild(model)
    assert sum(s.groups for s in tfprune.find_structures(small).select("heads")) == 4
    assert_same(outputs(model, x), outputs(small, x))
    small.save(tmp_path / "small.keras")
    assert_same(outputs(model, x), outputs(keras.saving.load_model(tmp_path / "small.keras"), x))
