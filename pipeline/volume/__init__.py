"""Volumes in Zarr: open, read, create and write them; OME-NGFF metadata; pyramids; ingest of other formats."""

from pipeline.volume.create import (
    ArraySpec,
    create_level,
    default_shard,
    ensure_level,
    inner_chunk,
    is_published,
    publish,
)
from pipeline.volume.look import Look
from pipeline.volume.opening import open_volume
from pipeline.volume.pyramid import PyramidLevel, build_pyramid, plan_pyramid, reduce
from pipeline.volume.shards import Tally, write_shards
from pipeline.volume.space import Space
from pipeline.volume.volume import Volume
from pipeline.volume.write import ShardWriter, Stored, digest_bytes

__all__ = [
    "ArraySpec",
    "Look",
    "PyramidLevel",
    "ShardWriter",
    "Space",
    "Stored",
    "Tally",
    "Volume",
    "build_pyramid",
    "create_level",
    "default_shard",
    "digest_bytes",
    "ensure_level",
    "inner_chunk",
    "is_published",
    "open_volume",
    "plan_pyramid",
    "publish",
    "reduce",
    "write_shards",
]
