"""The page to explore a model: directions, what a model can do, and a real browser."""

import shutil
import socket
import warnings

import keras
import numpy as np
import pytest

import keras_ae
from keras_ae import explorer, plots
from keras_ae.explorer.view import View

# Gradio leaves event loops to the garbage collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)

SHAPE = (16, 12, 3)
SETTINGS = {"image_shape": SHAPE, "architecture": "dense", "widths": (24,)}


def pictures(count=60):
    rng = np.random.default_rng(1)
    return rng.uniform(0, 1, (count, *SHAPE)).astype("float32")


def labels(count=60):
    rng = np.random.default_rng(2)
    return {
        "path": np.array([f"{index}.png" for index in range(count)]),
        "Smiling": rng.integers(0, 2, count),
        "kind": rng.integers(0, 3, count),
        "size": rng.uniform(0, 1, count),
        "Rare": (np.arange(count) < 3).astype(int),
    }


@pytest.fixture(scope="module")
def view():
    """Of an untrained VAE of ten numbers a code, with pictures and labels."""
    model = keras_ae.VAE(10, **SETTINGS)
    return explorer.View(model, pictures(), labels(), data="noise")


# Directions


@pytest.mark.once
def test_directions_are_those_of_principal_component_analysis():
    codes = np.random.default_rng(0).normal(3, [5, 0.1, 2, 1], (200, 4))
    codes = codes @ np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))[0]
    found = explorer.principal_directions(codes, most=3)
    reference = pytest.importorskip("sklearn.decomposition").PCA(3).fit(codes)
    cosines = np.sum(found.vectors * reference.components_, axis=1)
    np.testing.assert_allclose(np.abs(cosines), 1, rtol=1e-9)
    np.testing.assert_allclose(found.mean, codes.mean(axis=0))
    np.testing.assert_allclose(found.shares, reference.explained_variance_ratio_)
    positions = found.positions(codes)
    np.testing.assert_allclose(positions.std(axis=0), 1)
    np.testing.assert_allclose(
        positions * found.deviations * np.sign(cosines), reference.transform(codes)
    )
    assert (np.diff(found.deviations) < 0).all()


@pytest.mark.once
def test_only_directions_in_which_codes_vary():
    codes = np.zeros((50, 6))
    codes[:, 2] = np.arange(50)
    codes[:, 4] = np.arange(50) % 7
    assert len(explorer.principal_directions(codes)) == 2
    with pytest.raises(ValueError, match="`codes` must differ"):
        explorer.principal_directions(np.ones((5, 3)))
    with pytest.raises(ValueError, match="`codes` must be finite"):
        explorer.principal_directions(np.full((5, 3), np.nan))
    with pytest.raises(ValueError, match="`codes` must be two or more"):
        explorer.principal_directions(np.ones((1, 3)))


@pytest.mark.once
def test_sliders_and_the_rest_are_the_code():
    codes = np.random.default_rng(0).normal(size=(100, 12))
    known = explorer.principal_directions(codes)
    far = 9 * known.vectors[0] + known.mean
    for code in (*codes[:5], far):
        positions, rest = known.split(code)
        assert np.abs(positions).max() <= 3
        np.testing.assert_array_equal(positions, positions.round(2))
        np.testing.assert_allclose(known.codes(positions[None])[0] + rest, code)


# What is seen


def test_sliders_at_zero_give_the_picture_of_the_mean_code(view):
    mean = view.model.encode(pictures()).mean(axis=0)
    expected = view.model.decode(mean[None])[0]
    found = view.picture(view.code(np.zeros(8)))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_drawn_code_gives_its_own_picture(view):
    positions, rest = view.draw(3)
    found = view.picture(view.code(positions, rest))
    all_of_them = view.model.decode(view.codes)
    assert np.abs(all_of_them - found).max(axis=(1, 2, 3)).min() < 1e-5
    np.testing.assert_array_equal(positions, view.draw(3)[0])


def test_a_click_on_the_map_sets_the_sliders(view):
    latent_map = explorer.LatentMap(view)
    place = latent_map.place([1.23, -0.51])
    positions = latent_map.positions(*place)
    np.testing.assert_allclose(positions, [1.23, -0.51], atol=1e-6)
    moved = view.moved(np.zeros(8), *positions)
    np.testing.assert_array_equal(moved[:2], [1.23, -0.51])
    known = view.known_directions
    code = known.mean + (moved[:2] * known.deviations[:2]) @ known.vectors[:2]
    expected = view.model.decode(code[None])[0]
    np.testing.assert_allclose(view.picture(view.code(moved)), expected, atol=1e-5)
    # Right is more of the first, up is more of the second.
    assert latent_map.place([2, 0])[0] > latent_map.place([1, 0])[0]
    assert latent_map.place([0, 2])[1] < latent_map.place([0, 1])[1]
    assert np.abs(latent_map.positions(0, 0)).max() <= 3


def test_attributes_are_the_model_s_own_vectors(view):
    named = {"Smiling", "kind 0", "kind 1", "kind 2", "high size"}
    assert view.attributes.keys() == named
    x, smiling = pictures(), labels()["Smiling"]
    vector = view.model.attribute_vector(x, smiling)
    np.testing.assert_allclose(view.attributes["Smiling"], vector, atol=1e-5)
    code = view.code(np.zeros(8))
    found = view.picture(code, attribute="Smiling", strength=2)
    expected = view.model.decode((code + 2 * vector)[None])[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    with pytest.raises(ValueError, match="`attribute` must be one of"):
        view.picture(code, attribute="Rare")


def test_labels_that_are_not_known_are_on_no_side(view):
    x = pictures()
    size = np.arange(len(x), dtype="float64")
    size[-12:] = np.nan
    words = [None, *(f"word {index % 2}" for index in range(len(x) - 1))]
    found = View(view.model, x, {"size": size, "word": words})
    low, high = size < np.nanmedian(size), size > np.nanmedian(size)
    low |= size == np.nanmedian(size)
    codes = view.model.encode(x).astype("float64")
    expected = codes[high].mean(axis=0) - codes[low].mean(axis=0)
    np.testing.assert_allclose(found.attributes["high size"], expected, atol=1e-5)
    assert found.attributes.keys() == {"high size", "word word 0", "word word 1"}
    with pytest.raises(ValueError, match="`labels` must have a value for each picture"):
        View(view.model, x, {"size": size[1:]})
    # One value and gaps tell nothing of a place.
    gaps = np.where(np.arange(len(x)) % 3, 5.0, np.nan)
    found = View(view.model, x, {"gaps": gaps, "half": codes[:, 0] > 0})
    assert explorer.LatentMap(found).coloured_by == "half"


def test_pictures_and_labels_come_in_what_holds_them(view):
    frames = pytest.importorskip("pandas")
    x = pictures()
    tensor = keras.ops.convert_to_tensor(x)
    kinds = frames.DataFrame({"half": np.arange(len(x)) % 2})
    found = View(view.model, tensor, kinds)
    np.testing.assert_array_equal(found.example(1), x[1])
    assert explorer.LatentMap(found).image.width and found.attributes.keys() == {"half"}
    with pytest.raises(ValueError, match="`labels` must be a dict .* Received: a nda"):
        View(view.model, x, np.arange(len(x)))


def test_samplers_leave_the_model_as_it_is(view):
    assert view.samplers == ("prior", "normal", "gaussian", "mixture")
    model = view.model
    before = model.fitted_samplers, model.choose_sampler()
    np.testing.assert_array_equal(
        view.sample("prior", 3, 5), model.sample(3, seed=5, sampler="prior")
    )
    drawn = view.sample("normal", 3, 5)
    assert drawn.shape == (3, *SHAPE)
    np.testing.assert_array_equal(drawn, view.sample("normal", 3, 5))
    assert (model.fitted_samplers, model.choose_sampler()) == before
    with pytest.raises(ValueError, match="`sampler` must be one of"):
        view.sample("flow", 3, 5)


def test_the_way_and_the_refinement_are_the_verbs(view):
    x = pictures()
    way = view.way(x[0], x[1])
    np.testing.assert_allclose(way[[0, -1]], view.model.reconstruct(x[:2]), atol=1e-5)
    found = view.refine(x[0], 5)
    expected = view.model.refine(x[:1], steps=5)
    assert found.before == pytest.approx(expected.before[0], rel=1e-4)
    assert found.after == pytest.approx(expected.after[0], rel=1e-4)
    np.testing.assert_allclose(found.guess, view.model.reconstruct(x[:1])[0], atol=1e-5)


# What a model can do


def can(view):
    found = {"directions"} if view.directions is not None else set()
    found |= {"way"} if view.interpolates else set()
    found |= {"refine"} if view.refines else set()
    found |= {"attributes"} if view.attributes else set()
    return found | ({"samplers"} if view.samplers else set())


def test_each_model_gets_what_it_can(view):
    everything = {"directions", "way", "refine", "attributes", "samplers"}
    assert can(view) == everything
    assert view.source == "60 pictures of noise"
    alone = explorer.View(keras_ae.VAE(4, **SETTINGS))
    assert can(alone) == everything - {"attributes"}
    assert "samples that were drawn from the model" in alone.source
    autoencoder = explorer.View(keras_ae.AE(4, **SETTINGS), pictures())
    assert can(autoencoder) == everything - {"attributes"}
    assert "prior" not in autoencoder.samplers
    assert can(explorer.View(keras_ae.AE(4, **SETTINGS))) == {"way", "refine"}
    gan = explorer.View(keras_ae.GAN(4, **SETTINGS), pictures(), labels())
    assert can(gan) == {"directions", "samplers"}
    assert gan.samplers == ("prior",)
    assert gan.source == "500 draws from the prior"


def test_a_model_with_classes_is_told_one():
    model = keras_ae.ConditionalVAE(4, num_classes=3, **SETTINGS)
    view = explorer.View(model, pictures(), labels())
    assert view.classes == 3
    assert can(view) == {"directions", "way", "attributes", "samplers"}
    # Its classes are no attributes.
    assert view.attributes.keys() == {"Smiling", "high size"}
    code = view.code(np.zeros(len(view.known_directions)))
    told = np.concatenate([code, [0, 0, 1]])[None]
    np.testing.assert_allclose(view.picture(code, 2), model.decode(told)[0], atol=1e-5)
    assert view.sample("normal", 3, 0).shape == (3, *SHAPE)
    with pytest.raises(ValueError, match="`label` must be from 0 to 2"):
        view.picture(code, 3)


@pytest.mark.once
def test_a_model_that_owns_codes_shows_them():
    model = keras_ae.AutoDecoder(3, **SETTINGS)
    model.fit(pictures(), epochs=1, verbose=0)
    view = explorer.View(model)
    assert can(view) == {"directions", "samplers"}
    assert view.source == "60 of the examples it was trained on"
    assert view.sample("normal", 2, 0).shape == (2, *SHAPE)


@pytest.mark.once
def test_without_anything_to_explore_there_is_one_sentence():
    model = keras_ae.VQVAE(**SETTINGS)
    with pytest.raises(ValueError, match="There is nothing to explore of this VQVAE"):
        explorer.View(model, pictures())
    table = keras_ae.VAE(2, image_shape=(7,))
    with pytest.raises(ValueError, match="`model` must describe pictures"):
        explorer.View(table)
    denoiser = keras_ae.DenoisingAE(image_shape=(16, 16, 1))
    with pytest.raises(ValueError, match="There is nothing to explore"):
        explorer.View(denoiser)


# The page


@pytest.fixture
def gradio():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("gradio")


def controls(page):
    kinds = {}
    for block in page.blocks.values():
        label = getattr(block, "label", None)
        if label and getattr(block, "visible", True):
            kinds.setdefault(type(block).__name__, []).append(label)
    return kinds


@pytest.mark.once
def test_the_page_has_the_controls_of_the_model(gradio, view):
    from keras_ae.explorer.page import blocks

    found = controls(blocks(view, "noise"))
    tabs = ["Codes", "From one to another", "Samplers", "Guess and refine"]
    assert found["Tab"] == tabs
    assert len([name for name in found["Slider"] if "Direction" in name]) == 8
    assert found["Dropdown"] == ["Attribute to add"]
    assert "Radio" in found and "Class" not in found["Radio"]
    assert found["Image"] == ["From", "To", "Picture"]
    gan = explorer.View(keras_ae.GAN(4, **SETTINGS))
    found = controls(blocks(gan, "gan"))
    assert found["Tab"] == ["Codes", "Samples"]
    assert "Image" not in found and "Dropdown" not in found
    conditional = explorer.View(keras_ae.ConditionalVAE(4, num_classes=3, **SETTINGS))
    found = controls(blocks(conditional, "classes"))
    assert found["Radio"] == ["Class"]


@pytest.mark.once
def test_what_is_seen_can_be_saved(gradio, view, tmp_path):
    import base64
    import io

    from PIL import Image

    from keras_ae.explorer import page

    value = page._value(pictures(1), "The mean code")
    assert value["file"] == "the-mean-code.png"
    head, _, data = value["src"].partition(",")
    assert head == "data:image/png;base64"
    shown = Image.open(io.BytesIO(base64.b64decode(data)))
    assert np.array_equal(shown, plots.sheet(pictures(1)).convert("RGB"))
    # What stands there from the beginning is read as the picture that it is.
    plots.picture(pictures(1)[0]).save(tmp_path / "a.png")
    read = page._read(view, str(tmp_path / "a.png"), "The picture")
    np.testing.assert_allclose(read / 255, pictures(1)[0], atol=0.01)
    (tmp_path / "b.png").write_bytes(b"no picture")
    with pytest.raises(gradio.Error, match="can't be read"):
        page._read(view, str(tmp_path / "b.png"), "The picture")
    with pytest.raises(gradio.Error, match="is missing"):
        page._read(view, None, "The picture")


@pytest.mark.once
def test_addresses_are_looked_at_first(gradio):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"`port` must be free.*port={port}"):
            explorer.check_address(port=port)
    with pytest.raises(OSError, match="`host` must be an address of this machine"):
        explorer.check_address("192.0.2.1")
    with pytest.raises(ValueError, match="`port` must be from 1 to 65535"):
        explorer.check_address(port=0)
    assert explorer.check_address() >= 7860


@pytest.mark.once
def test_gradio_is_asked_for_in_one_sentence(monkeypatch, invoke):
    monkeypatch.setitem(__import__("sys").modules, "gradio", None)
    result = invoke("explore", "moon-vae")
    assert result.exit_code == 1
    assert 'pip install "keras-ae[explore]"' in result.output
    assert "Traceback" not in result.output


@pytest.mark.once
def test_the_command_explores_what_the_model_was_trained_on(
    gradio, monkeypatch, invoke
):
    seen = {}

    class Page:
        local_url = "http://127.0.0.1:1/"

        def block_thread(self):
            raise KeyboardInterrupt

        def close(self, verbose):
            seen["closed"] = True

    def explore(model, x, labels, **options):
        seen.update(options, count=len(x), labels=labels)
        return Page()

    monkeypatch.setattr(explorer, "explore", explore)
    result = invoke("explore", "moon-vae", "--limit", 20)
    assert "http://127.0.0.1:1/ (Ctrl-C ends it)" in result.output
    assert seen["count"] == 20 and seen["data"] == "moon-phases" and seen["closed"]
    assert seen["name"] == "moon-vae" and "phase" in seen["labels"]
    assert seen["host"] == "127.0.0.1"
    result = invoke("explore", "nowhere")
    assert result.exit_code == 1 and "no model file" in result.output
    result = invoke("explore", "moon-vae", "--data", "nowhere")
    assert result.exit_code == 1 and "Traceback" not in result.output


@pytest.mark.once
@pytest.mark.parametrize(
    ("text", "said"),
    [("{damaged", "is damaged"), ('{"data": "moon-phases", "options": null}', None)],
)
def test_a_model_is_explored_though_its_settings_are_damaged(
    gradio, monkeypatch, invoke, tmp_path, text, said
):
    seen = []

    def explore(model, x, labels, **options):
        seen.append(x)
        raise ValueError("seen")

    monkeypatch.setattr(explorer, "explore", explore)
    run = tmp_path / "run"
    run.mkdir()
    shape = (8, 8, 1)
    keras_ae.VAE(2, image_shape=shape, architecture="dense", widths=(4,)).save(
        run / "model.keras"
    )
    (run / "settings.json").write_text(text)
    for given in ((), ("--data", "moon-phases")):
        result = invoke("explore", run, "--limit", 20, *given)
        assert result.stderr.splitlines()[-1].endswith("seen"), result.output
        assert said is None or result.stderr.count(f"settings.json {said}") == 1
    assert (seen[0] is None) is (said is not None) and len(seen[1]) == 20


# A real browser

MOVES = """
for (const slider of document.querySelectorAll('input[type=range]')) {
  slider.value = Number(slider.max) / 2;
  slider.dispatchEvent(new Event('input', {bubbles: true}));
}
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_every_control_moves_in_a_browser(gradio, view, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api")
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium found")
    from PIL import Image

    Image.new("RGB", (90, 60), "red").save(tmp_path / "red.jpg")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    served = keras_ae.explore(view.model, pictures(), labels(), name="noise")
    try:
        with playwright.sync_playwright() as p:
            chromium = p.chromium.launch(executable_path=browser, args=["--no-sandbox"])
            _move_everything(chromium.new_page(), served.local_url, tmp_path)
            chromium.close()
    finally:
        served.close(verbose=False)


def _move_everything(page, address, folder):
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    picture = page.locator("figure.shown img").first
    picture.wait_for()

    def changed(before):
        page.wait_for_function(
            "before => document.querySelector('figure.shown img').src != before",
            arg=before,
        )
        return picture.get_attribute("src")

    mean = picture.get_attribute("src")
    page.get_by_role("button", name="Another one").click()
    drawn = changed(mean)
    page.evaluate(MOVES)
    moved = changed(drawn)
    page.get_by_role("button", name="To the mean").click()
    changed(moved)
    page.wait_for_function(
        "mean => document.querySelector('figure.shown img').src == mean", arg=mean
    )
    page.locator("figure.map").click(position={"x": 150, "y": 120})
    clicked = changed(mean)
    first = page.get_by_label("number input for Direction 1", exact=False).first
    assert float(first.input_value()) != 0
    page.get_by_label("Attribute to add").click()
    page.get_by_role("option", name="Smiling").click()
    smiling = changed(clicked)
    page.get_by_label("number input for How much of it").fill("2")
    changed(smiling)
    with page.expect_download() as download:
        page.locator("figure.shown a").first.click()
    assert download.value.suggested_filename.endswith(".png")

    page.get_by_role("tab", name="From one to another").click()
    whole = page.locator(".whole figure.shown img")
    whole.wait_for()
    between = whole.get_attribute("src")

    def upload(name):
        page.get_by_label("Remove Image").first.click()
        page.locator(".whole figure.shown.empty").wait_for()
        field = page.locator(".upload input[type=file]").first
        field.set_input_files(folder / name)

    upload("red.jpg")
    whole.wait_for()
    assert whole.get_attribute("src") != between
    upload("broken.png")
    page.get_by_text("The first picture can't be read").wait_for()
    page.get_by_label("number input for Place between them").fill("0.2")
    page.get_by_role("tab", name="Samplers").click()
    page.wait_for_function(
        "() => document.querySelectorAll('figure.shown img').length >= 5"
    )
    page.get_by_role("button", name="Draw again").click()
    page.get_by_role("tab", name="Guess and refine").click()
    page.get_by_text("After 100 steps").wait_for()
    page.get_by_label("25", exact=True).click()
    page.get_by_role("button", name="Refine").click()
    page.get_by_text("After 25 steps").wait_for()
    # Gradio's own, of the progress of an upload.
    assert {*said} <= {"Method not implemented."}
    own = ("http://127.0.0.1", "data:", "blob:")
    assert [url for url in asked if not url.startswith(own)] == []
