"""Makes presets of finished runs: models that come with the package.

    python benchmarks/presets.py runs/moon-vae [RUN ...]

writes each run's best model to `keras_ae/presets/NAME`, named after its recipe, in half
precision, with the run's card, its scores, versions and machine, and the terms of the
data that it learned from.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from keras_ae import catalogue, runs

# Terms of what the models have seen.
LICENCES = {
    "moon-phases": "rendered by keras-ae; free of rights",
    "mnist": "MNIST, CC BY-SA 3.0 (LeCun and Cortes)",
    "fashion-mnist": "Fashion-MNIST, MIT (Zalando SE)",
    "celeba": "CelebA, for research that is not commercial (Liu et al., 2015)",
}


def make(run: Path, folder: Path) -> None:
    """Writes the preset of a run to a folder, in place of what is there."""
    settings = json.loads((run / "settings.json").read_text("utf-8"))
    command = settings.get("first_command", settings["command"])
    model = runs.load_model(run)
    shutil.rmtree(folder, ignore_errors=True)
    model.save_to_preset(
        folder,
        data=settings["data"],
        licence=LICENCES[settings["data"]],
        description=settings["description"],
        command=without_paths(command),
        started=settings["started"],
        environment=settings["environment"],
        scores=json.loads((run / "scores.json").read_text("utf-8")),
    )
    card = (run / "README.md").read_text("utf-8")
    for name in ("command", "first_command"):
        text = settings.get(name, command)
        card = card.replace(text, without_paths(text))
    card = re.sub(r"\| data dir \|.*\n", "", card)
    # The pictures stay where they are.
    card = re.sub(r"!\[[^\]]*\]\(pictures/[^)]*\)\n+", "", card)
    card = card.replace(
        "model = keras.saving.load_model('model.keras')",
        f'model = keras_ae.from_preset("{folder.name}")',
    )
    (folder / "README.md").write_text(card, "utf-8")
    # The code in the card, as all code here.
    subprocess.run(["ruff", "format", "-q", folder], check=True)


def without_paths(command: str) -> str:
    """A command without the folders of the machine that it was given on."""
    words = command.split()
    hidden = {"--run-dir", "--data-dir"}
    return " ".join(
        word
        for word, before in zip(words, ["", *words], strict=False)
        if word not in (*hidden, "--resume") and before not in hidden
    )


def main(paths):
    for path in map(Path, paths):
        name = json.loads((path / "settings.json").read_text("utf-8"))["recipe"]
        make(path, catalogue.PRESETS / name)
        print(f"{name}: {catalogue.presets()[name]}")


if __name__ == "__main__":
    main(sys.argv[1:])
