"""Runs notebooks from the first cell to the last and keeps what they print and draw.

    python notebooks/run.py                                     # all; an hour on two cores
    python notebooks/run.py notebooks/05_half_in_a_minute.ipynb

The site shows notebooks as they are committed, so run one again after its code has changed; a test
finds those that were not. A notebook is only written when all of its cells ran.
"""

import argparse
import hashlib
import re
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from tfprune.files import atomic_write

HERE = Path(__file__).parent


def fingerprint(notebook):
    """What changes with the code of a notebook, but not with its layout."""
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    return hashlib.sha256("".join(code.split()).encode()).hexdigest()[:16]


def cleaned(outputs):
    """What a reader sees at the end: no warnings of this machine, no steps of a progress line."""
    kept = []
    for out in outputs:
        if out.get("name") == "stderr":
            continue
        if out.output_type == "stream" and kept and kept[-1].output_type == "stream":
            kept[-1].text += out.text
        else:
            kept.append(out)
    for out in kept:
        if out.output_type == "stream":
            # A line that was written over; TensorFlow's logger writes to what a cell prints.
            out.text = re.sub(
                r"[^\n]*\r(?!\n)|^(?:INFO|WARNING):tensorflow:.*\n", "", out.text, flags=re.M
            )
    return [out for out in kept if out.get("text", True)]


def run(path):
    """Runs one notebook and writes it with its outputs."""
    notebook = nbformat.read(path, as_version=4)
    count = sum(cell.cell_type == "code" for cell in notebook.cells)
    begun = []

    def tell(cell, cell_index):
        if cell.cell_type == "code":
            begun.append(cell_index)
            print(f"{path.name}: cell {len(begun)} of {count}", flush=True)

    started = time.perf_counter()
    NotebookClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        record_timing=False,  # Every run would change every cell.
        on_cell_start=tell,
    ).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = cleaned(cell.outputs)
    # Versions of the kernel differ from machine to machine.
    notebook.metadata = {
        "kernelspec": notebook.metadata["kernelspec"],
        "language_info": {"name": "python"},
        "tfprune": {"run_from": fingerprint(notebook)},
    }
    with atomic_write(path) as temporary:
        nbformat.write(notebook, temporary)
    print(f"{path.name}: {(time.perf_counter() - started) / 60:.1f} minutes", flush=True)


def main():
    """Runs the notebooks that are named, or all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("notebooks", nargs="*", type=Path, default=sorted(HERE.glob("*.ipynb")))
    for path in parser.parse_args().notebooks:
        if not path.is_file():
            sys.exit(f"There is no notebook {path}.")
        run(path)


if __name__ == "__main__":
    main()
