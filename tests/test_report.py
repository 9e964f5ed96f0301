"""The report and the model card of a run: whole, true to the run, and safe to open."""

import base64
import html.parser
import io
import json
import re
import shutil
import subprocess
from urllib.parse import unquote

import keras
import numpy as np
import pytest
from command import keras_ae_command
from PIL import Image

import keras_ae
from keras_ae import runs
from keras_ae.runs import report

pytestmark = pytest.mark.once


NAME = """<b>"moons" & 'co' | *two*</b>"""
CAPTION = 'Half <i>& half</i>, "so to speak"'
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
VOID = {"meta", "link", "img", "br"}


class Page(html.parser.HTMLParser):
    """Tags, texts and table rows of a page; fails where tags do not match."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.rows, self.text, self.open = [], [], "", []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if self.open and {"td", "th"} & {*self.open}:
            self.rows[-1][-1] += data

    def of(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The directory of a small finished run, whose name and texts are strange."""
    run = runs.Run(
        tmp_path_factory.mktemp("runs") / "one & two",
        NAME,
        description="A <script>alert(1)</script> of a VAE.",
        limit=24,
        seed=3,
        again="keras-ae recipe 'a & b' --resume",
        settings={"command": "keras-ae recipe <x>", "settings": {"a<b": [1, 2]}},
    )
    train, validation, test = run.load("moon-phases", image_size=12)
    model = run.model(lambda: keras_ae.VAE(2, architecture="dense", widths=(8,)))
    run.fit(model, train, validation, epochs=3, batch_size=8, patience=2)
    run.evaluate(model, test)
    run.pictures(model, test, run.labels["test"]["phase"], "phase")
    run.picture("own_&_<i>", keras_ae.plots.sheet(test[:3]), CAPTION)
    run.scores(**{"paper_elbo": -1.5, "published_<u>": 7, "huge": 1234567.5})
    run.finish()
    return run.directory


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of the finished run to change."""
    return shutil.copytree(finished, tmp_path / "run")


def read(directory):
    return (directory / "report.html").read_text(encoding="utf-8")


def card(directory):
    return (directory / "README.md").read_text(encoding="utf-8")


def test_every_picture_is_in_the_page(finished):
    page = Page(read(finished))
    pictures = page.of("img")
    files = [*(finished / "pictures").glob("*.png")]
    assert {"manifold", "own_&_<i>", "loss"} <= {path.stem for path in files}
    shown = []
    for attributes in pictures:
        kind, _, data = attributes["src"].partition(",")
        assert kind == "data:image/png;base64"
        shown.append(base64.b64decode(data, validate=True))
        with Image.open(io.BytesIO(shown[-1])) as image:
            image.load()
            assert image.format == "PNG" and min(image.size) > 0
            shape = int(attributes["width"]) / int(attributes["height"])
            assert shape == pytest.approx(image.width / image.height, rel=0.02)
        assert attributes["alt"]
    assert sorted(shown) == sorted(path.read_bytes() for path in files)
    captions = json.loads((finished / "pictures" / "captions.json").read_text())
    assert all(caption in page.text for caption in captions.values())


def test_the_page_needs_nothing_beside_it(finished):
    text = read(finished)
    page = Page(text)
    assert not page.of("script") and not page.of("iframe")
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "data"):
            address = attributes.get(name, "data:")
            anchor = tag == "a" and address.startswith(("#", "https://"))
            assert anchor or address.startswith("data:")
    style = re.search("<style>(.*?)</style>", text, re.DOTALL)[1]
    assert "url(" not in style and "@import" not in style
    anchors = [a["href"][1:] for a in page.of("a") if a["href"].startswith("#")]
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert anchors == ids and len({*ids}) == len(ids) > 3


def test_the_page_is_a_document_of_its_language_and_name(finished):
    text = read(finished)
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>")
    assert page.of("html") == [{"lang": "en"}]
    title = re.search("<title>(.*?)</title>", text)[1]
    assert html.unescape(title) == NAME


def test_what_is_strange_is_text(finished):
    page = Page(read(finished))
    assert not {"b", "i", "u", "script"} & {tag for tag, _ in page.tags}
    for text in (NAME, CAPTION, "<script>alert(1)</script>", "own & <i>", "a<b"):
        assert text.lower() in page.text.lower()
    # In Markdown, too: no tag and no column of a table is opened.
    written = card(finished)
    assert "<script>" not in written.replace(r"\<script\>", "")
    assert r"# \<b\>" in written and r"\| \*two\*" in written


def test_every_score_is_told_beside_the_published_one(finished):
    scores = json.loads((finished / "scores.json").read_text())
    page = Page(read(finished))
    table = {row[0]: row[1:] for row in page.rows}
    assert table["Score"] == ["Here", "Published", "What it is"]
    for name, value in scores.items():
        if name.startswith(("paper_", "published_")):
            continue
        shown, published, _ = table[name.replace("_", " ")]
        figure = shown.replace(",", "").partition(" ±")[0]
        assert float(figure) == pytest.approx(value, rel=1e-4)
        assert published == ("-1.5" if name == "elbo" else "")
    assert table["<u>"][:2] == ["", "7"]
    assert table["huge"][0] == "1,234,568"
    assert "lower bound on log p(x)" in table["elbo"][2]
    assert "On 24 held-back pictures, with the seed 3" in page.text
    psnr = next(
        score
        for score in keras_ae.scores.load(finished / "evaluation.json").scores
        if score.name == "psnr"
    )
    assert table["psnr"][0].endswith(f" ± {psnr.error:.2g}")
    lines = [line for line in card(finished).splitlines() if line.startswith("| elbo")]
    assert [cell.strip() for cell in lines[0].split("|")[1:4]] == [
        "elbo",
        *table["elbo"][:2],
    ]


def test_what_was_evaluated_later_is_told_with_what_it_depends_on(copied):
    found = keras_ae.scores.load(copied / "evaluation.json")
    about = {**found.scores[0].depends_on, "samples": 5000, "features": "inception"}
    later = keras_ae.scores.Score("precision", "samples", 0.25, 0.0, about)
    found._replace(scores=[*found.scores, later]).save(copied / "evaluation.json")
    report.write(copied, runs.load_model(copied))
    table = {row[0]: row[1:] for row in Page(read(copied)).rows}
    figure, _, meaning = table["precision"]
    assert figure == "0.25"
    assert meaning.startswith("share of samples that lie among pictures")
    assert meaning.endswith("(samples 5,000, features inception)")


def test_what_was_evaluated_on_other_pictures_is_not_called_held_back(copied):
    found = keras_ae.scores.load(copied / "evaluation.json")
    assert "held-back pictures" in Page(read(copied)).text
    about = {**found.scores[0].depends_on, "data": "mine (all pictures)"}
    all_of_them = keras_ae.scores.Score("precision", "samples", 0.25, 0.0, about)
    for scores, told in (
        ([*found.scores, all_of_them], "(data mine (all pictures))"),
        ([all_of_them], "On 24 pictures of mine (all pictures), with"),
    ):
        found._replace(scores=scores).save(copied / "evaluation.json")
        report.write(copied, runs.load_model(copied))
        assert told in Page(read(copied)).text


@pytest.mark.parametrize("window", [None, 8])
def test_a_table_is_told_of_as_rows_or_windows(window, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = np.random.default_rng(0).normal(size=(64, 3))
    np.savetxt("n.csv", table, delimiter=",", header="a,b,c", comments="")
    run = runs.Run("run", settings={"normal": True})
    schema, x = run.load_table("n.csv")
    networks = {"architecture": "sequence"} if window else {"architecture": "dense"}
    if window:
        x = keras_ae.datasets.cut_windows(x, window)
    columns = keras_ae.likelihoods.Columns(schema)
    model = run.model(
        lambda: keras_ae.VAE(2, widths=(8,), likelihood=columns, **networks)
    )
    run.fit(model, x[:32], x[32:], epochs=1, batch_size=16)
    run.evaluate(model, x[32:])
    run.finish()
    noun = "windows" if window else "rows"
    for text in (read(run.directory), card(run.directory)):
        assert f"held-back {noun}" in text
        # The unit of the MSE is told for both.
        assert "pictures" not in text.lower().replace(", pictures in ", "")
    page = read(run.directory)
    assert "keras-ae map" not in page and "keras-ae evaluate" not in page
    assert "keras-ae anomalies score run n.csv --output scores.csv" in page
    names = {}
    exec(report.facts.Facts(run.directory, model).python("run/model.keras"), names)
    np.testing.assert_allclose(names["x"], x, rtol=1e-6)


def test_page_and_card_tell_what_was_trained_on_what(finished):
    page = Page(read(finished))
    table = {row[0]: row[1] for row in page.rows if len(row) == 2}
    assert table["Data"] == "moon-phases"
    assert "24 train, 24 validation, 24 test" in table["Pictures"]
    assert "12 x 12 x 1" in table["Pictures"]
    assert "ELBO" in table["Objective"] and "1312.6114" in table["Paper"]
    assert table["Optimizer"].startswith("Adam, learning rate 0.001")
    assert "batches of 8" in table["Training"] and "val_loss" in table["Training"]
    assert table["Seed"] == "3"
    assert table["Command"] == "keras-ae recipe <x>"
    assert f"keras {keras.__version__}" in table["Packages"]
    assert table["Backend"] == keras.config.backend()
    assert "keras-ae recipe 'a & b' --resume" in page.text
    for text in (table["Data"], table["Pictures"], table["Machine"], table["Packages"]):
        assert text.replace("_", r"\_") in card(finished)


def test_the_best_epoch_is_marked(finished):
    text = read(finished)
    rows = (finished / "history.csv").read_text().splitlines()
    column = rows[0].split(",").index("val_loss")
    losses = [float(row.split(",")[column]) for row in rows[1:]]
    marked = re.findall('<tr class="best"><td class="number">(.*?)<', text)
    assert marked == [str(int(np.argmin(losses)) + 1)]


def test_the_card_has_the_front_matter_of_the_hub(finished):
    head, body = card(finished).removeprefix("---\n").split("\n---\n", 1)
    lines = head.splitlines()
    assert lines[0] == "library_name: keras"
    assert {"- keras-ae", "- autoencoder", "- vae"} <= {*lines}
    assert "pipeline_tag: unconditional-image-generation" in lines
    assert not any(line.startswith("license") for line in lines)
    for title in ("Model and data", "How to load it", "Scores", "Limits"):
        assert f"\n## {title}\n" in body
    links = re.findall(r"\]\((pictures/.*?)\)", body)
    assert len(links) == 7
    assert all((finished / unquote(link)).is_file() for link in links)


def test_what_the_card_says_to_run_runs(copied, monkeypatch):
    monkeypatch.chdir(copied)
    code = re.search("```python\n(.*?)```", card(copied), re.DOTALL)[1]
    assert "load('moon-phases', split='train', image_size=(12, 12))" in code
    found = {}
    exec(code.replace("epochs=10", "epochs=1"), found)
    for name in ("codes", "restored", "pictures"):
        shape = re.search(rf"^{name} = .*?# \((.*?)\)", code, re.MULTILINE)[1]
        assert found[name].shape == tuple(map(int, shape.split(", ")))
    assert repr((copied / "model.keras").as_posix()) not in code


def test_the_command_line_writes_both_anew(copied, tmp_path):
    text, written = read(copied), card(copied)
    for _ in range(2):
        result = keras_ae_command("report", copied)
        assert result.exit_code == 0, result.output
        assert result.stdout.strip() == str(copied / "report.html")
        # The run was moved, and nothing else.
        before, now = (
            re.sub("/[^ ]*/(run|one &amp; two)", "", t) for t in (text, read(copied))
        )
        assert re.sub("'|&#x27;", "", before) == re.sub("'|&#x27;", "", now)
        assert card(copied) == written
        (copied / "report.html").unlink()
    result = keras_ae_command("report", tmp_path)
    assert result.exit_code == 1 and "There is no run in" in result.stderr


def test_a_card_that_the_user_has_made_stays(copied):
    model = runs.load_model(copied)
    own = card(copied).replace(report.OWN_CHANGES, "license: mine")
    (copied / "README.md").write_text(own, encoding="utf-8")
    report.write(copied, model)
    assert card(copied) == own


def test_a_run_of_an_older_version_is_told_as_far_as_it_is_known(copied):
    """Neither captions, nor data set, nor name were kept."""
    (copied / "pictures" / "captions.json").unlink()
    path = copied / "settings.json"
    settings = json.loads(path.read_text())
    for name in ("name", "description", "again", "data", "splits"):
        del settings[name]
    del settings["training"]["seed"]
    path.write_text(json.dumps({**settings, "recipe": "old-run"}))
    (copied / "old_run.py").write_text('"""What it was for."""')
    report.write(copied, runs.load_model(copied))
    page = Page(read(copied))
    assert len(page.of("img")) == len([*(copied / "pictures").glob("*.png")])
    assert "old-run" in page.text and "What it was for." in page.text
    assert "24 trained on; 12 x 12 x 1 each" in page.text


def test_a_model_alone_has_a_report(copied, tmp_path):
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copyfile(copied / "model.keras", alone / "model.keras")
    report.write(alone, runs.load_model(alone))
    page = Page(read(alone))
    assert page.text.count("alone") > 2 and not page.of("img")
    assert "x = ...  # (n, 12, 12, 1)" in card(alone)


def test_players_and_schedules_are_named(tmp_path, images):
    gan = keras_ae.GAN(2, architecture="dense", widths=(4,))
    rate = keras.optimizers.schedules.CosineDecay(0.25, 10)
    gan.compile({"generator": keras.optimizers.SGD(rate), "discriminator": "rmsprop"})
    gan.build((None, *images.shape[1:]))
    before = dict(report.Facts(tmp_path, gan).training)
    assert "Optimizer" not in before  # it has taken no step
    gan.fit(images, epochs=1, batch_size=16, verbose=0)
    after = dict(report.Facts(tmp_path, gan).training)
    assert after["Optimizer"] == (
        "generator SGD, learning rate by CosineDecay from 0.25; "
        "discriminator RMSprop, learning rate 0.001"
    )


@pytest.mark.parametrize(
    "model, expected",
    [
        (lambda: keras_ae.AE(2, architecture="dense", widths=(4,)), {"manifold"}),
        (
            lambda: keras_ae.VAE(
                2,
                architecture="dense",
                widths=(4,),
                prior=keras_ae.distributions.Normal(0.0, 2.0),
            ),
            {"manifold"},
        ),
        (
            lambda: keras_ae.SphericalVAE(2, architecture="dense", widths=(4,)),
            set(),
        ),
        (
            lambda: keras_ae.ResidualVQVAE(
                2, num_codes=4, positions=3, architecture="dense", widths=(4,)
            ),
            {"codebook_usage"},
        ),
    ],
)
def test_pictures_suit_the_codes(tmp_path, images, model, expected):
    run = runs.Run(tmp_path / "run")
    model = model()
    model.fit(images, epochs=1, batch_size=16, verbose=0)
    run.pictures(model, images)
    assert {"manifold", "codebook_usage"} & run.captions.keys() == expected


SCRIPT = """<script>
addEventListener("load", () => {
  const note = document.createElement("p");
  const root = document.documentElement;
  note.id = "note";
  note.textContent = JSON.stringify({
    widths: [...document.images].map(image => image.naturalWidth),
    fetched: performance.getEntriesByType("resource").map(entry => entry.name)
      .filter(name => !name.startsWith("data:")),
    beyond: root.scrollWidth - root.clientWidth,
  });
  document.body.append(note);
});
</script>"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Function that opens a page in a browser without a network or a window."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"no browser found: none of {', '.join(BROWSERS)} is on the PATH")
    profile = tmp_path_factory.mktemp("browser")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    options += ["--enable-logging=stderr", "--host-resolver-rules=MAP * ~NOTFOUND"]

    def look(path, *more):
        return subprocess.run(
            [program, *options, f"--user-data-dir={profile}", *more, path.as_uri()],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )

    return look


def opened(browser, path, text):
    """What a browser makes of a page: its pictures' widths, and its console."""
    path.write_text(text.replace("</body>", f"{SCRIPT}</body>"), encoding="utf-8")
    done = browser(path, "--dump-dom", "--window-size=500,800")
    note = re.search('<p id="note">(.*?)</p>', done.stdout)[1]
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(html.unescape(note)), console


def test_a_browser_shows_every_picture_and_logs_nothing(finished, browser, tmp_path):
    text = read(finished)
    note, console = opened(browser, tmp_path / "page.html", text)
    assert len(note["widths"]) == text.count("<img ")
    assert min(note["widths"]) > 0
    assert note["fetched"] == console == []
    assert note["beyond"] == 0  # on a phone nothing but tables and curves scrolls
    # All this would be seen.
    bad = '<img src="http://test.test/"><script>missing()</script><pre>' + 200 * "wide"
    broken = text.replace("base64,iVBOR", "base64,AAAA", 1)
    broken = broken.replace("</body>", f"{bad}</pre></body>").replace("overflow", "x")
    note, console = opened(browser, tmp_path / "broken.html", broken)
    assert note["widths"].count(0) == 2
    assert note["fetched"] == ["http://test.test/"]
    assert note["beyond"] > 0
    assert len(console) == 1 and "missing is not defined" in console[0]


@pytest.mark.parametrize("scheme, ground", [(1, 255), (0, 24)])
def test_a_screenshot_shows_the_page_light_and_dark(
    finished, browser, tmp_path, scheme, ground
):
    path = tmp_path / "page.png"
    browser(
        finished / "report.html",
        f"--screenshot={path}",
        "--window-size=1000,1400",
        f"--blink-settings=preferredColorScheme={scheme}",
    )
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(pixels[2, 2] - ground).max() < 4
    # Text, cards, lines and pictures.
    written = np.abs(pixels - pixels[2, 2]).max(axis=-1) > 60
    assert 0.02 < written.mean() < 0.6
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50
