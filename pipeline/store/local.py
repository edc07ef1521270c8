"""A folder as a place: atomic through rename and link, durable through fsync of files and folders."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from zarr.storage import LocalStore

from pipeline.store.place import Entry, Stat

PARTIAL = ".partial"
"""Ending of a file that is being written; a leftover means that a process died there, and is harmless."""

LINKS = 5
"""How often a file is linked anew that another process removed as a leftover."""


class LocalPlace:
    """A folder; made when the first object is stored in it.

    Attributes:
        root: the folder.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def __repr__(self) -> str:
        return f"LocalPlace({str(self.root)!r})"

    @property
    def url(self) -> str:
        """The folder's path."""
        return str(self.root)

    def at(self, key: str) -> LocalPlace:
        """Return a folder inside."""
        return LocalPlace(self.root / key)

    def beside(self, ending: str) -> LocalPlace:
        """Return the folder of the same name with an ending."""
        return LocalPlace(self.root.with_name(self.root.name + ending))

    def get(self, key: str) -> bytes:
        """Return a file's bytes."""
        return (self.root / key).read_bytes()

    def tail(self, key: str, count: int) -> bytes:
        """Return the end of a file."""
        with (self.root / key).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - count))
            return file.read(count)

    def stats(self, keys: Sequence[str]) -> list[Stat | None]:
        """Return size and identity of files."""
        return [self._stat(key) for key in keys]

    def put(self, key: str, data: bytes) -> None:
        """Store a file."""
        put_file(self.root / key, data)

    def create(self, key: str, data: bytes) -> bool:
        """Store a file with its whole content at once, unless it is there already."""
        path = self.root / key
        for attempt in range(1, LINKS + 1):
            with _partial(path, data) as partial:
                try:
                    os.link(partial, path)
                except FileExistsError:
                    return False
                except FileNotFoundError:  # another process took it for a leftover of a dead one
                    if attempt == LINKS:
                        raise
                    continue
            break
        fsync(path.parent)
        return True

    def delete(self, key: str) -> None:
        """Remove a file, durably."""
        path = self.root / key
        try:
            path.unlink()
        except FileNotFoundError:
            return
        fsync(path.parent)

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """Yield every file below a folder; none where the folder is not there."""
        base = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        folders = [base]
        while folders:
            folder = folders.pop()
            try:
                scan = os.scandir(self.root / folder)
            except FileNotFoundError:
                continue
            with scan:
                for entry in scan:
                    key = f"{folder}{entry.name}"
                    if entry.is_dir():
                        folders.append(f"{key}/")
                        continue
                    with contextlib.suppress(FileNotFoundError):  # gone since it was listed
                        yield Entry(key, _stat(entry.stat()))

    def appender(self, key: str) -> FileAppender:
        """Begin a file that grows."""
        return FileAppender(self.root / key)

    def zarr_store(self, *, read_only: bool) -> LocalStore:
        """Return the folder as a Zarr store."""
        return LocalStore(self.root, read_only=read_only)

    def _stat(self, key: str) -> Stat | None:
        try:
            return _stat(os.stat(self.root / key))
        except (FileNotFoundError, NotADirectoryError):
            return None


class FileAppender:
    """A file that grows by whole lines, of one process; what was written survives the process at once."""

    def __init__(self, path: Path) -> None:
        make_folder(path.parent)
        self._file = path.open("xb", buffering=0)
        try:
            fsync(path.parent)
        except BaseException:
            self._file.close()
            raise
        self._torn = False
        self._unsynced = False

    def append(self, data: bytes) -> None:
        """Write whole lines; after a write that was cut short (disk full), begin on a new one."""
        view = memoryview(b"\n" + data if self._torn else data)
        self._torn = self._unsynced = True
        while view:
            view = view[self._file.write(view) :]
        self._torn = False

    def sync(self) -> None:
        """Force the file to the disk, if something was written since."""
        if self._unsynced:
            os.fsync(self._file.fileno())
            self._unsynced = False

    def close(self) -> None:
        """Force the file to the disk, and close it."""
        if not self._file.closed:
            try:
                self.sync()
            finally:
                self._file.close()


def put_file(path: Path, data: bytes) -> None:
    """Put a file in place, atomically and durably: other processes see the old bytes or the new ones."""
    with _partial(path, data) as partial:
        os.replace(partial, path)
    fsync(path.parent)


@contextlib.contextmanager
def _partial(path: Path, data: bytes) -> Iterator[Path]:
    """Give a durable file of the bytes beside ``path``, and remove it if it is still there afterwards."""
    make_folder(path.parent)
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}{PARTIAL}")
    try:
        with partial.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, each name forced to the disk."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    fsync(folder.parent)


def fsync(path: Path) -> None:
    """Force a file's bytes, or a folder's names, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _stat(found: os.stat_result) -> Stat:
    return Stat(found.st_size, f"{found.st_size}-{found.st_mtime_ns}")
