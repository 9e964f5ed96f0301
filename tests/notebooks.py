"""Executes notebooks of the documentation and keeps what they show.

    python tests/notebooks.py [NAME ...]

What a notebook was executed with is in its metadata.
"""

import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import nbclient
import nbformat

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def execute(path: Path, environment: dict) -> None:
    """Executes one notebook in an empty folder and writes it back."""
    book = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        begun = datetime.now(UTC)
        nbclient.NotebookClient(
            book,
            timeout=None,
            resources={"metadata": {"path": folder}},
            record_timing=False,
        ).execute()
    seconds = round((datetime.now(UTC) - begun).total_seconds())
    for cell in book.cells:
        # What libraries say of the machine.
        cell["outputs"] = [
            output
            for output in cell.get("outputs", [])
            if output.get("name") != "stderr"
        ]
        if cell.cell_type != "code":
            del cell["outputs"]
    book.metadata["executed"] = {
        "started": begun.isoformat(timespec="seconds"),
        "seconds": seconds,
        "command": f"python tests/notebooks.py {path.stem}",
        "commit": commit(),
        "environment": environment,
    }
    nbformat.write(book, path)
    print(f"{path.stem}: {seconds} s", flush=True)


def commit() -> str:
    git = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    return subprocess.run(git, capture_output=True, text=True).stdout.strip()


def main(names):
    import keras_ae

    environment = keras_ae.runs.environment()
    for path in NOTEBOOKS:
        if not names or path.stem in names:
            execute(path, environment)


if __name__ == "__main__":
    main(sys.argv[1:])
