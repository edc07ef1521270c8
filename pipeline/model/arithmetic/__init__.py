"""Arithmetic that is the same for every voxel: the bits of a result do not hang on the size of the input around it."""

from pipeline.model.arithmetic.mode import fix_arithmetic

__all__ = ["fix_arithmetic"]
