"""Times how CelebA's JPEGs become the cache of `keras_ae.datasets`.

    python benchmarks/speed.py --workload cache --data-dir DIR

compares pictures a second a core with Pillow alone, which decodes, crops and resizes
the same pictures in a plain loop, and times the second start, which maps the cache.
"""

import io
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from keras_ae import machine

# Each start is a process of its own, as a user's is.
START = """
import sys, time
began = time.perf_counter()
import keras_ae
images = keras_ae.datasets.load("celeba", "all", data_dir=sys.argv[1], image_size=64)
first = images[0].mean()
print(len(images), time.perf_counter() - began)
"""


def start(data_dir, cache):
    """Loads all pictures in a new process; returns how many, and the seconds."""
    done = subprocess.run(
        [sys.executable, "-c", START, str(data_dir)],
        env={**os.environ, "KERAS_AE_CACHE": str(cache)},
        capture_output=True,
        text=True,
        check=True,
    )
    count, seconds = done.stdout.split()
    return int(count), float(seconds)


def pillow_alone(path, limit=2000):
    """Pictures a second that a plain loop over Pillow decodes, on one core."""
    from PIL import Image

    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".jpg")][:limit]
        began = time.perf_counter()
        for name in names:
            with Image.open(io.BytesIO(archive.read(name))) as picture:
                width, height = picture.size
                side = round(width * 148 / 178)
                left, top = (width - side) / 2, (height - side) / 2
                picture.resize(
                    (64, 64),
                    Image.Resampling.BICUBIC,
                    (left, top, left + side, top + side),
                ).convert("RGB")
        return len(names) / (time.perf_counter() - began)


def measure(data_dir, rounds):
    """Returns the figures, each the median, the least and the greatest of rounds."""
    import keras_ae

    path = keras_ae.datasets.find("celeba", data_dir)
    if path is None or Path(path).suffix != ".zip":
        raise FileNotFoundError("`--data-dir` must have CelebA's zip.")
    decoding, second, alone = [], [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as cache:
            count, seconds = start(data_dir, cache)
            decoding.append(count / seconds / machine.cores())
            second.append(start(data_dir, cache)[1])
        alone.append(pillow_alone(path))
    return {
        "pictures": count,
        "pictures_a_second_a_core": machine.spread(decoding),
        "pillow_pictures_a_second": machine.spread(alone),
        "share_of_pillow": machine.spread(
            [ours / theirs for ours, theirs in zip(decoding, alone, strict=True)]
        ),
        "second_start_seconds": machine.spread(second),
    }
