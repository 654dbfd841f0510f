import numpy as np
import pytest

import tfprune
from tfprune.budgets.latency_check import LatencyCheck
from tfprune.budgets.latency_table import LatencyTable
from tfprune.callbacks import DynamicSparsity, ImportancePruning
from tfprune.criteria.confidence import Confidence
from tfprune.measuring.timing import LatencyComparison, Timing
from tfprune.repair import Repairs
from tfprune.reports.comparison import Comparison
from tfprune.reports.frontier import Frontier
from tfprune.reports.sharing import Sharing
from tfprune.tables import markdown, shortened, significant, table, wrapped

# As KerasHub has them in a task inside of another model.
START = "sentiment_classifier_of_the_shop/multilingual_bert_backbone/"
PATHS = [
    f"{START}transformer_layer_{i}/{name}"
    for i in (0, 10)
    for name in ("self_attention_layer", "feedforward_intermediate_dense_of_the_block")
]


def test_numbers_stand_to_the_right_and_text_to_the_left():
    lines = table(
        ["layer", "kind", "left"], [["a", "ffn", 1024], ["b_long", "heads", 8]], "Left", 2
    )
    title, _, head, _, first, second, _ = lines.splitlines()
    assert title == "Left"
    assert [cell.strip() for cell in head.split("┃")[1:-1]] == ["layer", "kind", "left"]
    assert first.split("│")[1:-1] == [" a      ", " ffn   ", " 1,024 "]
    assert second.split("│")[1:-1] == [" b_long ", " heads ", "     8 "]


def test_a_table_is_text_in_notebooks_too(monkeypatch):
    shown = []
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setattr("rich.jupyter.display", lambda *args: shown.append(args))
    text = table(["layer", "left"], [["a", 1024]], "Left")
    assert "1,024" in text and text.startswith("Left") and not shown


def test_names_are_printed_as_they_are():
    text = table(["name"], [["[UNK] :smile: [bold]x[/bold]"]])
    assert "[UNK] :smile: [bold]x[/bold]" in text
    assert "\x1b" not in text


def test_long_text_is_broken_and_not_cut():
    name = "backbone/transformer_layer_0/" * 10
    lines = table(["layer", "left"], [[name, 3]]).splitlines()
    assert max(map(len, lines)) <= 80
    assert "".join(line.split("│")[1].strip() for line in lines[3:-1]) == name


def test_what_all_paths_begin_with_is_said_once():
    title, *lines = table(["layer"], [[path] for path in PATHS], "Left", paths=True).splitlines()
    assert title == f"Left, all in {START}"
    assert [line.strip("│ ") for line in lines[3:-1]] == [p.removeprefix(START) for p in PATHS]
    # Whole parts of paths alone, and never a path as a whole.
    assert table(["layer"], [["ab/c"], ["abc/c"]], "Left", paths=True).startswith("Left\n")
    assert table(["layer"], [["a/b"], ["a/b/c"]], "Left", paths=True).startswith("Left, all in a/")


def test_paths_are_shortened_in_the_middle_and_stay_different():
    assert shortened(["abcdefghij", "abc"], 5) == ["ab…ij", "abc"]
    for paths in (PATHS, [f"{'x' * 30}{i}{'y' * 30}" for i in range(20)]):
        short = shortened(paths, 24)
        assert len(set(short)) == len(paths)
    # Those that differ where no way of shortening them shows it are broken into lines.
    paths = [f"{'x' * 99}{i}{'y' * 99}" for i in range(3)]
    assert shortened(paths, 24) == paths
    text = table(["layer", "left"], [[path, 1] for path in paths], paths=True)
    assert max(map(len, text.splitlines())) <= 80 and "…" not in text


def test_columns_that_do_not_fit_follow_in_a_second_table():
    names = [f"language_{i}" for i in range(12)]
    text = table(["", *names], [[name, *range(12)] for name in names], "Shared")
    assert text.count("┏") == 3 and text.startswith("Shared\n")
    assert all(text.count(f"{name} ") >= 3 for name in names)  # A row of each, and a column.
    assert max(map(len, text.splitlines())) <= 80


def test_significant_digits():
    values = [0.0, 0.01234, 0.5, 9.999, 20.04, 123.4, 1234.5, 8.7e23]
    texts = ["0.00", "0.0123", "0.500", "10.0", "20.0", "123", "1,234", "8.70e+23"]
    assert [significant(value) for value in values] == texts


def test_text_is_broken_into_lines():
    assert wrapped("short\nlines") == "short\nlines"
    text = "word " * 40 + "x" * 100
    assert max(map(len, wrapped(text).splitlines())) <= 80
    assert wrapped(text).replace("\n", "").replace(" ", "") == text.replace(" ", "")


def test_markdown():
    assert markdown(["a", "b"], [["x", 1000], ["", "0.5"]]) == (
        "| a | b |\n|---|---|\n| x | 1,000 |\n|  | 0.5 |"
    )
    assert markdown(["a"], []) == "| a |\n|---|"


def _timing(milliseconds):
    return Timing(milliseconds, milliseconds, 2 * milliseconds, 2000, 16, {})


SHARES = {"heads": np.full((6, 6), 0.1234), "all": np.full((6, 6), 1.0)}
PRINTED = {
    "comparison": Comparison(
        {"parameters": (10**10, 10**9), "LiteRT ms": (123456.789, 0.012345)},
        {path: (0, 3072) for path in PATHS},
        dict.fromkeys(PATHS, "heads"),
        0.5,
        ["FLOPs were not counted: " + "the model reads strings " * 9],
        unmatched={path: "only in the model after" for path in PATHS},
    ),
    "repairs": Repairs(
        {path: (1.5, 0.5, 1e-5) for path in PATHS},
        dict.fromkeys(PATHS, 512),
        {path: "the model does not call it" for path in PATHS},
    ),
    "timing": _timing(1234.567),
    "several timings": LatencyComparison([_timing(1.5), _timing(1234.5)], [1.0, 823.0]),
    "latency table": LatencyTable(8.0, {path: [(0, 4.0), (12, 0.0)] for path in PATHS}),
    "latency check": LatencyCheck(4.2, predicted=3.9, asked=4.0, before=8.12345),
    "sizes": Frontier(
        [{"size": 1.0, "parameters": 10**9, **{f"metric_number_{i}": 0.123456 for i in range(9)}}],
        {},
    ),
    "sharing": Sharing(
        tuple(f"language_{i}" for i in range(6)), SHARES, {k: d[0] for k, d in SHARES.items()}
    ),
    "confidence": Confidence(
        {path: np.linspace(0, 1, 16) for path in PATHS},
        dict.fromkeys(PATHS, "encoder"),
        {PATHS[0]: "it computes no softmax " * 5},
    ),
}


@pytest.mark.parametrize("name", PRINTED)
def test_what_is_printed_fits_a_terminal(name):
    text = str(PRINTED[name])
    assert max(map(len, text.splitlines())) <= 80, text
    assert text.count(START) <= 1 or name not in ("latency table", "sizes")


def test_a_latency_table_tells_which_share_of_a_call_is_saved():
    text = str(LatencyTable(8.0, {"a/ffn": [(0, 4.0), (12, 0.0)], "a/qkv": [(0, 1.0), (4, 0.0)]}))
    assert text.startswith("A call takes 8.00 ms.") and "all in a/" in text
    cells = [[c.strip() for c in line.split("│")[1:-1]] for line in text.splitlines()[-3:-1]]
    assert cells == [
        ["ffn", "12", "12.5%", "25.0%", "37.5%", "50.0%"],
        ["qkv", "4", "3.1%", "6.2%", "9.4%", "12.5%"],
    ]


@pytest.mark.sampled
def test_tables_of_a_model_of_keras_hub(capsys):
    import keras

    hub = pytest.importorskip("keras_hub").models
    backbone = hub.BertBackbone(20, 2, 4, 16, 32, max_sequence_length=8)
    model = hub.BertTextClassifier(backbone, 2, preprocessor=None)
    x = {
        "token_ids": np.ones((4, 8), "int32"),
        "padding_mask": np.ones((4, 8), "int32"),
        "segment_ids": np.zeros((4, 8), "int32"),
    }
    structures = tfprune.find_structures(model)
    assert max(len(s.name) for s in structures) > 60
    print(structures, *structures, sep="\n")
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    half = ImportancePruning("heads", tfprune.Sparsity(0.5), criterion="magnitude")
    model.fit(x, np.zeros(4), verbose=0, callbacks=[half, DynamicSparsity(structures="ffn")])
    small = tfprune.rebuild(model)
    print(tfprune.compare(model, small, sequence_length=8, latency=False))
    printed = capsys.readouterr().out
    assert "transformer_layer_1/self_attention_layer" in printed
    assert max(map(len, printed.splitlines())) <= 80, printed
