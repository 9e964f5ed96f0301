"""Packages of keras-ae, and who imports whom: `python tests/house.py`."""

import ast
import functools
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "keras_ae"


def room_of(path: Path, package: Path = PACKAGE) -> str:
    """The package or module at the top level that a file belongs to."""
    return path.relative_to(package).parts[0].removesuffix(".py")


def imported_modules(path: Path) -> Iterator[str]:
    """Every module that a file names in an import, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} has a relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imports(package: Path = PACKAGE) -> dict[str, set[str]]:
    """The rooms that each room imports."""
    files = [path for path in package.rglob("*.py") if path.parent != package]
    files += [path for path in package.glob("*.py") if path.name != "__init__.py"]
    rooms = {room_of(path, package) for path in files}
    found = {room: set() for room in sorted(rooms)}
    for path in files:
        room = room_of(path, package)
        found[room] |= {
            name.split(".")[1]
            for name in imported_modules(path)
            if name.startswith("keras_ae.")
        } & (rooms - {room})
    return found


def main():
    found = imports()

    @functools.cache
    def chain(room):
        longest = max(map(chain, found[room]), key=len, default=())
        return (room, *longest)

    for room in sorted(found, key=lambda room: (len(chain(room)), room)):
        print(f"{len(chain(room))}  {room:13} {' '.join(sorted(found[room]))}")
    longest = max(map(chain, found), key=len)
    print(
        f"{len(found)} packages and modules, {sum(map(len, found.values()))} imports "
        f"between them; the longest chain: {' -> '.join(longest)}"
    )


if __name__ == "__main__":
    sys.exit(main())
