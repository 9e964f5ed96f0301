"""What an earlier version wrote is read by this one, and means the same."""

import operator
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from contract import BACKEND, ELSEWHERE, OBJECTIVES, few_everywhere, owns_codes
from numerics import to_numpy
from written import SHAPE, given, pictures

import keras_ae
from keras_ae import models, runs

FOLDER = Path(__file__).parent / "written"
NAMES = sorted(path.stem for path in FOLDER.glob("*.keras"))
# As in the contract: other backends have every other model.
FEW = {*NAMES} - OBJECTIVES - {*ELSEWHERE.get(BACKEND, ())}


def test_every_model_has_been_written():
    assert {*models.__all__} <= {*NAMES}, "python tests/written.py writes it"


@pytest.mark.parametrize("name", few_everywhere(NAMES, FEW))
def test_models_load_and_give_what_they_gave(name):
    model = keras.saving.load_model(FOLDER / f"{name}.keras")
    assert type(model) is getattr(keras_ae, name)
    with np.load(FOLDER / f"{name}.npz") as file:
        expected = dict(file)
    found = given(model, pictures())
    assert found.keys() == expected.keys()
    for key, value in found.items():
        np.testing.assert_allclose(
            value, expected[key], rtol=1e-3, atol=1e-4, err_msg=key
        )
    if name != "PCA":
        learners = getattr(model.optimizer, "by_player", {"": model.optimizer})
        moved = [
            np.abs(to_numpy(v)).sum() for o in learners.values() for v in o.variables
        ]
        assert sum(moved) > 0
    for sampler in model.fitted_samplers:
        if not owns_codes(type(model)):
            assert model.sample(2, seed=0, sampler=sampler).shape == (2, *SHAPE)


@pytest.mark.once
def test_a_run_is_read_and_goes_on(tmp_path):
    shutil.copytree(FOLDER / "run", tmp_path / "run")
    run = runs.Run(tmp_path / "run", resume=True, seed=1)
    x = np.uint8(255 * pictures())
    model = run.model(lambda: keras_ae.VAE(2, architecture="dense", widths=(4,)))
    assert len(run.history) == 2
    run.fit(model, x[:12], x[12:], epochs=3, batch_size=4)
    assert len(run.history) == 3
    run.finish()
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.once
def test_public_names_stay():
    for name in (FOLDER / "names.txt").read_text().split():
        operator.attrgetter(name)(keras_ae)
