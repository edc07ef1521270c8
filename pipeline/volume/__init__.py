"""Volumes in Zarr: open, read, create and write them; OME-NGFF metadata; pyramids; ingest of other formats."""

from pipeline.volume.create import ArraySpec, create_level, default_shard, inner_chunk, publish
from pipeline.volume.space import Space
from pipeline.volume.volume import Volume, open_volume
from pipeline.volume.write import ShardWriter, Stored, digest_bytes, put_file

__all__ = [
    "ArraySpec",
    "ShardWriter",
    "Space",
    "Stored",
    "Volume",
    "create_level",
    "default_shard",
    "digest_bytes",
    "inner_chunk",
    "open_volume",
    "publish",
    "put_file",
]
