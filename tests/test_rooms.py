"""The rooms of the house: what each may import, read off the sources."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"tfprune": ROOT / "tfprune", "tfprune.callbacks": ROOT / "callbacks"}

# Helpers without a room that any other may use.
HELPERS = {
    "arguments",
    "batches",
    "configurable",
    "copying",
    "errors",
    "extras",
    "files",
    "keras_private",
    "litert",
    "model_parts",
    "native_messages",
    "progress",
    "tables",
    "user_warnings",
}
CORE = {
    "structures": set(),
    "overlay": {"structures"},
    "penalties": {"structures"},
    "gates": {"structures", "overlay"},
    "criteria": {"structures", "overlay", "penalties", "gates"},
    "repair": {"structures", "overlay"},
    "wrappers": {"structures", "gates"},
    "rebuild": {"structures", "overlay", "gates", "criteria", "repair"},
    "export": {"structures"},
    "measuring": {"export"},
    "budgets": {"structures", "overlay", "criteria", "measuring", "rebuild"},
    "fit": {
        "structures",
        "overlay",
        "penalties",
        "gates",
        "criteria",
        "budgets",
        "rebuild",
        "reports",
    },
    "callbacks": {
        "structures",
        "penalties",
        "gates",
        "criteria",
        "repair",
        "budgets",
        "fit",
        "schedules",
    },
    "schedules": set(),
    "embeddings": {"structures", "rebuild"},
    "pruning": {"structures", "criteria", "budgets", "repair", "rebuild", "reports"},
    "reports": {"structures", "gates", "rebuild", "export", "measuring"},
}


def modules():
    found = {}
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = [p for p in path.relative_to(folder).with_suffix("").parts if p != "__init__"]
            found[".".join([package, *parts])] = path
    return found


MODULES = modules()


def imported(path, inside_functions=True):
    """The modules of tfprune that a file imports."""
    found, nodes = set(), [ast.parse(path.read_text())]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not inside_functions:
            continue
        nodes += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found.add(name if name in MODULES else node.module)
    return found & set(MODULES)


def room_of(module):
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("room", CORE)
def test_a_room_imports_only_the_rooms_below(room):
    allowed = CORE[room] | HELPERS | {room}
    mine = {name: path for name, path in MODULES.items() if room_of(name) == room}
    assert mine
    for name, path in mine.items():
        wrong = {other for other in imported(path) if room_of(other) not in allowed}
        assert not wrong, f"{name} imports {', '.join(sorted(wrong))}"


def test_helpers_know_no_room():
    for name, path in MODULES.items():
        if room_of(name) in HELPERS:
            assert {room_of(other) for other in imported(path)} <= HELPERS, name


def test_no_circles_between_files():
    left = {name: imported(path, False) - {name} for name, path in MODULES.items()}
    while left:
        free = {name for name, others in left.items() if not others & set(left)}
        assert free, f"In a circle, or above one: {', '.join(sorted(left))}"
        left = {name: others for name, others in left.items() if name not in free}
