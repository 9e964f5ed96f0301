"""Random arguments: each is right, or refused in a sentence; nothing is lost or hangs.

`KERAS_AE_TRIES=1000 pytest tests/test_fuzz.py` tries more of them, each time others.
"""

import inspect
import itertools
import os
import re
import shutil

import keras
import numpy as np
import pytest
from command import keras_ae_command
from PIL import Image

import keras_ae
from keras_ae import cli, models

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies

pytestmark = pytest.mark.once

TRIES = int(os.environ.get("KERAS_AE_TRIES", 0))


def tries(usual):
    return hypothesis.settings(
        max_examples=TRIES or usual,
        derandomize=not TRIES,
        database=None,
        deadline=None,
        suppress_health_check=[*hypothesis.HealthCheck],
    )


NUMBERS = st.one_of(
    st.integers(-2, 5),
    st.sampled_from([2**31, 10**19, -(10**19)]),
    st.floats(-2, 2),
    st.sampled_from([float("nan"), float("inf"), 1e300]),
)
NAMES = st.sampled_from(
    ["", "auto", "dense", "conv", "linear", "relu", "normal", "gaussian", "bernoulli"]
    + ["laplace", "wasserstein", "l2", "rbf", "masking", "means", "learned", "x", "é"]
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, NAMES),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(NAMES, inner, max_size=1),
    ),
    max_leaves=3,
)


@tries(150)
@hypothesis.given(data=st.data())
def test_constructors_take_an_argument_or_refuse_it(data):
    name = data.draw(st.sampled_from(models.__all__))
    Model = getattr(models, name)
    known = [
        parameter.name
        for parameter in inspect.signature(Model).parameters.values()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and parameter.name not in ("image_shape", "name", "dtype", "trainable")
    ]
    chosen = data.draw(st.lists(st.sampled_from(known), max_size=2, unique=True))
    arguments = {argument: data.draw(VALUES) for argument in chosen}
    shape = data.draw(st.sampled_from([(5,), (4, 3), (6, 5, 1)]))
    hypothesis.note(f"{name} {arguments} {shape}")
    try:
        model = Model(image_shape=shape, **arguments)
    except ValueError as error:
        # Keras' own sentences begin like that.
        said = "Received|`.+`|Could not interpret"
        assert re.search(said, str(error)), error
        return
    except TypeError as error:
        assert "argument" in str(error), error
        return
    assert model.get_config()


@pytest.fixture(scope="module")
def things(tmp_path_factory):
    """A folder of pictures, a model, a run and files that are none of these."""
    folder = tmp_path_factory.mktemp("things")
    rng = np.random.default_rng(0)
    (folder / "photos").mkdir()
    for index in range(12):
        pixels = rng.integers(0, 256, (9 + index % 3, 8, 3)).astype("uint8")
        Image.fromarray(pixels).save(folder / "photos" / f"{index:02d}.png")
    keras.utils.set_random_seed(0)
    model = keras_ae.VAE(2, image_shape=(9, 8, 3), architecture="dense", widths=(4,))
    model.save(folder / "model.keras")
    (folder / "text.txt").write_text("no picture")
    (folder / "empty").mkdir()
    (folder / "empty.png").touch()
    return folder


PATHS = st.sampled_from(
    ["photos", "photos/00.png", "model.keras", "text.txt", "empty", "empty.png"]
    + ["missing", "new/out", "new/out.png", "out.png", "out.csv", ".", "-", "a\nb"]
)
# Commands that would work, each of which is spoilt; none of them trains long.
COMMANDS = {
    "reconstruct": ("model.keras", "photos", "--output", "new/out"),
    "sample": ("model.keras", "-n", "4", "--output", "new.png"),
    "interpolate": ("model.keras", "photos", "photos/01.png", "--output", "new.png"),
    "embed": ("model.keras", "photos", "--output", "new.csv"),
    "map": ("model.keras", "photos", "--output", "new.png"),
    "evaluate": ("model.keras", "photos", "--scores", "reconstruction"),
    "compress": ("model.keras", "photos", "--output", "new.kae"),
    "decompress": ("model.keras", "photos/00.png", "--output", "new/out"),
    "denoise": ("model.keras", "photos", "--output", "new/out"),
    "report": ("photos",),
    "compare": ("photos", "empty"),
}


def snapshot(folder):
    return {
        path: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "new" not in path.parts
    }


@pytest.mark.slow
@tries(60)
@hypothesis.given(data=st.data())
def test_commands_do_it_or_say_why_not(data, things, tmp_path_factory):
    folder = tmp_path_factory.mktemp("try")
    shutil.copytree(things, folder, dirs_exist_ok=True)
    command = data.draw(st.sampled_from([*COMMANDS]))
    arguments = [*COMMANDS[command]]
    for _ in range(data.draw(st.integers(0, 2))):
        place = data.draw(st.integers(0, len(arguments) - 1))
        arguments[place] = data.draw(PATHS)
    options = [
        option
        for option in cli.main.commands[command].params
        if option.param_type_name == "option" and option.name != "backend"
    ]
    chosen = st.lists(st.sampled_from(options), max_size=3) if options else st.just([])
    for option in data.draw(chosen):
        arguments.append(option.opts[0])
        if not option.is_flag:
            value = st.one_of(PATHS, NUMBERS.map(str), NAMES)
            arguments.append(data.draw(value))
    hypothesis.note(f"{command} {arguments}")
    before, here = snapshot(folder), os.getcwd()
    os.chdir(folder)
    try:
        result = keras_ae_command(command, *arguments)
    finally:
        os.chdir(here)
    assert result.exit_code in (0, 1, 2), result.output
    assert isinstance(result.exception, SystemExit | None), result.exception
    assert "Traceback" not in result.output
    if result.exit_code:
        assert "Error: " in result.stderr
    after = snapshot(folder)
    # What `--output` names may be written over, unless it is read; the last one counts.
    pairs = [*itertools.pairwise(["", *arguments])]
    read = [folder / value for name, value in pairs if name != "--output"]
    named = dict(pairs)
    written = folder / named.get("--output", "")
    if not any(written == path or path in written.parents for path in read):
        before.pop(written, None)
    assert before == {path: after.get(path) for path in before}
