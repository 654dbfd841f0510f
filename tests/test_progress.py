"""Where progress is shown, and what."""

import threading

import pytest
from rich.console import Console

from tests.terminals import terminal
from tfprune import progress as module
from tfprune.progress import progress, stages


def some_steps(verbose=1):
    with progress("counting", 3, verbose) as step:
        for text in ("one", "two", "three"):
            step(text)


def test_a_terminal_shows_each_step():
    with terminal() as screen:
        some_steps()
    shown = screen.getvalue()
    assert [shown.count(f"counting: {text}") for text in ("one", "two", "three")] == [1, 1, 1]
    assert "counting \x1b" in shown.rpartition("three")[2]  # What stays, without a step.


def test_verbose_0_shows_nothing_on_a_terminal():
    with terminal() as screen:
        some_steps(verbose=0)
    assert screen.getvalue() == ""


def test_files_and_pipes_get_nothing(capsys, monkeypatch):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.delenv("TTY_COMPATIBLE", raising=False)
    some_steps()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("widgets, shown", [(None, False), ("a spec", True)])
def test_notebooks_need_ipywidgets(monkeypatch, widgets, shown):
    monkeypatch.setattr(Console, "is_terminal", False)
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setattr(module, "find_spec", lambda name: widgets)
    assert (module._display() is not None) == shown


def test_no_thread_draws():
    before = threading.active_count()
    with terminal(), progress("counting", 3, verbose=1) as step:
        step("one")
        assert threading.active_count() == before


def test_steps_of_one_text_are_drawn_ten_times_a_second_at_most(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    drawn = []
    with terminal() as screen, progress("counting", 100, verbose=1) as step:
        for _ in range(100):
            before = len(screen.getvalue())
            step("rounds")
            drawn.append(len(screen.getvalue()) > before)
            now[0] += 0.03
    assert [i for i, was in enumerate(drawn) if was] == list(range(0, 100, 4))


def test_work_inside_other_work_is_a_line_below_it_until_it_ends():
    with terminal() as screen, progress("outside", 2, verbose=1) as step:
        step("first")
        with progress("inside", 1, verbose=1) as inner:
            inner("deep")
        both = screen.getvalue()
        step("second")
        after = screen.getvalue().removeprefix(both)
    assert "outside: first" in both and "inside: deep" in both
    assert "outside: second" in after and "inside" not in after


def test_an_error_ends_the_display():
    for _ in range(2):  # The second finds nothing that is still shown.
        with (
            terminal() as screen,
            pytest.raises(KeyError),
            progress("outside", 2, verbose=1) as step,
        ):
            step("first")
            with progress("inside", 1, verbose=1) as inner:
                inner("deep")
                raise KeyError
        assert "outside: first" in screen.getvalue()
        assert "\x1b[?25h" in screen.getvalue()  # The cursor is back.
    with terminal() as screen:
        some_steps()
    assert "outside" not in screen.getvalue()


def two_stages():
    with stages() as tick:
        for epoch in (1, 2):
            tick("Training", epoch / 2 - 0.25, f"epoch {epoch}, half", note=False)
            tick("Training", epoch / 2, f"epoch {epoch}")
        tick("Timing")


def test_each_stage_has_a_bar_that_stays(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now.append(now[-1] + 1) or now[-1])
    with terminal() as screen:
        two_stages()
    shown = screen.getvalue()
    trained, _, timed = shown.partition("Timing")
    assert [trained.count(f"epoch {n}, half") for n in (1, 2)] == [1, 1]
    assert "Training \x1b" in trained.rpartition("epoch 2")[2] and "Training" not in timed
    assert "Training  " not in shown  # No line for those who look.


def test_where_nobody_looks_a_stage_has_a_line_for_what_is_worth_one(capsys, monkeypatch):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.delenv("TTY_COMPATIBLE", raising=False)
    two_stages()
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert lines == [["Training", "epoch 1"], ["Training", "epoch 2"], ["Timing"]]


def test_steps_that_say_how_many_are_done_are_drawn_ten_times_a_second_at_most(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    drawn = []
    with terminal() as screen, progress("training", 1, verbose=1) as step:
        for i in range(20):
            before = len(screen.getvalue())
            step(f"loss {i}", i / 20)
            drawn.append(len(screen.getvalue()) > before)
            now[0] += 0.03
    assert [i for i, was in enumerate(drawn) if was] == list(range(0, 20, 4))
