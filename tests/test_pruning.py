import weakref

import keras
import numpy as np
import pytest
from keras import layers

import tfprune
from tests.models import assert_same, noise, outputs, randomize
from tfprune import criteria, pruning
from tfprune.callbacks import ImportancePruning
from tfprune.reports.comparison import compare

pytestmark = pytest.mark.sampled

X = noise(96, 6, 8)


def trained(compiled=True):
    x = keras.Input((6, 8), name="x")
    h = layers.Add()([x, layers.MultiHeadAttention(4, 4, name="attention")(x, x)])
    y = layers.Dense(8, name="out")(layers.Dense(16, "gelu", name="in")(h))
    model = randomize(keras.Model(x, layers.Add()([h, y])), scale=0.4)
    if compiled:
        model.compile(keras.optimizers.Adam(1e-3), "mse")
    return model


Y = outputs(trained(), X)[0] + 0.1 * noise(96, 6, 8, seed=7)


@keras.saving.register_keras_serializable("tests.pruning")
class Own(layers.Layer):
    """Twelve units whose weights it holds itself."""

    def build(self, shape):
        self.up = self.add_weight(shape=(shape[-1], 12), name="up")
        self.down = self.add_weight(shape=(12, shape[-1]), name="down")

    def call(self, x):
        return x + keras.ops.relu(x @ self.up) @ self.down


def error(model):
    return float(np.mean((outputs(model, X)[0] - outputs(trained(), X)[0]) ** 2))


@pytest.mark.parametrize("criterion", ["gradient_importance", "magnitude"])
def test_the_target_is_met_and_the_model_is_as_it_was(criterion):
    model = trained()
    before = model.get_weights()
    errors = {}
    for repair in (None, "bias", "least_squares"):
        small = tfprune.prune(
            model, tfprune.Sparsity(0.5), (X, Y), criterion=criterion, repair=repair, verbose=0
        )
        assert [s.groups for s in tfprune.find_structures(small)] == [2, 8]
        errors[repair] = error(small)
        for one, other in zip(model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(one, other)
    assert errors["least_squares"] < 0.8 * errors["bias"] < 0.8 * errors[None]


def test_the_groups_are_those_that_a_callback_would_remove():
    model = trained()
    small = tfprune.prune(model, tfprune.Sparsity(0.5), (X, Y), repair=None, verbose=0)
    keep = ImportancePruning(target=tfprune.Sparsity(0.5), data=(X, Y), start=0, verbose=0)
    frozen = trained()
    frozen.optimizer.learning_rate = 0.0
    frozen.fit(X, Y, verbose=0, callbacks=[keep])
    np.testing.assert_allclose(
        outputs(small, X)[0], outputs(tfprune.rebuild(frozen), X)[0], atol=1e-5
    )


def test_what_is_zero_already_goes_too():
    """Also beyond the target, as after a fit with a callback; but a layer keeps its least."""
    model = trained()
    (units,) = [s for s in tfprune.find_structures(model) if s.kind == "ffn"]
    units.scale((np.arange(16) < 4).astype("float32"))
    expected = outputs(model, X)
    small = tfprune.prune(model, tfprune.Sparsity(0.1), (X, Y), repair=None, verbose=0)
    assert tfprune.find_structures(small)["in"].groups == 4
    assert_same(expected, outputs(small, X))
    by_8 = tfprune.prune(
        model, tfprune.Sparsity(0.1), (X, Y), repair=None, verbose=0, round_to={"ffn": 8}
    )
    assert tfprune.find_structures(by_8)["in"].groups % 8 == 0


def test_in_place_cuts_the_model_itself():
    model = trained()
    expected = outputs(tfprune.prune(model, tfprune.Sparsity(0.5), (X, Y), verbose=0), X)
    small = tfprune.prune(model, tfprune.Sparsity(0.5), (X, Y), in_place=True, verbose=0)
    assert small is model and model.count_params() < trained().count_params()
    np.testing.assert_allclose(outputs(small, X)[0], expected[0], atol=1e-5)


def test_data_of_every_kind():
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            rows = slice(32 * index, 32 * index + 32)
            return {"x": X[rows]}, Y[rows]

    def generator():
        while True:
            yield X[:32], Y[:32]

    half = tfprune.Sparsity(0.5)
    expected = outputs(tfprune.prune(trained(), half, (X, Y), verbose=0), X)[0]
    for data in (Batches(), (X, Y, None)):
        found = outputs(tfprune.prune(trained(), half, data, verbose=0), X)[0]
        np.testing.assert_allclose(found, expected, atol=1e-5)
    found = tfprune.prune(trained(), half, generator(), examples=96, verbose=0)
    assert found.count_params() < trained().count_params()
    for x in (X, {"x": X}, [X]):  # Without labels.
        small = tfprune.prune(trained(False), half, x, criterion="magnitude", verbose=0)
        assert small.count_params() < trained().count_params()


@pytest.mark.parametrize(
    "compiled, data, repair, expected",
    [
        ("mse", (X, Y), "least_squares", "reconstruction"),
        (False, X, "least_squares", "reconstruction"),
        ("mse", (X, Y), None, "gradient_importance"),
        ("mse", (X, Y), "bias", "gradient_importance"),
        ("mse", X, None, "activation"),
        ("mse", (X, None), None, "activation"),
        (None, (X, Y), None, "activation"),
        (False, (X, Y), None, "activation"),
    ],
)
def test_the_default_criterion_is_the_one_that_data_and_model_allow(
    compiled, data, repair, expected, capsys
):
    model, half = trained(compiled=False), tfprune.Sparsity(0.5)
    if compiled is not False:
        model.compile("sgd", compiled)
    small = tfprune.prune(model, half, data, repair=repair)
    assert f"scoring groups by {expected} …" in capsys.readouterr().out
    known = trained()
    named = tfprune.prune(known, half, (X, Y), repair=repair, criterion=expected, verbose=0)
    np.testing.assert_allclose(outputs(small, X)[0], outputs(named, X)[0], atol=1e-5)


def test_ranks_are_scored_by_what_can_score_them(capsys):
    inputs = keras.Input((4,), dtype="int32")
    embedded = tfprune.FactorizedEmbedding(20, 8, 6)(inputs)
    model = keras.Model(inputs, layers.Dense(2)(embedded))
    ids = np.arange(64).reshape(16, 4) % 20
    with pytest.warns(UserWarning, match="All are scored by 'magnitude'"):
        small = tfprune.prune(model, tfprune.Sparsity(0.5), ids)
    assert "scoring groups by magnitude …" in capsys.readouterr().out
    assert tfprune.find_structures(small)[0].groups == 3


@pytest.mark.parametrize(
    "repair, name", [("least_squares", "reconstruction"), ("bias", "activation")]
)
def test_units_that_a_layer_holds_itself_are_scored_beside_the_others(repair, name, capsys):
    model = keras.Sequential([trained(compiled=False), Own(name="own")])
    half = tfprune.Sparsity(0.5)
    with pytest.warns(UserWarning, match="own cannot be scored by .*These are .*labels"):
        small = tfprune.prune(model, half, X, repair=repair)
    out = " ".join(capsys.readouterr().out.split())
    assert f"scoring groups by {name} and magnitude …" in out
    assert "own cannot be scored by" in out
    found = {s.name.split("/")[-1]: s for s in tfprune.find_structures(model)}
    left = {s.name.split("/")[-1]: s for s in tfprune.find_structures(small)}
    assert left["own"].groups == 6
    total = sum(s.weights for s in found.values())
    assert 0.4 * total < sum(s.weights for s in left.values()) <= 0.5 * total
    stay = np.sort(np.argsort(criteria.magnitude(found["own"]))[6:])
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(small.get_layer("own").up),
        keras.ops.convert_to_numpy(model.get_layer("own").up)[:, stay],
    )
    with pytest.warns(UserWarning, match="All are scored by 'magnitude'"):
        tfprune.prune(model, half, X, repair=repair, within="model")
    assert "scoring groups by magnitude …" in capsys.readouterr().out


def test_a_loss_of_the_models_own_needs_no_labels(capsys):
    class Own(keras.Model):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return keras.ops.mean(y_pred**2)

    plain = trained(compiled=False)
    model = Own(plain.inputs, plain.outputs)
    model.compile("sgd")
    tfprune.prune(model, tfprune.Sparsity(0.5), X, repair=None)
    assert "scoring groups by gradient_importance …" in capsys.readouterr().out


@pytest.mark.parametrize("criterion", ["activation", "wanda", "reconstruction", "magnitude"])
def test_a_layer_with_small_weights_keeps_its_share(criterion):
    model = trained()
    x = model.output
    head = layers.Dense(2, name="logits")(layers.Dense(8, "tanh", name="pooled")(x[:, 0]))
    model = keras.Model(model.input, head)
    model.get_layer("pooled").kernel.assign(0.01 * model.get_layer("pooled").kernel)
    model.get_layer("logits").kernel.assign(0.01 * model.get_layer("logits").kernel)
    model.compile("adam", "mse")
    small = tfprune.prune(
        model, tfprune.Sparsity(0.5), (X, Y[:, 0, :2]), criterion=criterion, verbose=0
    )
    left = {s.name: s.groups for s in tfprune.find_structures(small)}
    if criterion == "reconstruction":  # Not by shares, but by what the outputs change.
        assert left["pooled"] >= 2
    else:
        assert left == {"attention": 2, "in": 8, "pooled": 4}


def loss_of_the_fits(scores, keep):
    """The sum of the errors of what reads the groups, in units of the outputs."""
    effects = scores.effects
    return sum(effects[n] * max(scores[n][~stays], default=0.0) for n, stays in keep.items())


def test_by_error_the_sum_of_the_errors_of_all_layers_is_least():
    model = trained()
    found = tfprune.find_structures(model)
    scores = tfprune.criteria.reconstruction(model, X)
    small = tfprune.prune(
        model, tfprune.Sparsity(0.6), X, criterion="reconstruction", within="error", verbose=0
    )
    left = {s.name: s.groups for s in tfprune.find_structures(small)}
    cost = tfprune.Sparsity(0.6).cost(model, found)
    losses = {}
    for pair in np.ndindex(*(s.groups + 1 for s in found)):
        counts = dict(zip((s.name for s in found), pair, strict=True))
        if cost(counts) <= 0.4:
            keep = {n: np.argsort(np.argsort(-scores[n])) < k for n, k in counts.items()}
            losses[pair] = loss_of_the_fits(scores, keep)
    assert losses[tuple(left.get(s.name, 0) for s in found)] == min(losses.values())


def test_by_error_is_what_milliseconds_take():
    """Units save no time here, so heads go alone."""
    points = {"attention": [(0, 4.0), (4, 0.0)], "in": [(0, 0.0), (16, 0.0)]}
    target = tfprune.Latency(8.0, on=tfprune.LatencyTable(10.0, points))
    for criterion in ("gradient_importance", "activation", "wanda", "reconstruction"):
        small = tfprune.prune(trained(), target, (X, Y), criterion=criterion, verbose=0)
        assert [s.groups for s in tfprune.find_structures(small)] == [2, 16]
    # Norms are no errors, and one ranking does not look at the time.
    for options in ({"criterion": "magnitude"}, {"per_cost": True}, {"within": "kind"}):
        small = tfprune.prune(trained(), target, (X, Y), verbose=0, **options)
        assert tfprune.find_structures(small)[1].groups < 10


@pytest.mark.tensorflow_only
def test_text_is_encoded_once_as_fit_does():
    hub = pytest.importorskip("keras_hub").models
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad"]
    preprocessor = hub.BertTextClassifierPreprocessor(
        hub.BertTokenizer(vocabulary=words), sequence_length=4
    )
    backbone = hub.BertBackbone(7, 1, 2, 8, 16, max_sequence_length=4)
    task = hub.BertTextClassifier(backbone, num_classes=2, preprocessor=preprocessor)
    texts, labels = ["good", "bad", "good bad"] * 4, np.array([1, 0, 1] * 4)
    encoded = preprocessor(texts, y=labels)
    x, _ = encoded
    small = tfprune.prune(task, tfprune.Sparsity(0.5), (texts, labels), verbose=0)
    same = tfprune.prune(task, tfprune.Sparsity(0.5), encoded, verbose=0)
    assert small.count_params() < task.count_params()
    np.testing.assert_allclose(outputs(small, x), outputs(same, x), rtol=1e-4, atol=1e-5)


def test_only_so_many_examples_are_used():
    class Endless(keras.utils.PyDataset):
        asked = 0

        def __len__(self):
            return 10_000

        def __getitem__(self, index):
            self.asked = max(self.asked, index + 1)
            return X[:32], Y[:32]

    data = Endless()
    tfprune.prune(trained(), tfprune.Sparsity(0.5), data, examples=70, verbose=0)
    assert data.asked <= 4


def test_what_is_said(capsys):
    tfprune.prune(trained(), tfprune.Sparsity(0.5), (X, Y), examples=64)
    text = capsys.readouterr().out
    assert "64 examples, 2 structures; scoring groups by reconstruction" in text
    assert "2 layers fitted" in text and "2/2" in text
    assert "sparsity 50.0%; the target is sparsity 50.0%" in text
    assert "Before and after" in text and "Groups left" in text
    tfprune.prune(trained(), tfprune.Sparsity(0.5), (X, Y), verbose=0)
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    "options, match",
    [
        ({"target": 0.5}, "`target`"),
        ({"target": tfprune.Parameters(0.01)}, "cannot be reached"),
        ({"data": None}, "`data`"),
        ({"data": X, "criterion": "gradient_importance"}, "no targets y"),
        ({"data": (X[:, :3, :5], Y)}, "`data`"),
        ({"data": (X[:0], Y[:0])}, "`data`"),
        ({"structures": "ranks"}, "`structures`"),
        ({"criterion": "best"}, "`criterion`"),
        ({"repair": "all"}, "`repair` must be one of None, 'least_squares', 'bias'"),
        ({"examples": 0}, "`examples`"),
        ({"within": "error", "per_cost": True}, "`per_cost` must be False"),
        ({"in_place": 1}, "`in_place`"),
        ({"data": (np.full_like(X, np.nan), Y), "criterion": "magnitude"}, "not finite"),
    ],
)
def test_bad_input_is_refused_and_the_model_is_as_it_was(options, match):
    model = trained()
    before = model.get_weights()
    with pytest.raises(ValueError, match=match):
        tfprune.prune(
            model, **{"target": tfprune.Sparsity(0.5), "data": (X, Y), "verbose": 0, **options}
        )
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_model_with_nothing_to_prune():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    with pytest.raises(ValueError, match="nothing that `prune` could prune"):
        tfprune.prune(model, tfprune.Sparsity(0.5), noise(4, 4), criterion="magnitude")


def test_rebuild_fits_what_reads_the_groups_that_keep_removes():
    model = trained()
    before = model.get_weights()
    keep = {"in": np.arange(16) % 2 == 0, "attention": np.arange(4) > 1}
    plain, fitted = (tfprune.rebuild(model, keep, repair=x) for x in (None, X))
    assert error(fitted) < 0.8 * error(plain)
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    itself = trained()
    tfprune.rebuild(itself, keep, in_place=True, repair=(X, Y))
    np.testing.assert_allclose(outputs(itself, X)[0], outputs(fitted, X)[0], atol=1e-5)
    for wrong, match in (({}, "`repair` is for"), ({"on": [True]}, "`keep`")):
        with pytest.raises(ValueError, match=match):
            tfprune.rebuild(model, wrong, repair=X)


@pytest.mark.parametrize("repair", [None, "bias"])
def test_without_a_fit_each_layer_loses_its_share(repair):
    """How much a layer can lose by `reconstruction` holds only for one that is fitted."""
    small = tfprune.prune(
        trained(), tfprune.Sparsity(0.5), X, criterion="reconstruction", repair=repair, verbose=0
    )
    assert [s.groups for s in tfprune.find_structures(small)] == [2, 8]


@pytest.mark.parametrize("criterion", ["activation", "wanda", "reconstruction"])
def test_positions_of_sample_weight_0_are_read_and_count(criterion):
    x = keras.Input((6, 4))
    h = layers.Dense(8, "tanh", name="in")(x)
    model = randomize(keras.Model(x, layers.Dense(3)(h)))
    inputs, targets = noise(32, 6, 4), noise(32, 6, 3)
    weights = np.tile([0.0, 0.0, 0.0, 1.0, 1.0, 1.0], (32, 1))
    options = {"criterion": criterion, "verbose": 0}
    weighted = tfprune.prune(model, tfprune.Sparsity(0.5), (inputs, targets, weights), **options)
    assert_same(
        outputs(tfprune.prune(model, tfprune.Sparsity(0.5), inputs, **options), inputs),
        outputs(weighted, inputs),
    )


def test_scores_are_freed_before_layers_are_fitted(monkeypatch):
    """They may hold copies of weights."""
    made, alive, fit = [], [], pruning.repaired

    class Watched(criteria.Activation):
        def scores(self, *arguments):
            found = super().scores(*arguments)
            made.append(weakref.ref(found))
            return found

    def fitted(*arguments, **options):
        alive.extend(scores() for scores in made)
        return fit(*arguments, **options)

    monkeypatch.setattr(pruning, "repaired", fitted)
    tfprune.prune(trained(), tfprune.Sparsity(0.5), X, criterion=Watched(), verbose=0)
    assert alive == [None]


def test_the_table_has_the_flops_that_the_target_counts(monkeypatch):
    x = keras.Input((None, 6))
    model = keras.Model(x, layers.Dense(2)(layers.Dense(8, "relu")(x)))
    found = []
    monkeypatch.setattr(pruning, "compare", lambda *a, **k: found.append(compare(*a, **k)))
    for target, length in (
        (tfprune.Flops(0.5, sequence_length=7), 7),
        (tfprune.Sparsity(0.5), 128),
    ):
        small = tfprune.prune(model, target, noise(8, 5, 6))
        counted = [tfprune.count_flops(m, sequence_length=length) for m in (model, small)]
        assert found[-1].figures["FLOPs"] == tuple(counted)
