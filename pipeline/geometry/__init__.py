"""Boxes, grids, tiles and the reach of networks: pure numbers, without any input or output."""

from pipeline.geometry.box import Box
from pipeline.geometry.grid import Grid
from pipeline.geometry.mirror import mirror, mirrored_index, visible_box
from pipeline.geometry.reach import POINTWISE, Reach
from pipeline.geometry.tiles import Tile, TileLayout

__all__ = [
    "POINTWISE",
    "Box",
    "Grid",
    "Reach",
    "Tile",
    "TileLayout",
    "mirror",
    "mirrored_index",
    "visible_box",
]
