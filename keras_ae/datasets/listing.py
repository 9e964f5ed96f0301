"""Which pictures there are in a folder or zip."""

import collections
import os
import posixpath
import threading
import zipfile
from pathlib import Path

import numpy as np

from keras_ae.datasets import shard_files
from keras_ae.datasets.pictures import UNREAD, is_picture


class Pictures:
    """The picture files of a folder or zip, to any depth, sorted by name.

    Hidden files are left out, links to folders followed. Nothing is read but the
    listing.

    Args:
        location: Path of a folder or zip.
        within: Name of the sub-folder to which the pictures belong. None takes
            them all.

    Attributes:
        names: Paths of the pictures inside the folder or zip.
        stamps: For each picture, what changes when its content does: size and
            times in a folder, size and checksum in a zip.
        shards: Paths of the shards that are in the folder, too.
        unread: How many pictures there are of each kind that can't be read.
    """

    def __init__(self, location, within=None):
        self.location = Path(location).expanduser()
        self.shards: list[Path] = []
        self.unread: collections.Counter[str] = collections.Counter()
        if self.location.is_dir():
            self._zip = None
            found = self._scan_folder("" if within is None else f"{within}/")
        elif not self.location.exists():
            raise FileNotFoundError(
                f"There is no picture, folder or zip at {self.location}."
            )
        else:
            check_file(self.location)
            try:
                self._zip = zipfile.ZipFile(self.location)
            except zipfile.BadZipFile as error:
                raise ValueError(
                    "Expected a folder or a zip of pictures. Received a file that is "
                    f"neither, or a damaged zip: {self.location}"
                ) from error
            # Members can be read from several threads, but not at the same time.
            self._lock = threading.Lock()
            found = self._scan_zip(within)
        found = sorted(found)
        self.names = [name for name, _ in found]
        self.stamps = [stamp for _, stamp in found]

    def _scan_folder(self, prefix):
        """Each folder once, by its own name rather than that of a link to it.

        Runs in them are left out: what they have drawn is no picture to learn from.
        """
        first, root = prefix, Path(os.path.realpath(self.location / prefix))
        # A link to what it is in leads nowhere else.
        seen, prefixes, links = {*map(str, root.parents)}, [prefix], []
        while prefixes or links:
            if not prefixes:
                prefixes.append(links.pop(links.index(min(links))))
            prefix = prefixes.pop()
            real = os.path.realpath(self.location / prefix)
            if real not in seen and (prefix == first or not _is_run(real)):
                seen.add(real)
                yield from self._scan_one(prefix, prefixes, links)

    def _scan_one(self, prefix, folders, links):
        """The pictures in one folder; adds the folders in it, and links to such."""
        with os.scandir(self.location / prefix) as entries:
            for entry in entries:
                name = f"{prefix}{entry.name}"
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append(f"{name}/")
                elif entry.is_symlink() and os.path.isdir(entry.path):
                    links.append(f"{name}/")
                elif shard_files.looks_like_one(entry.name):
                    self.shards.append(Path(entry.path))
                elif is_picture(name) and os.path.isfile(entry.path):
                    status = entry.stat()
                    # Unpacking and copying may bring the second from elsewhere, the
                    # third is always of this file.
                    stamp = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
                    yield name, stamp
                else:
                    self._note_unread(name)

    def _note_unread(self, name):
        suffix = posixpath.splitext(name)[1].lower()
        self.unread.update([suffix] if suffix in UNREAD else [])

    def _scan_zip(self, within):
        # As they are unpacked: of one name the last; Windows may write backslashes.
        self._members = {
            member.filename.replace("\\", "/"): member
            for member in self._zip.infolist()
        }
        for name, member in self._members.items():
            folders = name.split("/")[:-1]
            if "/." in f"/{name}" or "__MACOSX" in folders:
                continue
            if within is not None and within not in folders:
                continue
            if is_picture(name):
                yield name, (member.file_size, member.CRC)
            else:
                self._note_unread(name)

    def __len__(self):
        return len(self.names)

    def read(self, index):
        """Returns the bytes of a picture."""
        if self._zip is None:
            return (self.location / self.names[index]).read_bytes()
        with self._lock:
            return self._zip.read(self._members[self.names[index]])

    def sample(self):
        """Returns the numbers of at most 256 pictures, to be looked at."""
        count = len(self)
        return np.unique(np.linspace(0, count - 1, min(count, 256)).astype(int))

    def read_text(self, file_name):
        """Returns the text of a file in the zip, or None."""
        for name, member in self._members.items() if self._zip else ():
            if posixpath.basename(name) == file_name:
                return self._zip.read(member).decode("utf-8")
        return None


def _is_run(folder):
    names = ("settings.json", "model.keras")
    return all(os.path.isfile(os.path.join(folder, name)) for name in names)


def check_file(path: str | os.PathLike) -> None:
    """Raises `ValueError` for what is there and no file: a pipe or a device waits."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"Expected a file. Received: {path}, which is none.")
