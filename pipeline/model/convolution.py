"""Where the engine finds :func:`fix_arithmetic`; the arithmetic itself is ``pipeline.model.arithmetic``."""

from pipeline.model.arithmetic import fix_arithmetic

__all__ = ["fix_arithmetic"]
