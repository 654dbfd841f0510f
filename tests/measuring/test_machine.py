import pytest

from tfprune.measuring import machine


@pytest.mark.parametrize(
    "flags, expected",
    [
        ("flags\t\t: fpu sse4_2 avx avx2 avx512f avx512_vnni", "Some CPU with AVX-512 VNNI"),
        ("flags\t\t: fpu sse4_2 avx avx2", "Some CPU with AVX2"),
        ("Features\t: fp asimd asimddp", "Some CPU with SDOT"),
        ("flags\t\t: fpu", "Some CPU"),
    ],
)
def test_the_instructions_on_which_int8_depends_are_named(flags, expected):
    assert machine.processor_of(f"processor\t: 0\nmodel name\t: Some CPU\n{flags}\n") == expected


def test_where_the_system_does_not_say(monkeypatch):
    monkeypatch.setattr(machine.platform, "processor", lambda: "arm")
    monkeypatch.setattr(machine.Path, "read_text", lambda self: "processor : 0\n")
    assert machine.processor() == "arm"
