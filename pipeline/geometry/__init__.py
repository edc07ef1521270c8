"""Boxes, grids, tiles and the reach of networks: pure numbers, without any input or output."""

from pipeline.geometry.box import Box
from pipeline.geometry.grid import Grid
from pipeline.geometry.lattice import BlendLayout, Weighting
from pipeline.geometry.mirror import mirror, mirrored_index, visible_box
from pipeline.geometry.reach import POINTWISE, Reach
from pipeline.geometry.tiles import Tile, TileLayout
from pipeline.geometry.turn import Turn

Layout = TileLayout | BlendLayout
"""How chunks are covered by tiles: exactly, or blended."""

__all__ = [
    "POINTWISE",
    "BlendLayout",
    "Box",
    "Grid",
    "Layout",
    "Reach",
    "Tile",
    "TileLayout",
    "Turn",
    "Weighting",
    "mirror",
    "mirrored_index",
    "visible_box",
]
