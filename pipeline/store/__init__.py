"""Where bytes lie: a folder, a prefix of an object store, a folder behind https, by one small interface.

Volumes, ledgers and results know only :class:`Place`, readers of files only :class:`File`. What an operation promises
is the same for all kinds: a put is atomic and durable when it returns, an exclusive creation has one winner, and what
cannot be reached is an error and never an absence.
"""

from pipeline.store.address import has_pattern, parse_address
from pipeline.store.files import File, LocalFile, list_files, open_file
from pipeline.store.local import PARTIAL, LocalPlace, fsync, make_folder, put_file
from pipeline.store.objects import ObjectPlace, WebPlace
from pipeline.store.open import absolute, open_place, place_of_store, same_place
from pipeline.store.place import Appender, Entry, Place, Stat
from pipeline.store.survey import survey

__all__ = [
    "PARTIAL",
    "Appender",
    "Entry",
    "File",
    "LocalFile",
    "LocalPlace",
    "ObjectPlace",
    "Place",
    "Stat",
    "WebPlace",
    "absolute",
    "fsync",
    "has_pattern",
    "list_files",
    "make_folder",
    "open_file",
    "open_place",
    "parse_address",
    "place_of_store",
    "put_file",
    "same_place",
    "survey",
]
