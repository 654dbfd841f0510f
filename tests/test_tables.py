from tfprune.tables import markdown, table


def test_numbers_stand_to_the_right_and_text_to_the_left():
    lines = table(
        ["layer", "kind", "left"], [["a", "ffn", 1024], ["b_long", "heads", 8]], "Left", 2
    )
    title, _, head, _, first, second, _ = lines.splitlines()
    assert title.strip() == "Left"
    assert [cell.strip() for cell in head.split("┃")[1:-1]] == ["layer", "kind", "left"]
    assert first.split("│")[1:-1] == [" a      ", " ffn   ", " 1,024 "]
    assert second.split("│")[1:-1] == [" b_long ", " heads ", "     8 "]


def test_names_are_printed_as_they_are():
    text = table(["name"], [["[UNK] :smile: [bold]x[/bold]"]])
    assert "[UNK] :smile: [bold]x[/bold]" in text
    assert "\x1b" not in text


def test_long_names_are_broken_and_not_cut():
    name = "backbone/transformer_layer_0/" * 10
    lines = table(["layer", "left"], [[name, 3]]).splitlines()
    assert max(map(len, lines)) <= 100
    assert "".join(line.split("│")[1].strip() for line in lines[3:-1]) == name


def test_markdown():
    assert markdown(["a", "b"], [["x", 1000], ["", "0.5"]]) == (
        "| a | b |\n|---|---|\n| x | 1,000 |\n|  | 0.5 |"
    )
    assert markdown(["a"], []) == "| a |\n|---|"
