"""Where bytes lie: a folder or a prefix of an object store, by one small interface.

Volumes, ledgers and results know only :class:`Place`. What an operation promises is the same for both kinds: a put is
atomic and durable when it returns, an exclusive creation has one winner, and what cannot be reached is an error and
never an absence.
"""

from pipeline.store.local import PARTIAL, LocalPlace, fsync, make_folder, put_file
from pipeline.store.objects import ObjectPlace
from pipeline.store.open import absolute, open_place, same_place
from pipeline.store.place import Appender, Entry, Place, Stat

__all__ = [
    "PARTIAL",
    "Appender",
    "Entry",
    "LocalPlace",
    "ObjectPlace",
    "Place",
    "Stat",
    "absolute",
    "fsync",
    "make_folder",
    "open_place",
    "put_file",
    "same_place",
]
