"""Masks: which voxels of an image are foreground, found out once for the whole of it and never chunk by chunk."""
