"""Commands that draw pictures."""

from __future__ import annotations

import collections
import functools
import inspect
import pathlib
from collections.abc import Sequence

import numpy as np

from keras_ae import datasets, plots, progress
from keras_ae.cli.commands.reading import (
    _check_distinct,
    _encode,
    _files,
    _read,
    _say_search,
    as_pictures,
    check_folder,
    check_not_of,
    check_png,
    is_result,
    load_pictures,
    load_some,
    save_image,
    save_result,
    targets_of,
)
from keras_ae.cli.commands.training import _classes
from keras_ae.files import replacing
from keras_ae.runs import load_model

# Pictures on a sheet of originals and what was made of them.
_ON_A_SHEET = 64
# Labelled pictures that attributes are looked for in, and taken of each side.
_LABELLED, _A_SIDE = 20_000, 2000


def reconstruct(
    path: str,
    pictures: Sequence[str],
    output: str,
    limit: int | None = None,
    refine: int | None = None,
    tile: int | None = None,
) -> None:
    """Reconstructs pictures, each into a PNG file of the same name.

    They are scaled to the size that the model has learned; in tiles they keep theirs.

    Args:
        path: A `.keras` file or a run directory.
        pictures: Paths of pictures, and of folders of them.
        output: Folder for the reconstructions, created if absent, in folders like the
            pictures' own if two have one name; or path of a sheet, `.png`, of the
            originals above their reconstructions.
        limit: At most this many pictures; on a sheet 64 unless it says otherwise.
        refine: Steps of a search that goes on from the encoder's codes; on a sheet what
            it comes to has a row below theirs.
        tile: Side in pixels of tiles, of a model whose codes are a grid.

    Raises:
        ValueError: If two results would have one name, or one would overwrite what is
            no earlier result, or lies beside what was read; `output` is a file, or
            named like a picture; or the model can't refine codes, or not restore
            pictures in tiles.
        FileNotFoundError: If a path does not exist.
    """
    model = load_model(path)
    if refine is None:
        verb = _in_tiles(model, "reconstruct", tile)
        own_size = tile is not None
        _restore(model, [verb], "reconstructed", pictures, output, limit, own_size)
        return
    if tile is not None:
        raise ValueError(
            "`tile` must be left out with `refine`, which searches for the code of a "
            f"whole picture. Received: tile={tile} and refine={refine}"
        )
    before, after = [], []

    def refined(images):
        found = model.refine(images, steps=refine)
        before.extend(found.before)
        after.extend(found.after)
        return model.decode(found.codes)

    verbs = [model.reconstruct, refined]
    _restore(model, verbs, "reconstructed and refined", pictures, output, limit)
    print(
        f"Mean squared error: {np.mean(before):.5f} as the encoder guesses, "
        f"{np.mean(after):.5f} after {refine} steps."
    )


def denoise(
    path: str,
    pictures: Sequence[str],
    output: str,
    limit: int | None = None,
    tile: int | None = None,
) -> None:
    """Takes the noise from pictures, each into a PNG file of the same name.

    A model without a bottleneck leaves them their size; on a sheet they all have one.

    Args:
        path: A `.keras` file or a run directory, of a model that denoises.
        pictures: Paths of noisy pictures, and of folders of them.
        output: Folder for the clean pictures, created if absent, in folders like the
            noisy ones' own if two have one name; or path of a sheet, `.png`, of the
            noisy ones above them.
        limit: At most this many pictures; on a sheet 64 unless it says otherwise.
        tile: Side in pixels of tiles, which bound the memory that large pictures take.

    Raises:
        ValueError: If the model does not denoise, and as for `reconstruct`.
        FileNotFoundError: If a path does not exist.
    """
    model = load_model(path)
    if not model.denoises:
        raise ValueError(
            f"This {type(model).__name__} has not learned to denoise pictures. A "
            "DenoisingAE has; `keras-ae reconstruct` works on every model."
        )
    verb = _in_tiles(model, "denoise", tile)
    own_size = model.keeps_pixels
    _restore(model, [verb], "denoised", pictures, output, limit, own_size)


def _in_tiles(model, name, tile):
    """A verb of the model, for pictures of any size where there is a tile."""
    verb = getattr(model, name)
    if tile is None:
        return verb
    if "tile" not in inspect.signature(verb).parameters:
        raise ValueError(
            "`tile` needs a model whose codes are a grid, such as a KLAutoencoder or a "
            f"VQVAE. Received: tile={tile} and a {type(model).__name__}"
        )
    return functools.partial(verb, tile=tile)


def _restore(model, verbs, done, pictures, output, limit, own_size=False):
    """Writes what the last verb makes of each picture; a sheet shows all of them."""
    files = _files(pictures)
    folder = pathlib.Path(output)
    if folder.suffix.lower() == ".png" and not folder.is_dir():
        if folder.resolve() in {file.resolve() for file in files}:
            raise ValueError(f"{output} would be overwritten; choose another.")
        shown = files[: limit or _ON_A_SHEET]
        images = np.concatenate([images for _, images in _read(model, shown)])
        made = [as_pictures(model, verb(images)) for verb in verbs]
        beside = plots.reconstructions(as_pictures(model, images), *made)
        print(f"{len(images)} of {len(files)} pictures, {done} below.")
        return save_image(beside, output)
    check_folder("--output", folder, ", or a sheet that ends in .png")
    files = files[:limit]
    targets = targets_of(files, folder)
    _check_distinct(targets.values())
    # A folder of results may be filled again, what else is there is left alone.
    own = folder.resolve() in {file.parent.resolve() for file in files}
    for target in filter(pathlib.Path.exists, targets.values()):
        if own or not is_result(target):
            raise ValueError(
                f"{target} would be overwritten; choose another `--output`."
            )
    by_shape = _by_shape(model, files) if own_size else None
    count = 0
    with progress.shown(done, len(files)) as advance:
        for found, images in _read(model, files, by_shape):
            for file, picture in zip(found, verbs[-1](images), strict=True):
                targets[file].parent.mkdir(parents=True, exist_ok=True)
                save_result(picture, targets[file])
            count += len(found)
            advance(count)
    print(f"{count} picture{'' if count == 1 else 's'} {done} in {folder}")


def _by_shape(model, files):
    """Files by the shape that a model is given their pictures in, of their own size."""
    groups, broken = collections.defaultdict(list), []
    for file in files:
        try:
            size = datasets.pictures.upright_size(file.read_bytes())
        except OSError:  # said when it is decoded
            broken.append(file)
        else:
            groups[*size, *model.built_image_shape[2:]].append(file)
    first = next(iter(groups), model.built_image_shape)
    groups[first] = broken + groups[first]
    return groups


def sample(
    path: str,
    number: int,
    output: str | None,
    seed: int | None = None,
    sampler: str | None = None,
    data: str | None = None,
    data_dir: str | None = None,
    limit: int | None = None,
    *,
    separate: str | None = None,
    label: int | None = None,
) -> None:
    """Draws pictures from a generative model.

    Args:
        path: A `.keras` file or a run directory.
        number: Number of pictures.
        output: Path of a sheet of all, `.png`, or None.
        seed: Seed of the draw; without one, each draw is another.
        sampler: What codes are drawn from: see `Autoencoder.sample`.
        data: Path of a folder or zip of pictures, or name of a data set, whose training
            split it is: the sampler is fitted to their codes first. The model's file
            stays as it is.
        data_dir: Folder of data sets.
        limit: At most this many pictures are read.
        separate: Folder for a file of each, or None.
        label: Class of all pictures, from 0, for a model or a flow with classes. A flow
            that is fitted to a data set with classes knows them.

    Raises:
        ValueError: If the model can't be sampled so, `output` ends otherwise, or a file
            would be overwritten.
    """
    if output is not None:
        check_png(output)
        if data is not None:
            check_not_of(data, output)
    files = []
    if separate is not None:
        check_folder("--separate", pathlib.Path(separate))
        digits = len(str(number))
        files = [
            pathlib.Path(separate) / f"{index:0{digits}}.png"
            for index in range(1, number + 1)
        ]
        for file in filter(pathlib.Path.exists, files):
            raise ValueError(f"{file} would be overwritten; choose another folder.")
    model = load_model(path)
    if not (model.SAMPLERS or model.draws_by_itself):
        raise ValueError(f"This {type(model).__name__} {model.no_samplers}.")
    if data is not None:
        sampler = sampler or "mixture"
        split = "train" if datasets.recognise(data) else "all"
        images, known = load_pictures(model, path, data, split, data_dir, limit)
        print(
            f"Fitting {sampler} to the codes of {len(images):,} pictures.", flush=True
        )
        classes = {}
        if sampler == "flow" and "label" in known:
            classes["labels"] = known["label"]
        model.fit_sampler(sampler, images, seed=seed or 0, **classes)
    elif (
        sampler in model.SAMPLERS
        and sampler not in model.fitted_samplers
        and model.has_encoder
    ):
        raise ValueError(
            f"Sampler {sampler} must be fitted to codes first: add `--data` and the "
            "name of the data set that the model was trained on, or their folder."
        )
    if sampler is None and not model.can_sample:
        raise ValueError(
            f"This {type(model).__name__} has no prior that codes follow: fit a "
            "sampler to those of the pictures that it was trained on, with `--data` "
            "and the name of the data set or their folder."
        )
    if sampler is None:
        choice = model.choose_sampler()
        if choice is not None:
            print(choice, flush=True)
        elif model.SAMPLERS and not model.keeps_to_prior:
            print(
                "Samples are drawn from the prior. Where the codes are is kept with a "
                "model when its training ends; here `--data` and its pictures tell.",
                flush=True,
            )
    asked = {} if label is None else {"labels": label}
    drawn = model.sample(number, seed=seed, sampler=sampler, **asked)
    pictures = as_pictures(model, drawn)
    for file, picture in zip(files, pictures, strict=False):
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as temporary:
            plots.picture(picture).save(temporary)
    if files:
        print(f"{number:,} picture{'' if number == 1 else 's'} in {separate}")
    if output is not None:
        save_image(plots.sheet(pictures), output)


def interpolate(path: str, a: str, b: str, output: str, steps: int = 9) -> None:
    """Turns one picture into another, in equal steps between their codes.

    The pictures themselves are at the ends of the row, beside their reconstructions.

    Args:
        path: A `.keras` file or a run directory.
        a: Path of the first picture.
        b: Path of the last picture.
        output: Path of the sheet, `.png`.
        steps: Number of steps, from the one's reconstruction to the other's.

    Raises:
        ValueError: If `output` ends otherwise, or is one of the two pictures, or one of
            these is a folder.
    """
    check_png(output)
    for name in (a, b):
        if pathlib.Path(name).is_dir():
            raise ValueError(
                f"A and B must be one picture each. Received: folder {name}"
            )
    files = [_files([name])[0] for name in (a, b)]
    for file in files:
        if pathlib.Path(output).resolve() == file.resolve():
            raise ValueError(f"{file} would be overwritten; choose another `--output`.")
    model = load_model(path)
    ends = [images for file in files for _, images in _read(model, [file])]
    row = as_pictures(model, model.interpolate(*ends, steps=steps))
    first, last = (as_pictures(model, images) / 255 for images in ends)
    save_image(plots.interpolation(np.concatenate([first, row, last])), output)


def attribute(
    path: str,
    pictures: Sequence[str],
    output: str,
    *,
    added: Sequence[str] = (),
    removed: Sequence[str] = (),
    strength: float = 2.0,
    data: str = "celeba",
    data_dir: str | None = None,
    limit: int = 16,
) -> None:
    """Gives pictures attributes, or takes them away, on one sheet.

    Each row is a picture, its reconstruction and five equal steps to the full strength.

    Args:
        path: A `.keras` file or a run directory.
        pictures: Paths of pictures, and of folders of them.
        output: Path of the sheet, `.png`.
        added: Names of attributes to add, case ignored.
        removed: Names of attributes to take away.
        strength: Length of the last step, in attribute vectors.
        data: Name or path of a data set with attributes, from whose training split the
            vectors are computed.
        data_dir: Folder of data sets.
        limit: At most this many pictures.

    Raises:
        ValueError: If there is no such attribute, or `output` ends otherwise or is one
            of the pictures.
        FileNotFoundError: If a path does not exist.
    """
    if not added and not removed:
        raise ValueError("Nothing to change: name an attribute with `--add`.")
    check_png(output)
    files = _files(pictures)[:limit]
    if pathlib.Path(output).resolve() in {file.resolve() for file in files}:
        raise ValueError(f"{output} would be overwritten; choose another `--output`.")
    model = load_model(path)
    labelled, found = load_pictures(model, path, data, "train", data_dir, _LABELLED)
    signs = {}
    for option, names, sign in (("--add", added, 1), ("--remove", removed, -1)):
        for name in names:
            name = _attribute(found, name, option, data)
            if signs.setdefault(name, sign) != sign:
                raise ValueError(f"{name} can't be both added and taken away.")
    vector = np.zeros(model.code_dim, "float32")
    for name, sign in signs.items():
        chosen = [np.flatnonzero(found[name] == side)[:_A_SIDE] for side in (1, 0)]
        rows = np.sort(np.concatenate(chosen))
        print(
            f"{name}: {len(chosen[0]):,} pictures with it, {len(chosen[1]):,} without"
        )
        _say_search(model, len(rows))
        vector += sign * model.attribute_vector(labelled[rows], found[name][rows])
    strengths = np.linspace(0, strength, 6)
    shown = []
    for _, images in _read(model, files):
        changed = as_pictures(model, model.add_attribute(images, vector, strengths))
        changed = changed.reshape(len(images), len(strengths), *changed.shape[1:])
        originals = as_pictures(model, images) / 255
        shown.append(np.concatenate([originals[:, None], changed], axis=1))
    save_image(plots.interpolation(np.concatenate(shown)), output)


def _attribute(found, name, option, data):
    """The full name of one of a data set's attributes."""
    known = [
        label
        for label, values in found.items()
        if values.dtype.kind in "biu" and np.isin(values, (0, 1)).all()
    ]
    matching = [label for label in found if label.lower() == name.lower()]
    if matching and matching[0] in known:
        return matching[0]
    if matching:
        raise ValueError(
            f"`{option}` must name an attribute that a picture has or has not. "
            f"Received: {name}, of which {data} has "
            f"{len(np.unique(found[matching[0]])):,} values"
        )
    if not known:
        raise ValueError(
            f"{data} has no attributes, yes or no for each picture; `--data` names a "
            "data set that has, such as celeba."
        )
    raise ValueError(f"`{option}` must be one of {', '.join(known)}. Received: {name}")


def latent_map(
    path: str,
    data: str,
    output: str,
    *,
    method: str = "auto",
    labels: str | None = None,
    thumbnails: bool = True,
    data_dir: str | None = None,
    limit: int = 2000,
    seed: int = 0,
) -> None:
    """Draws the codes of a folder of pictures, or of a data set, in two dimensions.

    Args:
        path: A `.keras` file or a run directory.
        data: Path of a folder or zip of pictures, or name of a data set, whose test
            split is meant.
        output: Path of the map, `.png`.
        method: As for `plots.latent_map`.
        labels: Which label of the pictures gives the colour; by default the first
            that tells them apart.
        thumbnails: Whether to draw some of the pictures where their codes lie.
        data_dir: Folder of data sets.
        limit: At most this many pictures; of a folder spread over all of it.
        seed: Seed of t-SNE and UMAP.

    Raises:
        ValueError: If there is no such label, or `output` ends otherwise or is one of
            the pictures.
        ImportError: If the package that the method needs is not installed.
    """
    check_png(output)
    check_not_of(data, output)
    model = load_model(path)
    known = datasets.recognise(data)
    split = "test" if known else "all"
    images, found = load_some(model, path, data, split, data_dir, limit)
    values, label_name = _classes(found)
    if labels is not None:
        values, label_name = _label(found, labels, data), labels
    codes = _encode(model, images)
    figure = plots.latent_map(
        codes,
        values,
        label_name,
        images=as_pictures(model, images) if thumbnails else None,
        method=method,
        seed=seed,
    )
    names = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}
    names["auto"] = "PCA" if codes.shape[1] > 2 else "the codes themselves"
    print(
        f"{len(codes):,} pictures of {data}{' (test split)' if known else ''} by "
        f"{names[method]}"
        + (f", coloured by {label_name}" if label_name else "")
        + (
            f"; at most {limit:,} (`--limit`) are drawn."
            if len(codes) == limit
            else "."
        )
    )
    save_image(figure, output)


def _label(found, name, data):
    """One of the labels of a data set, by name."""
    names = [label for label in found if label != "path"]
    if name not in names:
        there = f"one of {', '.join(names)}" if names else "left out: there are none"
        raise ValueError(f"`--labels` of {data} must be {there}. Received: {name}")
    return found[name]
