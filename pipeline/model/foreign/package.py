"""A package of files: a folder, or a zip that is unpacked for a while; nothing is read from outside it."""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from pipeline.errors import ModelError

DESCRIPTIONS = ("bioimageio.yaml", "rdf.yaml", "model.yaml")
_LARGEST_DESCRIPTION = 4 << 20
_LARGEST_PACKAGE = 32 << 30


def is_package(path: Path) -> bool:
    """Whether a path is a package of bioimage.io by its name: a folder, a zip, or its description."""
    return path.is_dir() or path.suffix in (".zip", ".yaml", ".yml")


@contextmanager
def opened(path: Path) -> Iterator[Path]:
    """Give the description of a package as a file with the package's other files beside it.

    Args:
        path: folder, zip, or the description itself.

    Raises:
        ModelError: if there is no package, or its zip is damaged, unsafe or too large.
    """
    if path.is_dir():
        yield _description(path)
    elif not path.is_file():
        raise ModelError(f"There is no package {path}.")
    elif path.suffix != ".zip":
        yield path
    else:
        with tempfile.TemporaryDirectory(prefix="overtile-") as folder:
            _unpack(path, Path(folder))
            yield _description(Path(folder), path)


def read_description(path: Path) -> dict[str, Any]:
    """Read a description as it is written.

    Raises:
        ModelError: if it is too large or not YAML.
    """
    try:
        if path.stat().st_size > _LARGEST_DESCRIPTION:
            raise ModelError(
                f"The description {path.name} has {path.stat().st_size >> 20} MiB: that is no description."
            )
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ModelError(f"The description {path} cannot be read: {error}.") from error
    if not isinstance(content, dict):
        raise ModelError(f"The description {path} is not one of bioimage.io: it has no `key: value` lines.")
    return content


def file_of(folder: Path, entry: Mapping[str, Any]) -> Path:
    """Return a file that a description names, if it is in the package and is what the description says.

    Args:
        folder: of the description.
        entry: ``source``, and ``sha256`` or None.

    Raises:
        ModelError: if it is an address, outside the package, not there, or of another digest.
    """
    source = str(entry["source"])
    if ":" in source.partition("/")[0]:
        raise ModelError(
            f"The package names {source} by its address; nothing is downloaded here. Download the whole package (a"
            " zip), or put the file into it and its name into the description."
        )
    path = (folder / source).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ModelError(f"The package names {source}, which lies outside of it: put the file into the package.")
    if not path.is_file():
        raise ModelError(f"The package has no file {source}, which its description names.")
    said = entry.get("sha256")
    if said is not None:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != str(said):
            raise ModelError(
                f"{source} is not the file that the package's description means: its sha256 is {found}, not {said};"
                " get the package anew."
            )
    return path


def _description(folder: Path, package: Path | None = None) -> Path:
    """Find the description in a folder."""
    for name in DESCRIPTIONS:
        if (folder / name).is_file():
            return folder / name
    raise ModelError(
        f"{package or folder} is not a package of bioimage.io: it has no {' or '.join(DESCRIPTIONS)} at its top."
    )


def _unpack(path: Path, folder: Path) -> None:
    """Unpack a zip into a folder, if everything of it stays there."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            for entry in entries:
                name = PurePosixPath(entry.filename.replace("\\", "/"))
                if name.is_absolute() or ".." in name.parts:
                    raise ModelError(
                        f"The package {path} has the entry {entry.filename!r}, which leads out of it."
                    )
            total = sum(entry.file_size for entry in entries)
            if total > _LARGEST_PACKAGE:
                raise ModelError(
                    f"The package {path} unpacks to {total >> 30} GiB, more than {_LARGEST_PACKAGE >> 30} GiB: unpack"
                    " it yourself, and give the folder."
                )
            archive.extractall(folder)
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise ModelError(f"The package {path} cannot be unpacked: {error}.") from error
