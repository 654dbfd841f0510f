import matplotlib
import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.image import imread
from matplotlib.style import context
from matplotlib.text import Text

from tfprune.reports import plots
from tfprune.reports.plots.styles import METHODS, Style, styles

pytestmark = pytest.mark.sampled


def test_survivors_show_each_layer(tmp_path):
    figure = plots.survivors(
        {"a": (3, 4), "b": (0, 8)}, tmp_path / "s.png", {"a": "heads", "b": "ffn"}
    )
    (axes,) = figure.axes
    assert [t.get_text() for t in axes.get_yticklabels()] == ["a", "b"]
    assert [t.get_text() for t in axes.texts] == ["3 of 4", "0 of 8"]
    assert [round(bar.get_width()) for bar in axes.patches] == [100, 75, 100, 0]
    assert (tmp_path / "s.png").stat().st_size > 1000
    with pytest.raises(ValueError, match="`counts`"):
        plots.survivors({})


def test_pareto_front_is_what_nothing_beats(tmp_path):
    points = {"slow": (1, 9), "middle": (2, 5), "beaten": (1.5, 4), "fast": (3, 1)}
    figure = plots.pareto(points, tmp_path / "p.png")
    (axes,) = figure.axes
    assert list(zip(*axes.lines[0].get_data(), strict=True)) == [(1, 9), (2, 5), (3, 1)]
    (axes,) = plots.pareto({"a": (1, 18.9), "b": (2, 19.0)}).axes
    assert axes.get_ylim() == pytest.approx((17.95, 19.95))
    with pytest.raises(ValueError, match="`points`"):
        plots.pareto({})


def test_heat_maps_show_each_number(tmp_path):
    tables = {"heads": [[0.0, 0.5], [0.5, 0.0]], "ffn": [[0.0, 0.125], [0.125, 0.0]]}
    figure = plots.heat_maps(tables, ["en", "de"], tmp_path / "h.png")
    assert [axes.get_title() for axes in figure.axes] == ["heads", "ffn"]
    assert [t.get_text() for t in figure.axes[1].texts] == ["0%", "12%", "12%", "0%"]
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["en", "de"]
    assert (tmp_path / "h.png").stat().st_size > 1000
    with pytest.raises(ValueError, match="`tables`"):
        plots.heat_maps({}, ["en"])


def test_a_failed_picture_leaves_the_old_one(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    def fail(*args, **kwargs):
        raise OSError("disk full")

    (tmp_path / "s.png").write_text("old")
    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        plots.survivors({"a": (1, 2)}, tmp_path / "s.png")
    assert (tmp_path / "s.png").read_text() == "old"


def test_rounds_show_what_is_left_in_each(tmp_path):
    counts = [{"a": 4, "b": 2}, {"a": 3, "b": 0}]
    (axes,) = plots.rounds(counts, tmp_path / "r.png").axes
    assert [t.get_text() for t in axes.texts] == ["4", "3", "2", "0"]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["a", "b"]
    assert (tmp_path / "r.png").stat().st_size > 1000
    with pytest.raises(ValueError, match="`counts`"):
        plots.rounds([])


def test_curves_pair_a_method_with_its_variant(tmp_path):
    series = {"a": [(2, 5), (1, 9)], "a+teacher": [(1, 8)], "b": [(1, 7)]}
    figure = plots.curves(series, tmp_path / "c.png", reference=10)
    (axes,) = figure.axes
    across, a, teacher, b = axes.lines
    assert list(across.get_ydata()) == [10, 10]
    assert list(zip(*a.get_data(), strict=True)) == [(1, 9), (2, 5)]
    assert a.get_color() == teacher.get_color() != b.get_color()
    assert [line.get_linestyle() for line in (a, teacher)] == ["-", "--"]
    named = [t.get_text() for t in axes.get_legend().get_texts()]
    assert named == ["not pruned", "a", "a, teacher", "b"]
    assert (tmp_path / "c.png").stat().st_size > 1000
    with pytest.raises(ValueError, match="`series`"):
        plots.curves({})


def ends(axes):
    """Where the bars of errors begin and end."""
    lines = [each for each in axes.collections if isinstance(each, LineCollection)]
    return [segment[:, 1].tolist() for each in lines for segment in each.get_segments()]


@pytest.mark.parametrize(
    "draw", [lambda p: plots.curves({"a": p}), lambda p: plots.pareto({str(x): x for x in p})]
)
def test_a_third_number_is_a_standard_error(draw):
    (axes,) = draw([(1, 5, 0.5), (2, 3), (3, 1, 0.25)]).axes
    assert sorted(ends(axes)) == [[0.75, 1.25], [4.5, 5.5]]
    with pytest.raises(ValueError, match="two numbers, or of three"):
        draw([(1, 2, 3, 4)])


def test_a_method_looks_the_same_in_every_picture():
    both = {"new": [(1, 1)], "magnitude": [(1, 2)], "dense int8": [(1, 3)]}
    alone = {"magnitude": [(1, 2)]}
    (axes,), (other,) = plots.curves(both).axes, plots.curves(alone).axes
    new, magnitude, dense = axes.lines
    assert magnitude.get_color() == other.lines[0].get_color() == METHODS["magnitude"].colour
    assert magnitude.get_marker() == other.lines[0].get_marker() == METHODS["magnitude"].marker
    assert dense.get_color() == METHODS["dense"].colour
    assert new.get_color() not in {magnitude.get_color(), dense.get_color()}
    assert len(set(METHODS.values())) == len(METHODS)
    many = styles(f"m{i}" for i in range(20))
    assert len(set(many.values())) == 20


def test_the_longest_known_beginning_counts():
    a, b, c = (Style(letter) for letter in "abc")
    known = {"movement": a, "movement, hybrid": b, "move": c}
    found = styles(["movement, hybrid filled", "movement", "movement, struct", "move on"], known)
    assert list(found.values()) == [b, a, a, c]


def test_small_multiples_share_styles_and_references():
    panels = {"one": {"a": [(1, 2)], "a+more": [(1, 3)]}, "two": {"b": [(1, 1)], "a": [(2, 2)]}}
    one, two = plots.small_multiples(panels, references={"two": 9}, columns=5).axes
    assert [axes.get_title(loc="left") for axes in (one, two)] == ["one", "two"]
    reference, b, a = two.lines
    assert list(reference.get_ydata()) == [9, 9]
    assert a.get_color() == one.lines[0].get_color() != b.get_color()
    assert one.get_ylim() == two.get_ylim()
    assert one.get_legend() and not plots.small_multiples(panels).legends
    alike = plots.small_multiples({"one": {"a": [(1, 2)]}, "two": {"a": [(1, 3)]}})
    assert [t.get_text() for t in alike.legends[0].get_texts()] == ["a"]
    for wrong in ({}, {"one": {}}):
        with pytest.raises(ValueError, match="`panels`"):
            plots.small_multiples(wrong)


@pytest.mark.parametrize(
    "names",
    [["a+0", "a", "a+1", "a+2"], ["lottery by size", "lottery, by chance", "lottery+again"]],
)
def test_what_has_one_colour_has_its_own_line(names):
    (axes,) = plots.curves({name: [(1, i), (2, i)] for i, name in enumerate(names)}).axes
    assert len({line.get_color() for line in axes.lines}) == 1
    looks = [(line.get_linestyle(), line.get_fillstyle()) for line in axes.lines]
    assert len(set(looks)) == len(names)
    first = next(i for i, name in enumerate(names) if "+" not in name)
    assert looks[first] == ("-", "full")


def test_long_paths_are_shortened_and_their_start_is_in_the_title():
    start = "backbone/encoder/"
    names = [f"{start}transformer_layer_{i}/feedforward_intermediate_dense" for i in range(2)]
    for figure in (
        plots.survivors(dict.fromkeys(names, (1, 2))),
        plots.rounds([dict.fromkeys(names, 2)]),
    ):
        (axes,) = figure.axes
        labels = [t.get_text() for t in axes.get_yticklabels()]
        assert len(set(labels)) == 2
        assert all(len(label) <= 44 and "…" in label for label in labels)
        assert figure.get_suptitle().endswith(f"all in {start}")


def test_labels_lie_inside_and_not_over_one_another():
    points = {f"a model with a long name {i}": (1 + i / 40, 18 + i % 2 / 9) for i in range(7)}
    (axes,) = plots.pareto(points, least_range=0).axes
    axes.figure.draw_without_rendering()
    inside = axes.get_window_extent()
    texts = [Text.get_window_extent(text) for text in axes.texts]  # Without their arrows.
    assert len(texts) == 7
    for number, box in enumerate(texts):
        assert inside.x0 <= box.x0 + 1 and box.x1 <= inside.x1 + 1
        assert inside.y0 <= box.y0 + 1 and box.y1 <= inside.y1 + 1
        assert not any(box.overlaps(other) for other in texts[:number])


def test_pictures_are_white_and_black_in_a_dark_program(tmp_path):
    with context("dark_background"), matplotlib.rc_context({"savefig.transparent": True}):
        figure = plots.survivors({"a": (1, 2)}, tmp_path / "dark.png")
    plots.survivors({"a": (1, 2)}, tmp_path / "light.png")
    dark, light = (imread(tmp_path / f"{name}.png") for name in ("dark", "light"))
    np.testing.assert_array_equal(dark, light)
    assert (dark[0] == 1).all() and (dark[..., 3] == 1).all()
    assert figure.axes[0].texts[0].get_color() == "black"


def test_heat_maps_and_rounds_begin_at_nothing():
    tables = {"few": [[0.0, 0.1], [0.1, 0.0]]}
    (heat,) = plots.heat_maps(tables, ["en", "de"]).axes
    (left,) = plots.rounds([{"a": 4}, {"a": 3}]).axes
    assert heat.images[0].get_clim() == (0, 1)
    assert left.images[0].get_clim()[0] == 0
