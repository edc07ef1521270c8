"""The state of a training on disk: what a killed training needs to go on as if nothing had happened.

Beside the checkpoint ``NAME.safetensors`` lies the folder ``NAME.training/``. Its states ``state-00000120.safetensors``
are named after the steps that are done. Each is one safetensors file: tensors (weights, moments of the optimiser,
moving average, random numbers' state, the best weights so far), and a JSON document in the file's metadata. Nothing
in it is code, so that reading one runs none. A state is written to a temporary name, forced to disk and then renamed;
it carries the digest of its own content, so that one that was cut off or has rotted is passed over.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from pipeline.errors import EnvironmentFaultError, RunMismatchError
from pipeline.store import put_file

FORMAT = "overtile-training-state/1"
STATES, PLAN, DONE = "state-*.safetensors", "plan.json", "done.json"
KEPT = 2
"""Newest states that are kept; one would do, were disks never wrong."""

FREE = frozenset(
    {"output", "restart", "dry_run", "time_limit", "cache", "loaders", "loggers", "threads", "device", "devices"}
)
"""Fields of a job that may differ when it goes on: they do not say what is learnt."""


@dataclass(frozen=True, slots=True)
class State:
    """Everything that changes while a network learns, at the end of a step.

    Attributes:
        step: steps that are done.
        tensors: by name.
        document: the rest, ready for JSON.
    """

    step: int
    tensors: Mapping[str, Tensor]
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Identity:
    """Which training something belongs to.

    Attributes:
        job: the job as it was given, ready for JSON.
        data: what identifies each image and target, by its place in the job.
    """

    job: Mapping[str, Any]
    data: Mapping[str, str]

    def parts(self) -> dict[str, Any]:
        """Return everything that must be the same, by name, as JSON has it."""
        kept = {name: value for name, value in self.job.items() if name not in FREE}
        parts: dict[str, Any] = json.loads(json.dumps({"job": kept, "data": self.data}))
        return parts

    @property
    def fingerprint(self) -> str:
        """Digest of all parts."""
        text = json.dumps(self.parts(), sort_keys=True)
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


class TrainingFolder:
    """The folder of one training: its plan in ``plan.json``, and its states.

    Args:
        path: where it is; made when something is first written.
        identity: which training it is.
    """

    def __init__(self, path: Path, identity: Identity) -> None:
        self.path = path
        self.identity = identity

    def part(self, name: str) -> TrainingFolder:
        """Return the folder of a part of the training (a fold), below this one."""
        return TrainingFolder(self.path / name, self.identity)

    def plan(self) -> dict[str, Any] | None:
        """Return what the training was begun with; None where none was begun.

        Raises:
            RunMismatchError: another job was begun here, or the data have changed; what differs is named.
        """
        found = self.document(PLAN)
        if found is None:
            return None
        differing = _differences(found["parts"], self.identity.parts())
        if differing:
            raise RunMismatchError(
                f"{self.path} holds another training that is not finished ({'; '.join(differing)}): give the job that"
                " it was begun with, another output, or --restart to throw it away and begin anew"
            )
        plan: dict[str, Any] = found["plan"]
        return plan

    def begin(self, plan: Mapping[str, Any]) -> None:
        """Write down what the training is begun with. Errors as :meth:`write`."""
        self.put(PLAN, {"format": FORMAT, "parts": self.identity.parts(), "plan": plan})

    def document(self, name: str) -> dict[str, Any] | None:
        """Return a JSON document of the folder; None where it is not there or not whole."""
        try:
            found = json.loads((self.path / name).read_text())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def put(self, name: str, document: Mapping[str, Any]) -> None:
        """Write a JSON document, in one step. Errors as :meth:`write`."""
        self._put(self.path / name, (json.dumps(document, indent=2) + "\n").encode())

    def newest(self, note: Callable[[str], None]) -> State | None:
        """Read the newest state that is whole and of this training; None where there is none.

        Args:
            note: told of states that are not.
        """
        for path in sorted(self.path.glob(STATES), reverse=True):
            found = _read(path)
            if found is None or found[0]["fingerprint"] != self.identity.fingerprint:
                why = "not whole" if found is None else "of another training"
                note(f"{path.name} is {why}: passed over")
                continue
            document, tensors = found
            return State(document["step"], tensors, document["state"])
        return None

    def write(self, state: State) -> None:
        """Write a state, and delete those that are no longer needed.

        Raises:
            EnvironmentFaultError: it cannot be written; older states are as they were.
        """
        tensors = {name: value.detach().cpu().contiguous() for name, value in state.tensors.items()}
        document = {
            "format": FORMAT,
            "step": state.step,
            "digest": _digest(tensors, state.document),
            "fingerprint": self.identity.fingerprint,
            "state": state.document,
        }
        content = save(tensors, metadata={"overtile": json.dumps(document)})
        self._put(self.path / f"state-{state.step:08d}.safetensors", content)
        for old in sorted(self.path.glob(STATES))[:-KEPT]:
            old.unlink(missing_ok=True)

    def clear(self) -> None:
        """Delete the plan, all states and the documents of folds, here and below; pictures and logs stay."""
        for pattern in (STATES, PLAN, DONE):
            for path in [*self.path.glob(pattern), *self.path.glob(f"*/{pattern}")]:
                path.unlink(missing_ok=True)

    def _put(self, path: Path, content: bytes) -> None:
        try:
            put_file(path, content)
        except OSError as error:
            raise EnvironmentFaultError(f"{path} cannot be written ({error}); the training stops") from error


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """Return a state's document and tensors, or None if the file is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            document = json.loads((file.metadata() or {})["overtile"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        whole = document["format"] == FORMAT and document["digest"] == _digest(tensors, document["state"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None
    return (document, tensors) if whole else None


def _digest(tensors: Mapping[str, Tensor], document: Mapping[str, Any]) -> str:
    """Return the digest of a state's content."""
    found = hashlib.blake2b(json.dumps(document, sort_keys=True).encode(), digest_size=16)
    for name in sorted(tensors):
        found.update(name.encode())
        found.update(tensors[name].contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Return in words what differs, by the names that the job has."""
    sides = [dict(_leaves(side["job"])) for side in (there, here)]
    names = sorted({*sides[0], *sides[1]})
    found = [
        f"{name}: {_short(sides[0].get(name))} there, {_short(sides[1].get(name))} here"
        for name in names
        if sides[0].get(name) != sides[1].get(name)
    ]
    data = {*there["data"], *here["data"]}
    changed = sorted(name for name in data if there["data"].get(name) != here["data"].get(name))
    return found or [f"the data of {name} have changed" for name in changed]


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield everything in a JSON value that holds nothing else, by its path."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if not parts:
        yield name, value
    for key, part in parts:
        yield from _leaves(part, f"{name}.{key}" if name else str(key))


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
