"""Ingest: images of other formats, opened lazily behind one interface and copied into OME-Zarr out of core."""

from pipeline.volume.ingest.copying import Ingested, ingest
from pipeline.volume.ingest.formats import open_source
from pipeline.volume.ingest.source import Source
from pipeline.volume.ingest.values import map_values

__all__ = ["Ingested", "Source", "ingest", "map_values", "open_source"]
