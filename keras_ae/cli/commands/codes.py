"""Commands that write codes."""

from __future__ import annotations

import csv
import pathlib
from collections.abc import Sequence

import numpy as np

from keras_ae import compression, datasets, metrics, plots
from keras_ae.cli.commands.reading import (
    _CHUNK,
    _check_distinct,
    _encode,
    _files,
    _read,
    as_pictures,
    check_absent,
    check_folder,
    load_pictures,
    picture_shape,
)
from keras_ae.files import replacing
from keras_ae.runs import load_model


def compress(
    path: str,
    pictures: Sequence[str],
    output: str,
    step: float = compression.STEP,
    limit: int | None = None,
) -> None:
    """Compresses pictures into one small file, and says how JPEG would do.

    Args:
        path: A `.keras` file or a run directory.
        pictures: Paths of pictures, and of folders of them.
        output: Path of the result, `.kae`.
        step: As for `compression.compress`.
        limit: At most this many pictures.

    Raises:
        ValueError: If two pictures have one name, or `output` ends otherwise.
        FileExistsError: If `output` exists: it may be all that is left of others.
        FileNotFoundError: If a path does not exist.
    """
    target = pathlib.Path(output)
    if target.suffix.lower() != ".kae":
        raise ValueError(f"`--output` must end in .kae. Received: {output}")
    check_absent(target)
    model = load_model(path)
    files = _files(pictures)[:limit]
    _check_distinct([f"{file.stem}.png" for file in files])
    found, images = [], []
    for names, chunk in _read(model, files):
        found += [name.stem for name in names]
        images.append(chunk)
    images = np.concatenate(images)
    data = compression.compress(model, images, step, names=found)
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as temporary:
        temporary.write_bytes(data)
    codes = compression.read_codes(model, data)
    psnr = 0.0
    for start in range(0, len(codes), _CHUNK):
        chunk = images[start : start + _CHUNK]
        restored = model.decode(codes[start : start + _CHUNK])
        psnr += metrics.psnr(chunk, restored) * len(chunk) / len(codes)
    _report(target, len(data), psnr, as_pictures(model, images))


def _report(target, size, psnr, images):
    """Prints a table of our file and of JPEG."""
    count, height, width, _ = images.shape
    print(
        f"{count:,} picture{'' if count == 1 else 's'} of {width} x {height} pixels "
        f"written to {target}\n"
    )
    rows = [(target.name, size, psnr)]
    try:
        jpeg = compression.jpeg(images, size)
    except ValueError as error:
        remark = f"No JPEG beside it. {error}"
    else:
        rows.append(("JPEG", jpeg.size, jpeg.psnr))
        which = "its lowest, and larger even so"
        if jpeg.size <= size:
            which = "the best that is no larger"
        remark = (
            f"JPEG has all pictures on one sheet, at quality {jpeg.quality}: {which}."
        )
    names = max(len(name) for name, _, _ in rows)
    print(f"{'':{names}}  {'bytes':>11}  bits per pixel  PSNR in dB")
    for name, bytes_, decibels in rows:
        bits = 8 * bytes_ / (count * height * width)
        print(f"{name:{names}}  {bytes_:11,}  {bits:14.4f}  {decibels:10.2f}")
    print(f"\n{remark}")


def decompress(path: str, file: str, output: str) -> None:
    """Restores compressed pictures, each into a PNG file of its name.

    Args:
        path: A `.keras` file or a run directory: the model that compressed them.
        file: Path of the compressed pictures.
        output: Folder for the pictures; created if absent.

    Raises:
        ValueError: If the file can't be restored with this model, or holds names that
            are not those of files.
        FileExistsError: If one of the pictures exists: it may be the original.
        FileNotFoundError: If a path does not exist.
    """
    datasets.listing.check_file(file)
    data = pathlib.Path(file).read_bytes()
    folder = pathlib.Path(output)
    check_folder("--output", folder)
    model = load_model(path)
    picture_shape(model)
    try:
        codes = compression.read_codes(model, data)
        names = compression.read_names(data)
    except ValueError as error:
        raise ValueError(f"{file} can't be restored. {error}") from error
    if names is None:
        digits = len(str(len(codes)))
        names = [f"{number:0{digits}}" for number in range(1, len(codes) + 1)]
    for name in names:
        # Whoever made the file chose the names: none may lead out of the folder.
        if pathlib.Path(name).name != name or "\0" in name:
            raise ValueError(
                f"{file} can't be restored. It holds a name that is not that of a "
                f"file: {name!r}"
            )
    targets = [folder / f"{name}.png" for name in names]
    _check_distinct(targets)
    for target in targets:
        check_absent(target)
    folder.mkdir(parents=True, exist_ok=True)
    for start in range(0, len(codes), _CHUNK):
        restored = as_pictures(model, model.decode(codes[start : start + _CHUNK]))
        for target, picture in zip(
            targets[start : start + _CHUNK], restored, strict=True
        ):
            with replacing(target) as temporary:
                plots.picture(picture).save(temporary)
    count = len(codes)
    print(f"{count:,} picture{'' if count == 1 else 's'} restored in {folder}")


def embed(
    path: str,
    data: str,
    output: str,
    data_dir: str | None = None,
    limit: int | None = None,
) -> None:
    """Writes the codes of all pictures of a folder, or of a data set.

    Args:
        path: A `.keras` file or a run directory.
        data: Path of a folder or zip of pictures, or of shards, or name of a data set.
        output: Path of the result: `.npz` (arrays `codes`, and `path` or the labels of
            the data set) or `.csv` (the same as columns, codes as `z0`, `z1`, ...).
        data_dir: Folder of data sets.
        limit: At most this many pictures.

    Raises:
        ValueError: If `output` ends otherwise.
        FileExistsError: If `output` exists: it may be a table of the user's own.
    """
    target = pathlib.Path(output)
    if target.suffix not in (".npz", ".csv"):
        raise ValueError(f"`--output` must end in .npz or .csv. Received: {output}")
    check_absent(target)
    model = load_model(path)
    codes, columns = [], {}
    if _is_plain_folder(data):
        names = []
        for found, images in _read(model, _files([data])[:limit]):
            codes.append(_encode(model, images))
            names += [str(file) for file in found]
        columns["path"] = np.array(names)
    else:
        images, columns = load_pictures(model, path, data, "all", data_dir, limit)
        for start in range(0, len(images), _CHUNK):
            codes.append(_encode(model, images[start : start + _CHUNK]))
    codes = np.concatenate(codes)
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as temporary:
        if target.suffix == ".npz":
            np.savez(temporary, codes=codes, **columns)
        else:
            # Names of files may be none in UTF-8.
            with open(
                temporary, "w", newline="", encoding="utf-8", errors="backslashreplace"
            ) as file:
                table = csv.writer(file)
                table.writerow([*columns, *(f"z{i}" for i in range(codes.shape[1]))])
                table.writerows(zip(*columns.values(), *codes.T, strict=True))
    print(f"{len(codes)} codes of {codes.shape[1]} numbers written to {target}")


def _is_plain_folder(data):
    """Whether `data` is a folder of picture files, not a data set with its own crop."""
    if datasets.recognise(data) is not None or not pathlib.Path(data).is_dir():
        return False
    pictures = datasets.folders.Pictures(data)
    return bool(pictures.names) or not pictures.shards
