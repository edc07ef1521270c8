"""Where a job writes a checkpoint: settled before any work."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.errors import InputError

SUFFIX = ".safetensors"


def checkpoint_path(output: str) -> Path:
    """Return the path of a checkpoint that is to be written.

    Raises:
        InputError: it is no ``.safetensors`` file, is a folder, or nothing can be written there.
    """
    path = Path(output)
    if path.suffix != SUFFIX:
        raise InputError(f"output {output}: a checkpoint is a {SUFFIX} file; name it {path.stem}{SUFFIX}")
    if path.is_dir():
        raise InputError(f"output {output}: there is a folder of that name; choose another name")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"output {output}: nothing can be written in {folder}; choose another folder")
    return path
