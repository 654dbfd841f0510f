import pytest

from tfprune.reports import plots

pytestmark = pytest.mark.one_backend


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
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["a", "a, teacher", "b"]
    assert (tmp_path / "c.png").stat().st_size > 1000
    with pytest.raises(ValueError, match="`series`"):
        plots.curves({})
