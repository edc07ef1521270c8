"""Images of all formats, opened lazily behind one interface: one file a format."""

from pipeline.volume.sources.formats import open_source
from pipeline.volume.sources.reading import Reading
from pipeline.volume.sources.source import Source
from pipeline.volume.sources.values import map_values

__all__ = ["Reading", "Source", "map_values", "open_source"]
