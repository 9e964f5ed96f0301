"""The page itself: controls, and what is called when they move."""

from __future__ import annotations

import pathlib
import warnings
from typing import Any

import gradio as gr
import numpy as np

from keras_ae import datasets, plots
from keras_ae.explorer.directions import SPAN
from keras_ae.explorer.map import LatentMap, data_url
from keras_ae.explorer.view import WAY, View

_FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
_MONOSPACED = ["ui-monospace", "Consolas", "monospace"]
# Pictures of each sampler.
_A_SHEET = 16
_STEPS = (25, 100, 400)
# Every how many pictures of the way one is in the row.
_EVERY = 2

# Of the page around the blocks, which their style sheet does not reach: what is hidden
# behind its edge can't stay in sight.
_HEAD = """<style>
@media (max-width: 700px) { .gradio-container { overflow: visible !important; } }
</style>"""
_SHOWN = """
{{#if value.src}}
<figure class="shown">
  <img src="{{value.src}}" alt="{{value.caption}}">
  <figcaption>
    <span>{{value.caption}}</span>
    <a href="{{value.src}}" download="{{value.file}}">Save as PNG</a>
  </figcaption>
</figure>
{{else}}
<figure class="shown empty">{{value.caption}}</figure>
{{/if}}
"""
_MAP = """
<figure class="map">
  <img src="{{image}}" alt="Map of codes along the first two directions">
  <i style="left: {{value.left}}%; top: {{value.top}}%"></i>
</figure>
"""
_CLICKED = """
element.addEventListener('click', event => {
  const box = element.querySelector('img').getBoundingClientRect();
  props.value = {
    left: 100 * (event.clientX - box.left) / box.width,
    top: 100 * (event.clientY - box.top) / box.height,
  };
  trigger('click');
});
"""
# A slider that is dragged is answered at once, and last for where it was left.
_AT_ONCE: dict[str, Any] = {
    "queue": False,
    "show_progress": "hidden",
    "trigger_mode": "always_last",
}


def serve(view: View, name: str, host: str, port: int) -> gr.Blocks:
    """Makes the page and serves it, without waiting for its end.

    Args:
        view: What there is to show.
        name: Title of the page.
        host: Address to serve it at.
        port: A free port.
    """
    page = blocks(view, name)
    page.launch(
        server_name=host,
        server_port=port,
        share=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        run_history=False,
        footer_links=[],
        prevent_thread_lock=True,
        quiet=True,
        show_error=True,
        height=900,
        theme=gr.themes.Default(
            primary_hue="indigo", font=_FONTS, font_mono=_MONOSPACED
        ),
        head=_HEAD,
        css_paths=pathlib.Path(__file__).with_name("page.css"),
    )
    return page


def blocks(view: View, name: str) -> gr.Blocks:
    """Returns the page, with the controls that the model can have."""
    with gr.Blocks(
        title=name, analytics_enabled=False, delete_cache=(3600, 3600)
    ) as page:
        gr.HTML(
            html_template="<h1>{{value.name}}</h1><p>{{value.told}}</p>",
            value={"name": name, "told": _told(view)},
            elem_classes="heading",
        )
        with gr.Tabs():
            if view.directions is not None:
                with gr.Tab("Codes"):
                    _Codes(view)
            if view.interpolates:
                with gr.Tab("From one to another") as tab:
                    _way(view, tab)
            if view.samplers:
                one = len(view.samplers) == 1
                with gr.Tab("Samples" if one else "Samplers") as tab:
                    _samples(view, tab)
            if view.refines:
                with gr.Tab("Guess and refine") as tab:
                    _refinement(view, tab)
    return page


def _percent(share):
    return f"{share:.0%}" if share >= 0.01 else f"{share:.1%}"


def _told(view):
    model = view.model
    size = " x ".join(map(str, model.built_image_shape))
    told = f"{type(model).__name__} of pictures {size}, {model.code_dim} numbers a code"
    if view.source:
        told += f". Directions and map: the codes of {view.source}"
    return f"{told}."


def _shown(value: dict | str, **options) -> gr.HTML:
    """Where a picture is shown, with a link that saves it; until then a caption."""
    value = {"caption": value} if isinstance(value, str) else value
    return gr.HTML(
        value, html_template=_SHOWN, js_on_load=None, apply_default_css=False, **options
    )


def _value(pictures: np.ndarray, caption: str, columns: int | None = None) -> dict:
    """What `_shown` shows of pictures `(n, ...)`, on a sheet."""
    sheet = plots.sheet(pictures, columns)
    if sheet.getextrema()[3][0] == 255:
        sheet = sheet.convert("RGB")
    file = "".join(c if c.isalnum() else "-" for c in caption.lower()).strip("-")
    return {
        "src": data_url(sheet),
        "caption": caption,
        "file": f"{file or 'picture'}.png",
    }


def _read(view, path, which):
    """A picture of the user's, as the model takes it."""
    if path is None:
        raise gr.Error(f"{which} is missing: upload one.", print_exception=False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return datasets.read_pictures(
                [path], view.model.built_image_shape, white=view.model.white
            )[0]
    except (ValueError, OSError):
        raise gr.Error(
            f"{which} can't be read: it is no picture, or damaged.",
            print_exception=False,
        ) from None


def _upload(view, label, index):
    """Where a picture is uploaded; there is one from the beginning, where there can."""
    example = view.example(index)
    image = gr.Image(
        None if example is None else plots.picture(example),
        label=label,
        format="png",
        image_mode=None,
        sources=["upload", "clipboard"],
        buttons=[],
        type="filepath",
        height=400,
        elem_classes="upload",
    )
    # Gradio would open it, and has no sentence for one that is broken.
    image.preprocess = _path_of
    return image


def _path_of(payload):
    return None if payload is None else payload.path


class _Codes:
    """Sliders along the directions, the map, attributes and classes."""

    def __init__(self, view: View):
        self.view = view
        count = len(view.known_directions)
        self.map = LatentMap(view) if count > 1 else None
        self.zeros = np.zeros(count)
        start = self._picture(self.zeros, 0.0, 0, None, 1.0)
        # Of a code what sliders don't show, and how many codes were drawn.
        rest, drawn = gr.State(0.0), gr.State(0)
        with gr.Row():
            with gr.Column(scale=4, min_width=280, elem_classes="left"):
                with gr.Column(elem_classes="seen"):
                    picture = _shown(start)
                with gr.Row():
                    another = gr.Button("Another one", variant="primary", min_width=130)
                    mean = gr.Button("To the mean", min_width=130)
                told = self._told()
            with gr.Column(scale=4, min_width=280):
                gr.Markdown(
                    "Principal directions of the codes, in standard deviations, with "
                    "their shares of the variance."
                )
                sliders = self._sliders()
            if self.map is not None:
                with gr.Column(scale=7, min_width=300):
                    at = self._map()
        fixed = [*told, *sliders]
        where = [] if self.map is None else [at]
        shown = [picture, *where]
        for control in fixed:
            control.input(self.move, [rest, *fixed], shown, **_AT_ONCE)
        another.click(
            self.draw,
            [drawn, *fixed],
            [drawn, rest, *sliders, *shown],
            **_AT_ONCE,
        )
        everything = [rest, *fixed, *shown]
        mean.click(self.to_mean, told[0], everything, **_AT_ONCE)
        if self.map is not None:
            at.click(self.click, [at, rest, *fixed], [*sliders[:2], *shown], **_AT_ONCE)

    def _told(self):
        """Class, attribute and strength; hidden where there are none."""
        view = self.view
        label = gr.Radio(
            [(str(index), index) for index in range(view.classes)],
            value=0 if view.classes else None,
            label="Class",
            visible=bool(view.classes),
        )
        attribute = gr.Dropdown(
            [("none", ""), *((name, name) for name in view.attributes)],
            value="",
            label="Attribute to add",
            visible=bool(view.attributes),
        )
        strength = gr.Slider(
            -3,
            3,
            1,
            step=0.1,
            label="How much of it",
            info="1 is the way from pictures without to pictures with it.",
            visible=bool(view.attributes),
        )
        return [label, attribute, strength]

    def _sliders(self):
        return [
            gr.Slider(
                -SPAN,
                SPAN,
                0,
                step=0.01,
                min_width=120,
                label=f"Direction {index + 1} ({_percent(share)})",
            )
            for index, share in enumerate(self.view.known_directions.shares)
        ]

    def _map(self):
        at = gr.HTML(
            self._at(self.zeros),
            html_template=_MAP,
            js_on_load=_CLICKED,
            image=data_url(self.map.image),
        )
        coloured = self.map.coloured_by
        gr.Markdown(
            "Click on the map: the picture goes there along the first two directions"
            + (f". Coloured by {coloured}." if coloured else ".")
        )
        return at

    def _at(self, positions):
        x, y = self.map.place(positions)
        return {"left": 100 * x, "top": 100 * y}

    def _picture(self, positions, rest, label, attribute, strength):
        view = self.view
        code = view.code(np.asarray(positions), rest)
        picture = view.picture(code, label or 0, attribute or None, strength)
        mean = not np.any(positions) and not np.any(rest) and not attribute
        return _value(picture[None], "The mean code" if mean else "Picture of the code")

    def _shown(self, positions, *others):
        picture = self._picture(positions, *others)
        if self.map is None:
            return [picture]
        return [picture, self._at(positions)]

    def move(self, rest, label, attribute, strength, *positions):
        return self._shown(positions, rest, label, attribute, strength)

    def draw(self, drawn, label, attribute, strength, *positions):
        positions, rest = self.view.draw(drawn)
        shown = self._shown(positions, rest, label, attribute, strength)
        return [drawn + 1, rest, *positions.tolist(), *shown]

    def to_mean(self, label):
        shown = self._shown(self.zeros, 0.0, label, None, 1.0)
        return [0.0, label, "", 1, *self.zeros.tolist(), *shown]

    def click(self, at, rest, label, attribute, strength, *positions):
        first, second = self.map.positions(at["left"] / 100, at["top"] / 100)
        moved = self.view.moved(positions, first, second)
        shown = self._shown(moved, rest, label, attribute, strength)
        return [*moved[:2].tolist(), *shown]


def _way(view, tab):
    """Two pictures, the way between them, and a slider for the place on it."""
    pictures = gr.State(None)
    with gr.Row():
        a = _upload(view, "From", 0)
        between = _shown("Upload two pictures")
        b = _upload(view, "To", 1)
    place = gr.Slider(0, 1, 0.5, step=1 / (WAY - 1), label="Place between them")
    row = _shown("Upload two pictures", elem_classes="whole")

    def at(way, place):
        if way is None:
            return {"caption": "Upload two pictures"}
        index = round(place * (len(way) - 1))
        return _value(way[index : index + 1], f"At {place:.2f}")

    def find(a, b, place):
        if a is None or b is None:
            return [None, *[{"caption": "Upload two pictures"}] * 2]
        way = view.way(
            _read(view, a, "The first picture"), _read(view, b, "The second picture")
        )
        some = way[::_EVERY]
        return [way, at(way, place), _value(some, "The whole way", len(some))]

    outputs = [pictures, between, row]
    gr.on([tab.select, a.change, b.change], find, [a, b, place], outputs)
    place.input(at, [pictures, place], between, **_AT_ONCE)


def _samples(view, tab):
    """A sheet of each sampler, all of one seed."""
    seed = gr.State(0)
    with gr.Row():
        again = gr.Button("Draw again", variant="primary", scale=0, min_width=200)
    with gr.Row():
        sheets = [_shown("…", min_width=260) for _ in view.samplers]

    def draw(name):
        def of(seed):
            try:
                return _value(view.sample(name, _A_SHEET, seed), name)
            except ValueError as error:
                sentence = str(error).partition("\n")[0]
                gr.Warning(f"{name}: {sentence}")
                return {"caption": f"{name} can't be fitted"}

        return of

    drawing = again.click(lambda seed: seed + 1, seed, seed, queue=False)
    for name, sheet in zip(view.samplers, sheets, strict=True):
        tab.select(draw(name), seed, sheet)
        drawing.then(draw(name), seed, sheet)


def _refinement(view, tab):
    """A picture, what the encoder guesses of it, and what a search makes of that."""
    with gr.Row():
        picture = _upload(view, "Picture", 2)
        guess, refined = _shown("The guess"), _shown("Refined")
    steps = gr.Radio(
        _STEPS,
        value=_STEPS[1],
        label="Steps of the search",
        info="It looks for the likeliest code, the prior included: of a code that is "
        "unlikely the error may grow.",
    )
    with gr.Row():
        button = gr.Button("Refine", variant="primary", scale=0, min_width=200)

    def refine(path, steps):
        found = view.refine(_read(view, path, "The picture"), steps)
        return [
            _value(
                found.guess[None], f"The guess, mean squared error {found.before:.4f}"
            ),
            _value(
                found.refined[None],
                f"After {steps} steps, mean squared error {found.after:.4f}",
            ),
        ]

    inputs, outputs = [picture, steps], [guess, refined]
    gr.on([tab.select, button.click, picture.upload], refine, inputs, outputs)
