"""What a Dockerfile says, as far as our own checks and the processes in place of containers need it."""

from __future__ import annotations

import fnmatch
import json
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Instruction:
    """One instruction, its lines joined and comments left out."""

    name: str
    value: str

    @property
    def words(self) -> list[str]:
        """The value as words; of the exec form, those of its list."""
        return json.loads(self.value) if self.value.startswith("[") else self.value.split()


def read_dockerfile(path: Path) -> list[Instruction]:
    """Return the instructions of a Dockerfile, in order."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [Instruction(*line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def last_stage(instructions: list[Instruction]) -> list[Instruction]:
    """Return the instructions of the stage that becomes the image."""
    start = max(i for i, each in enumerate(instructions) if each.name == "FROM")
    return instructions[start:]


def variables(instructions: list[Instruction]) -> dict[str, str]:
    """Return what ``ENV`` sets."""
    pairs = [word.split("=", 1) for each in instructions if each.name == "ENV" for word in each.words]
    return {name: value for name, value in pairs}


def is_sent(ignored: list[str], path: str) -> bool:
    """Whether a file of the context goes to the engine: the last pattern of .dockerignore that fits it decides."""
    sent = True
    for pattern in (line.strip() for line in ignored):
        if not pattern or pattern.startswith("#"):
            continue
        negated, bare = pattern.startswith("!"), pattern.lstrip("!")
        parents = [path, *(str(parent) for parent in Path(path).parents if str(parent) != ".")]
        tails = parents if not bare.startswith("**/") else [part for part in Path(path).parts]
        if any(fnmatch.fnmatchcase(tail, bare.removeprefix("**/")) for tail in tails):
            sent = negated
    return sent
