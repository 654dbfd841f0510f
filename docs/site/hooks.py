"""What MkDocs shows: the repository's own paths, and one page for each public module.

A page of the site lies where its file lies in the repository, so a relative link leads to the same
place on both. Links to what the site has no page for, such as folders and raw numbers, lead to the
repository.
"""

from __future__ import annotations

import ast
import posixpath
import re
import shutil
from pathlib import Path

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
SHOWN = (
    "*.md",
    "docs/*.md",
    "docs/*/*.md",
    "notebooks/*.ipynb",
    "benchmarks/results/*.md",
    "benchmarks/results/*.png",
    "docs/site/*.css",
)
# The folder `callbacks/` is the module `tfprune.callbacks`; what reads the docstrings finds modules
# by their paths, so they lie there in a copy.
COPY = ROOT / "build" / "api"
MODULES = (
    "tfprune",
    "tfprune.callbacks",
    "tfprune.criteria",
    "tfprune.datasets",
    "tfprune.embeddings",
    "tfprune.gates",
    "tfprune.penalties",
    "tfprune.reports.plots",
    "tfprune.schedules",
    "tfprune.structures",
    "tfprune.translation",
    "tfprune.wrappers",
)
API = "docs/api"
_LINK = re.compile(r"(?<=\]\()[^)#\s]+")
_FENCED = re.compile(r"(^```.*?^```$)", re.M | re.S)


@event_priority(100)  # Before mkdocstrings, which leaves out paths that are not there.
def on_config(config):
    """Copies the package to where its docstrings are read."""
    shutil.rmtree(COPY, ignore_errors=True)
    without = shutil.ignore_patterns("__pycache__", "callbacks", "*.pyi")
    shutil.copytree(ROOT / "tfprune", COPY / "tfprune", ignore=without)
    shutil.copytree(ROOT / "callbacks", COPY / "tfprune" / "callbacks")
    return config


@event_priority(100)  # Before mkdocs-jupyter, which looks for notebooks.
def on_files(files, config):
    """The files of the repository instead of those of `docs_dir`, and the pages of the modules."""
    shown = sorted({path for pattern in SHOWN for path in ROOT.glob(pattern)})
    place = config.site_dir, config.use_directory_urls
    kept = [File(path.relative_to(ROOT).as_posix(), str(ROOT), *place) for path in shown]
    for module in MODULES:
        page = f"{API}/{module}.md"
        kept.append(File.generated(config, page, content=api_page(module)))
    # What the theme and the plugins add comes on top.
    theirs = [file for file in files if file.src_dir != config.docs_dir]
    return Files([*theirs, *kept])


def on_page_markdown(markdown, page, config, files):
    """Leads links to files without a page to the repository."""

    def lead(match):
        target = match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(page.file.src_uri), target))
        # A link out of the repository, or to nothing, stays, and MkDocs warns of it.
        if "://" in target or path in files.src_uris or not (ROOT / path).exists():
            return target
        kind = "tree" if (ROOT / path).is_dir() else "blob"
        return f"{config.repo_url}/{kind}/main/{path}"

    parts = _FENCED.split(markdown)
    parts[::2] = [_LINK.sub(lead, text) for text in parts[::2]]
    return "".join(parts)


def source_of(module):
    """The file that names what a module has: its stub where it has one."""
    path = ROOT / ("callbacks" + module.removeprefix("tfprune.callbacks").replace(".", "/"))
    if not module.startswith("tfprune.callbacks"):
        path = ROOT / module.replace(".", "/")
    candidates = path / "__init__.pyi", path / "__init__.py", path.with_suffix(".py")
    return next(file for file in candidates if file.exists())


# Of whose bases readers need the methods too.
WITH_INHERITED = {"tfprune.structures.Structure"}


def names_of(module):
    """The public names of a module, each with the dotted path at which it is defined."""
    source = source_of(module)
    tree = ast.parse(source.read_text("utf-8"))
    names = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and source.stem != "__init__":
            if not node.name.startswith("_"):
                names[node.name] = f"{module}.{node.name}"
        elif isinstance(node, ast.ImportFrom) and node.module and source.stem == "__init__":
            origin = f"{module}.{node.module}" if node.level else node.module
            if origin.partition(".")[0] != "tfprune":
                continue
            for alias in node.names:
                # What a package imports from another one is defined further down.
                further = names_of(origin) if source_of(origin).stem == "__init__" else {}
                names[alias.name] = further.get(alias.name, f"{origin}.{alias.name}")
    return names


def api_page(module):
    """The Markdown of one module: its docstring, then each of its names."""
    docstring = ast.get_docstring(ast.parse((source_of(module)).read_text("utf-8")))
    if docstring is None:  # A stub has none.
        docstring = ast.get_docstring(
            ast.parse(source_of(module).with_suffix(".py").read_text("utf-8"))
        )
    parts = [f"# {module}", docstring or ""]
    for name, path in sorted(names_of(module).items(), key=lambda entry: entry[0].lower()):
        public = f"{module}.{name}"
        anchor = "" if public == path else f'<a id="{public}"></a>\n\n'
        options = [f"heading: {public}", f"toc_label: {name}"]
        if public in WITH_INHERITED:
            options.append("inherited_members: true")
        lines = "".join(f"      {option}\n" for option in options)
        parts.append(f"{anchor}::: {path}\n    options:\n{lines}")
    return "\n\n".join(parts)
