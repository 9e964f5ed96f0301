"""Pictures: what is where, and in which colour."""

import io
import subprocess
import sys

import keras
import numpy as np
import pytest
from PIL import Image

from keras_ae import plots

pytestmark = pytest.mark.once


RNG = np.random.default_rng(0)


def pixels(image):
    return np.asarray(image)


def test_sheet_lays_out_row_by_row_and_leaves_gaps_transparent():
    values = np.array([0, 50, 100, 150, 200], "uint8")
    images = np.broadcast_to(values[:, None, None, None], (5, 300, 300, 1))
    grid = pixels(plots.sheet(images, columns=2, gap=4))
    assert grid.shape == (3 * 300 + 8, 2 * 300 + 4, 4)
    for index, value in enumerate(values):
        top, left = index // 2 * 304, index % 2 * 304
        cell = grid[top : top + 300, left : left + 300]
        assert (cell == [value, value, value, 255]).all()
    assert (grid[300:304, :, 3] == 0).all()  # between rows
    assert (grid[608:, 304:, 3] == 0).all()  # the cell that is left over


def test_sheet_clips_floats_and_shows_nan_as_black():
    images = np.array([-1.0, 0.5, 2.0, np.nan]).reshape(4, 1, 1, 1)
    grid = pixels(plots.sheet(images, columns=4, gap=0))
    assert [grid[0, x, 0] for x in range(0, grid.shape[1], grid.shape[0])] == [
        0,
        128,
        255,
        0,
    ]


def test_sheet_reads_integers_of_any_width_as_0_to_255():
    images = RNG.integers(0, 256, (4, 5, 6, 3)).astype("uint8")
    for dtype in ("int64", "uint16"):
        wide = plots.sheet(images.astype(dtype))
        assert (pixels(wide) == pixels(plots.sheet(images))).all()


def test_sheet_enlarges_small_pictures_by_whole_pixels():
    images = RNG.integers(0, 256, (1, 10, 12, 3)).astype("uint8")
    grid = pixels(plots.sheet(images))
    assert grid.shape == (80, 96, 4)
    assert (grid[::8, ::8, :3] == images[0]).all()
    assert (grid[7::8, 7::8, :3] == images[0]).all()


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_sheet_takes_any_number_of_channels(channels):
    images = RNG.random((3, 5, 6, channels))
    assert plots.sheet(images).mode == "RGBA"


@pytest.mark.parametrize("shape", [(0, 4, 4, 1), (4,), (2, 2, 2, 2, 2)])
def test_sheet_refuses_what_is_no_batch_of_pictures(shape):
    with pytest.raises(ValueError, match="at least one picture"):
        plots.sheet(np.zeros(shape))


@pytest.mark.parametrize(
    "shape, mode",
    [((4, 6), "L"), ((6, 4), "L"), ((4, 6, 1), "L"), ((4, 6, 3), "RGB")],
)
def test_picture_is_one_picture_of_its_own_size(shape, mode):
    image = plots.picture(np.full(shape, 0.2))
    assert (image.size, image.mode) == (shape[1::-1], mode)
    assert np.unique(pixels(image)).tolist() == [51]


@pytest.mark.parametrize("columns", [0, -1, 2.5, "2"])
def test_columns_are_counts(columns):
    images = RNG.random((3, 5, 6, 1))
    for draw in (plots.sheet, lambda x, **kw: plots.reconstructions(x, x, **kw)):
        with pytest.raises(ValueError, match="`columns` must be an integer >= 1"):
            draw(images, columns=columns)


def test_lists_are_pictures_and_no_weights_none():
    images = RNG.random((3, 5, 6, 1))
    expected = pixels(plots.reconstructions(images, images))
    found = plots.reconstructions(images.tolist(), images.tolist())
    np.testing.assert_array_equal(pixels(found), expected)
    with pytest.raises(ValueError, match="at least one picture"):
        plots.filters(np.zeros((0, 5, 6)))


def test_reconstructions_lie_below_their_originals():
    originals = np.full((3, 300, 300, 1), 200, "uint8")
    grid = pixels(plots.reconstructions(originals, originals // 2, columns=2))
    middles = grid[150::302, 150::302, 0]
    assert middles.tolist() == [[200, 200], [100, 100], [200, 0], [100, 0]]
    with pytest.raises(ValueError, match="one shape"):
        plots.reconstructions(originals, originals[:2])


def test_interpolation_and_traversal_have_a_row_for_each_pair_and_dimension():
    steps = RNG.random((3, 5, 200, 200, 3))
    for image in (plots.interpolation(steps), plots.traversal(steps)):
        assert image.size == (5 * 200 + 4 * 2, 3 * 200 + 2 * 2)
    assert plots.interpolation(steps[0]).size == (5 * 200 + 4 * 2, 200)


def scattered(figure):
    return np.concatenate(
        [np.asarray(c.get_offsets()) for c in figure.axes[0].collections]
    )


def test_latent_map_shows_two_dimensions_as_they_are():
    codes = RNG.normal(0, 1, (30, 2))
    np.testing.assert_allclose(scattered(plots.latent_map(codes)), codes)


def test_latent_map_projects_more_dimensions_on_their_principal_axes():
    codes = RNG.normal(0, [0.1, 3.0, 0.2, 1.0], (500, 4))
    shown = scattered(plots.latent_map(codes))
    expected = codes[:, [1, 3]] - codes[:, [1, 3]].mean(axis=0)
    for axis in (0, 1):
        correlation = np.corrcoef(shown[:, axis], expected[:, axis])[0, 1]
        assert abs(correlation) > 0.99
    assert scattered(plots.latent_map(codes[:1])).tolist() == [[0, 0]]


def test_latent_map_colours_by_class_or_by_scale():
    codes = RNG.normal(0, 1, (60, 1))
    classes = plots.latent_map(codes, np.arange(60) % 3, "digit")
    texts = [text.get_text() for text in classes.axes[0].get_legend().get_texts()]
    assert texts == ["0", "1", "2"]
    scale = plots.latent_map(codes, np.linspace(0, 1, 60), "phase")
    assert scale.axes[1].get_ylabel() == "phase"
    with pytest.raises(ValueError, match="one value a picture"):
        plots.latent_map(codes, np.arange(5))
    with pytest.raises(ValueError, match="pictures, latent_dim"):
        plots.latent_map(codes[:, 0])


def test_latent_map_names_classes_of_any_kind_and_counts_the_rest():
    codes = RNG.normal(0, 1, (180, 2))

    def legend(labels):
        figure = plots.latent_map(codes, labels)
        assert len(figure.axes) == 1  # no scale
        handles = figure.axes[0].get_legend().legend_handles
        colours = figure.axes[0].collections[0].get_facecolors()
        shown = {handle.get_label(): handle.get_color() for handle in handles}
        assert len(shown) == len({*shown.values()}) == len(np.unique(colours, axis=0))
        return list(shown)

    assert legend(np.arange(180) % 20) == [str(digit) for digit in range(20)]
    assert legend(np.arange(180)[:, None] % 2 > 0) == ["False", "True"]
    assert legend(["", "cats"] * 90) == ["(none)", "cats"]
    assert legend([0.5, np.nan, 1.0] * 60) == ["0.5", "1.0", "unknown"]
    assert legend(["a" * 20 + "1" * 20] * 180) == ["aaaaaaaaaaaa…11111111111"]
    people = [f"{person:02}" for person in range(40)]
    assert legend([*people, *people] * 2 + people[:20]) == people
    # The commonest sixty have a colour.
    many = [f"{person:02}" for person in [*range(65)] * 2 + [*range(50)]]
    shown = legend(np.array(many))
    assert len(shown) == 61 and shown[:50] == many[:50] and shown[-1] == "5 others"


def test_latent_map_shows_many_numbers_on_a_scale():
    codes = RNG.normal(0, 1, (60, 2))
    labels = np.linspace(0, 1, 60)
    labels[7] = np.nan
    drawn = plots.latent_map(codes, labels).axes[0].collections[0].get_facecolors()
    grey = drawn[7]
    assert np.ptp(grey[:3]) < 0.05
    assert (drawn[[0, 20, 40]] != grey).any(axis=1).all()
    scale = plots.latent_map(codes, np.arange(60, dtype="uint8"), "age").axes[1]
    assert all(tick == int(tick) for tick in scale.get_yticks())


@pytest.mark.parametrize(
    "method, package", [("tsne", "sklearn.manifold"), ("umap", "umap")]
)
def test_latent_map_keeps_neighbours_together(method, package):
    pytest.importorskip(package)
    centres = np.repeat(8 * np.eye(3, 10), 20, axis=0)
    codes = centres + RNG.normal(0, 0.5, (60, 10))
    figure = plots.latent_map(codes, method=method)
    shown = scattered(figure)
    distances = np.linalg.norm(shown[:, None] - shown, axis=-1)
    np.fill_diagonal(distances, np.inf)
    assert (distances.argmin(axis=1) // 20 == np.arange(60) // 20).all()
    assert "of 10 dimensions" in figure.axes[0].get_xlabel()
    again = scattered(plots.latent_map(codes, method=method))
    np.testing.assert_array_equal(shown, again)
    assert (shown != scattered(plots.latent_map(codes, method=method, seed=1))).any()
    # Few codes, of one dimension, and all the same.
    for few in (codes[:4], codes[:9, :1], np.zeros((5, 3))):
        assert np.isfinite(scattered(plots.latent_map(few, method=method))).all()
    with pytest.raises(ValueError, match="at least 4 pictures. Received: 3"):
        plots.latent_map(codes[:3], method=method)


@pytest.mark.parametrize(
    "method, module, package",
    [("tsne", "sklearn.manifold", "scikit-learn"), ("umap", "umap", "umap-learn")],
)
def test_latent_map_names_the_package_that_is_missing(
    monkeypatch, method, module, package
):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=f"pip install {package}"):
        plots.latent_map(np.eye(5), method=method)


def test_latent_map_refuses_what_it_cannot_draw():
    codes = RNG.normal(0, 1, (5, 3))
    with pytest.raises(ValueError, match="one of auto, pca, tsne, umap"):
        plots.latent_map(codes, method="mds")
    with pytest.raises(ValueError, match="3 labels for 5 codes"):
        plots.latent_map(codes, keras.ops.arange(3))
    with pytest.raises(ValueError, match="2 pictures for 5 codes"):
        plots.latent_map(codes, images=np.zeros((2, 4, 4, 1)))
    with pytest.raises(ValueError, match="must be finite"):
        plots.latent_map(np.full((5, 3), np.nan))


@pytest.mark.parametrize(
    "shape, size",
    [((28, 28, 1), (56, 56)), ((64, 48, 3), (48, 64)), ((90, 180, 3), (64, 32))],
)
def test_latent_map_draws_thumbnails_that_do_not_overlap(tmp_path, shape, size):
    codes = RNG.normal(0, 1, (400, 2))
    labels = np.arange(400) % 2
    images = np.empty((400, *shape), "uint8")
    images[:] = 40 + 100 * labels[:, None, None, None]
    figure = plots.latent_map(codes, labels, images=images)
    figure.savefig(tmp_path / "map.png")
    with Image.open(tmp_path / "map.png") as image:
        page = pixels(image)
    boxes = [box for box in figure.axes[0].artists if hasattr(box, "offsetbox")]
    assert 20 < len(boxes) < 200
    extents = [box.get_window_extent() for box in boxes]
    for extent in extents:
        assert sum(extent.overlaps(other) for other in extents) == 1  # with itself
        assert extent.x0 >= 0 and extent.x1 <= page.shape[1]
        assert extent.y0 >= 0 and extent.y1 <= page.shape[0]
    frames = figure.axes[0].collections[0].get_facecolors()[:2, :3]
    for box, extent in zip(boxes, extents, strict=True):
        index = int(np.flatnonzero((codes == box.xy).all(axis=1))[0])
        assert (round(extent.width) - 6, round(extent.height) - 6) == size
        # The picture itself, and its class around it, at the place of its code.
        x, y = figure.axes[0].transData.transform(codes[index]).astype(int)
        y = page.shape[0] - 1 - y
        # The canvas blends in fixed point, so that a level may be lost to rounding.
        inside = [*images[index, 0, 0].repeat(3)[:3], 255]
        np.testing.assert_allclose(page[y, x].astype(int), inside, atol=1)
        edge = page[y, int(extent.x0) + 2, :3] / 255
        np.testing.assert_allclose(edge, frames[index % 2], atol=0.05)


def test_latent_map_draws_thumbnails_of_codes_in_one_place():
    figure = plots.latent_map(np.zeros((9, 2)), images=np.zeros((9, 4, 4)))
    assert sum(hasattr(box, "offsetbox") for box in figure.axes[0].artists) == 1


def test_loss_curves_have_a_panel_for_each_term():
    history = {
        "loss": [3.0, 2.0, 1.5],
        "kl": [0.5, 0.6, 0.7],
        "val_loss": [3.5, 2.5, float("nan")],
        "learning_rate": [1e-3, 1e-3, 1e-3],
    }
    figure = plots.loss_curves(history)
    loss, kl = (panel for panel in figure.axes if panel.get_visible())
    assert (loss.get_title(), kl.get_title()) == ("loss", "kl")
    assert [len(line.get_ydata()) for line in loss.lines] == [3, 3]
    assert len(kl.lines) == 1
    with pytest.raises(ValueError, match="at least one epoch"):
        plots.loss_curves({})


def test_loss_curves_survive_values_that_are_not_finite(tmp_path):
    nan = float("nan")
    history = {"kl": [nan] * 4, "loss": [nan, 2.0, nan, float("inf")]}
    figure = plots.loss_curves(history)
    figure.savefig(tmp_path / "loss.png")
    loss, kl = (panel for panel in figure.axes if panel.get_visible())
    assert (loss.get_title(), kl.get_title()) == ("loss", "kl")
    assert np.asarray(loss.collections[0].get_offsets()).tolist() == [[2.0, 2.0]]
    assert [text.get_text() for text in kl.texts] == ["never finite"]


def test_loss_curves_tell_of_the_epochs_that_leave_a_panel():
    smooth = np.linspace(3.0, 1.0, 40)
    wild = smooth.copy()
    wild[[0, 30]] = [-50.0, 1e4]
    figure = plots.loss_curves({"loss": wild, "val_loss": wild, "mse": smooth})
    loss, mse = (panel for panel in figure.axes if panel.get_visible())
    low, high = loss.get_ylim()
    assert 0 < low < 1.2 and 2.8 < high < 4
    assert [text.get_text() for text in loss.texts] == ["↑ 1e+04", "↓ -50"]
    assert not mse.texts and mse.get_ylim()[1] >= 3


@pytest.mark.thorough
def test_loss_curves_of_many_terms_hide_none_behind_the_legend(tmp_path):
    names = [f"discriminator_term_{number}" for number in range(25)]
    figure = plots.loss_curves({name: [1.0, 2.0] for name in ["loss", *names]})
    figure.savefig(tmp_path / "loss.png")
    shown = [panel for panel in figure.axes if panel.get_visible()]
    assert len(shown) == 26
    legend = figure.legends[0].get_window_extent()
    extents = [panel.get_tightbbox() for panel in shown]
    for number, extent in enumerate(extents):
        assert not extent.overlaps(legend)
        assert not any(extent.overlaps(other) for other in extents[:number])


def decode(codes):
    """Pictures of one pixel in each corner: z[0] left, z[1] right."""
    pictures = np.zeros((len(codes), 2, 2))
    pictures[:, 0] = 0.5 + codes / 10
    return pictures


def shown_codes(image, steps):
    """The codes of a manifold of `decode`, `(steps, steps, 2)`."""
    side = image.width // steps
    assert image.size == (steps * side, steps * side)
    values = pixels(image)[::side, :: side // 2, 0] / 255
    return (values.reshape(steps, steps, 2) - 0.5) * 10


def test_manifold_is_laid_by_the_quantiles_of_the_prior():
    stats = pytest.importorskip("scipy.stats")
    expected = stats.norm.ppf(np.linspace(0.1, 0.9, 5))
    codes = shown_codes(plots.manifold(decode, steps=5), 5)
    for row in range(5):
        np.testing.assert_allclose(codes[row, :, 0], expected, atol=0.02)
        np.testing.assert_allclose(codes[:, row, 1], expected[::-1], atol=0.02)


def test_manifold_follows_the_codes_of_data():
    data = np.stack([np.linspace(0, 4, 401), np.linspace(-1, 0, 401)], axis=1)
    codes = shown_codes(plots.manifold(decode, data, steps=4), 4)
    np.testing.assert_allclose(codes[0, :, 0], [0.5, 1.5, 2.5, 3.5], atol=0.02)
    np.testing.assert_allclose(
        codes[:, 0, 1], [-0.125, -0.375, -0.625, -0.875], atol=0.02
    )
    assert plots.manifold(decode, steps=1).width > 0
    with pytest.raises(ValueError, match=r"pictures, 2\)"):
        plots.manifold(decode, np.zeros((5, 3)))
    with pytest.raises(ValueError, match="`steps` must be an integer >= 1"):
        plots.manifold(decode, steps=0)


def test_codebook_usage_sorts_shares_and_tells_the_perplexity():
    tokens = np.repeat([3, 0, 5], [1, 2, 5]).reshape(2, 2, 2)
    axes = plots.codebook_usage(tokens, 6).axes[0]
    (bars,) = axes.patches
    expected = np.array([5, 2, 1, 0, 0, 0]) / 8
    np.testing.assert_allclose(bars.get_data().values, 100 * expected)
    entropy = pytest.importorskip("scipy.stats").entropy(expected)
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert f"3 of 6 codes in use, perplexity {np.exp(entropy):.4g}" in names
    (line,) = axes.lines
    np.testing.assert_allclose(line.get_ydata(), 100 / 6)


def test_codebook_usage_counts_each_of_several_codebooks():
    tokens = np.stack([np.zeros(40, int), np.arange(40) % 4], axis=-1)
    axes = plots.codebook_usage(tokens.reshape(4, 10, 2), 4, codebooks=2).axes[0]
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names[0] == "codebook 1: 1 of 4 codes in use, perplexity 1"
    assert names[1] == "codebook 2: 4 of 4 codes in use, perplexity 4"


@pytest.mark.parametrize(
    "tokens, arguments, message",
    [
        (np.zeros(3), {}, "must be integers"),
        (np.zeros(0, int), {}, "at least one"),
        (np.array([0, 4]), {}, "from 0 to 3. Received: tokens from 0 to 4"),
        (np.array([[0, 1]]), {"codebooks": 3}, "`codebooks` must be 1"),
    ],
)
def test_codebook_usage_refuses_what_are_no_tokens(tokens, arguments, message):
    with pytest.raises(ValueError, match=message):
        plots.codebook_usage(tokens, 4, **arguments)


@pytest.mark.parametrize(
    "x, scale",
    [([10, 30, 90], "linear"), ([100, 1000, 60000], "log"), ([0, 1, 50], "linear")],
)
def test_error_bars_are_logarithmic_where_values_span_decades(x, scale):
    repeats = np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 5.0]])
    axes = plots.error_bars(x, {"a": repeats, "b": repeats[0]}, "x", "y").axes[0]
    assert axes.get_xscale() == scale
    assert axes.get_xticks().tolist() == x
    assert axes.get_ylim()[0] == 0
    means = axes.containers[0].lines[0].get_ydata()
    np.testing.assert_allclose(means, repeats.mean(axis=0))
    with pytest.raises(ValueError, match="must have 3 points"):
        plots.error_bars(x, {"a": repeats[:, :2]}, "x", "y")


def test_error_bars_draw_every_curve():
    curves = {str(index): [1.0, index] for index in range(12)}
    assert len(plots.error_bars([1, 2], curves, "x", "y").axes[0].containers) == 12
    with pytest.raises(ValueError, match="at least one point"):
        plots.error_bars([1, 2], {}, "x", "y")


def test_error_bars_hide_no_negative_values():
    axes = plots.error_bars([1, 2], {"a": [-3.0, 1.0]}, "x", "y").axes[0]
    assert axes.get_ylim()[0] < -3


def test_figures_leave_the_ground_transparent(tmp_path):
    figures = [
        plots.loss_curves({"loss": [1.0]}),
        plots.codebook_usage(np.arange(4), 4),
        plots.error_bars([1, 2], {"a": [1.0, 2.0]}, "x", "y"),
    ]
    for figure in figures:
        figure.savefig(tmp_path / "figure.png")
        with Image.open(tmp_path / "figure.png") as image:
            assert pixels(image)[0, 0, 3] == 0


def test_figures_touch_no_global_state_of_matplotlib():
    code = (
        "import sys, numpy as np; from keras_ae import plots;"
        "plots.latent_map(np.eye(3)); sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.once
def test_a_plane_has_a_panel_each_for_points_gaussians_and_densities():
    points = np.random.default_rng(0).normal(size=(30, 2))
    panels = {
        "points": points,
        "Gaussians": (points[:5], np.ones((5, 2))),
        "leaning": (points[:1], np.array([[[2.5, 1.5], [1.5, 2.5]]])),
        "density": np.eye(9),
    }
    figure = plots.plane(panels, span=2.0)
    left, middle, leaning, right = figure.axes
    assert [panel.get_title() for panel in figure.axes] == [*panels]
    np.testing.assert_array_equal(left.lines[0].get_xydata(), points)
    ellipses = [(e.center, e.width, e.height) for e in middle.patches]
    assert len(ellipses) == 5 and ellipses[0][1:] == (2.0, 2.0)
    # Variances of 1 across and 4 along the diagonal.
    (ellipse,) = leaning.patches
    np.testing.assert_allclose((ellipse.width, ellipse.height), (2.0, 4.0))
    assert ellipse.angle % 180 == pytest.approx(135.0)
    assert right.images[0].get_extent() == [-2.0, 2.0, -2.0, 2.0]
    assert right.images[0].origin == "lower"
    with pytest.raises(ValueError, match="must be points"):
        plots.plane({"x": np.zeros(3)}, 1.0)
    with pytest.raises(ValueError, match="Gaussians must be means"):
        plots.plane({"x": (points, points[:3])}, 1.0)
    with pytest.raises(ValueError, match="Gaussians must be means"):
        plots.plane({"x": (np.ones((4, 3)), np.ones((4, 3)))}, 1.0)


def test_a_notebook_shows_a_figure():
    figure = plots.loss_curves({"loss": [2.0, 1.0], "val_loss": [2.5, 1.5]})
    shown = Image.open(io.BytesIO(figure._repr_png_()))
    assert shown.format == "PNG" and shown.width > 300
