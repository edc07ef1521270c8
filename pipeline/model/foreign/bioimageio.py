"""A package of bioimage.io as a network to convert: its description read, and refused where Overtile differs.

The description (format 0.4 or 0.5) is checked by the ``bioimageio.spec`` library, without looking at the network or
at other files, and read in its form of version 0.5.
"""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.errors import ModelError
from pipeline.model.checkpoint import Scalar
from pipeline.model.constructors import code_name
from pipeline.model.foreign.described import Claims, Described, Reference
from pipeline.model.foreign.package import file_of, read_description
from pipeline.model.foreign.processing import global_normalisation, output_meaning
from pipeline.model.network import OutputMeaning

_SPACES = {2: ("y", "x"), 3: ("z", "y", "x")}
_WEIGHTS = "pytorch_state_dict"
Document = Mapping[str, Any]


def read_package(
    description: Path, *, trust: frozenset[str], normalised: bool, said: OutputMeaning | None
) -> Described:
    """Read what a package says of its network.

    Args:
        description: its ``rdf.yaml`` or ``bioimageio.yaml``, the package's files beside it.
        trust: digests (``sha256:...``) of files that the user vouches for: code is only taken if it is one of them.
        normalised: whether the job gives a mean and a standard deviation, which replace preprocessing.
        said: what the job says that the network gives, if it does.

    Raises:
        ModelError: if the description is invalid, names what is not in the package, or says what a checkpoint or
            Overtile cannot; the message says what.
    """
    document, folder = _validated(description), description.parent
    image, output = _only(document["inputs"], "inputs"), _only(document["outputs"], "outputs")
    ids, inner = _axes(image, "input"), _axes(output, "output")
    if list(ids) != list(inner):
        raise ModelError(f"The package's output has the axes {', '.join(inner)}, its input {', '.join(ids)}.")
    entry = _weights_entry(document["weights"])
    code, constructor = _constructor(folder, entry["architecture"], trust)
    channels, outputs = (len(axes["channel"]["channel_names"]) for axes in (ids, inner))
    meaning, threshold = output_meaning(output["postprocessing"], outputs, said)
    found = Described(
        weights=file_of(folder, entry),
        constructor=constructor,
        arguments=entry["architecture"]["kwargs"],
        trust=trust,
        code=code,
        dims=len(ids) - 2,
        in_channels=channels,
        classes=_classes(inner["channel"]["channel_names"]),
        output_meaning=meaning,
        threshold=threshold,
        reference=_reference(folder, document, tuple(ids), normalised=normalised),
        claims=_claims(ids, inner, outputs),
        provenance=_provenance(document),
    )
    found = _with_voxels(found, ids)
    if normalised:
        steps = [step["id"] for step in image["preprocessing"] if step["id"] != "ensure_dtype"]
        note = f"the job's mean and std replace the package's preprocessing ({', '.join(steps)})"
        return replace(found, notes=(*found.notes, note)) if steps else found
    mean, std = global_normalisation(image["preprocessing"], channels) or (None, None)
    return replace(found, mean=mean, std=std)


def _validated(path: Path) -> Document:
    """Return the description in the form of version 0.5."""
    try:
        library = importlib.import_module("bioimageio.spec")
    except ImportError as error:
        raise ModelError(
            "A package of bioimage.io is read with bioimageio.spec, which is not installed: pip install"
            " overtile[bioimageio]."
        ) from error
    importlib.import_module("loguru").logger.disable("pydantic")  # under whose name the library logs what it mends
    content = read_description(path)
    _mend(content)
    context = library.ValidationContext(
        root=path.parent, file_name=path.name, perform_io_checks=False, log_warnings=False
    )
    found = None
    for version in ("discover", "latest"):  # in its own version first, so that messages speak of its own fields
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = library.build_description(dict(content), context=context, format_version=version)
        if isinstance(found, library.InvalidDescr):
            raise ModelError(f"The description {path.name} is not valid: {_one_line(found.get_reason())}.")
        if found.type != "model":
            raise ModelError(f"The package is a {found.type}, not a model.")
    assert found is not None
    document: Document = found.model_dump(mode="json")
    return document


def _mend(content: dict[str, Any]) -> None:
    """Take ``axes`` from a scaling of version 0.4 that has one gain for all: they say nothing, and do not convert."""
    tensors = [*_listed(content.get("inputs")), *_listed(content.get("outputs"))]
    steps = [s for t in tensors for key in ("preprocessing", "postprocessing") for s in _listed(t.get(key))]
    for kwargs in (step.get("kwargs") for step in steps if step.get("name") == "scale_linear"):
        if isinstance(kwargs, dict) and not any(isinstance(kwargs.get(key), list) for key in ("gain", "offset")):
            kwargs.pop("axes", None)


def _listed(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _only(tensors: Sequence[Document], what: str) -> Document:
    """Return the one input or output."""
    if len(tensors) != 1:
        names = ", ".join(str(tensor["id"]) for tensor in tensors)
        raise ModelError(
            f"The package's network has {len(tensors)} {what} ({names}); Overtile runs networks of one."
        )
    return tensors[0]


def _axes(tensor: Document, what: str) -> dict[str, Document]:
    """Return the axes by their ids, if they are those of the tensors that Overtile gives to a network."""
    axes = {("batch" if axis["type"] == "batch" else "channel" if axis["type"] == "channel" else str(axis["id"])): axis
            for axis in tensor["axes"]}  # fmt: skip
    if tuple(axes) not in [("batch", "channel", *space) for space in _SPACES.values()]:
        raise ModelError(
            f"The package's {what} has the axes {', '.join(axes)}; Overtile gives a network batch, channel, [z], y, x."
        )
    return axes


def _weights_entry(weights: Document) -> Document:
    """Return the entry of the weights, if they are of the one kind that is no program."""
    entry = weights.get(_WEIGHTS)
    if entry is None:
        others = ", ".join(name for name, value in weights.items() if value is not None)
        raise ModelError(
            f"The package has weights as {others}; Overtile takes {_WEIGHTS}, because it needs the network itself to"
            " measure it. Ask its authors for these, or convert from the original weights and constructor."
        )
    found: Document = entry
    return found


def _constructor(folder: Path, architecture: Document, trust: frozenset[str]) -> tuple[bytes | None, str]:
    """Return the code of the network, if the package has it, and the constructor's name."""
    if "import_from" in architecture:
        return None, f"{architecture['import_from']}:{architecture['callable']}"
    path = file_of(folder, architecture)
    code = path.read_bytes()
    name = code_name(code)
    digest = name.replace("_", ":", 1)
    if digest not in trust:
        raise ModelError(
            f"The package makes its network with Python code of its own, {architecture['source']}, which would be run"
            f" here. Read it; if you trust exactly that file, give trust: {digest}."
        )
    return code, f"{name}:{architecture['callable']}"


def _classes(names: Sequence[str]) -> tuple[str, ...] | None:
    """Return the channels' names as names of classes, where they name something."""
    told = [str(name) for name in names]
    if len(set(told)) != len(told) or any(name.rstrip("0123456789") in ("", "channel", "c") for name in told):
        return None
    return tuple(told) if len(told) > 1 else ("background", told[0]) if told[0] != "background" else None


def _claims(ids: Document, inner: Document, outputs: int) -> Claims:
    """Return what the package says of halo and sizes, along each spatial axis."""
    space = list(ids)[2:]
    for axis in space:
        if not math.isclose(ids[axis]["scale"], inner[axis]["scale"]):
            raise ModelError(
                f"The package's output has another voxel size along {axis} than its input ({inner[axis]['scale']:g},"
                f" {ids[axis]['scale']:g}); Overtile writes a voxel for each voxel."
            )
    return Claims(
        outputs=outputs,
        halo=tuple(int(inner[axis].get("halo") or 0) for axis in space),
        sizes=tuple(_size(ids[axis]["size"]) for axis in space),
    )


def _size(size: object) -> tuple[int, int]:
    """Return the smallest length and the step; (0, 0) where it follows another axis."""
    if isinstance(size, int):
        return size, 0
    assert isinstance(size, Mapping)
    return (int(size["min"]), int(size["step"])) if "min" in size else (0, 0)


def _with_voxels(found: Described, ids: Document) -> Described:
    """Add the voxel size, where it has one unit."""
    space = list(ids)[2:]
    units = {ids[axis].get("unit") for axis in space}
    if len(units) > 1:
        return replace(found, notes=(*found.notes, "the axes have several units: no voxel size was kept"))
    unit = units.pop()
    if unit is None:
        return found
    return replace(found, unit=str(unit), voxel_size=tuple(float(ids[axis]["scale"]) for axis in space))


def _reference(folder: Path, document: Document, axes: tuple[str, ...], *, normalised: bool) -> Reference | None:
    """Return the package's test tensors, where it has them."""
    image, output = document["inputs"][0], document["outputs"][0]
    if image.get("test_tensor") is None or output.get("test_tensor") is None:
        return None
    tolerance = _tolerance(document.get("config") or {}, str(output["id"]), output["data"])
    return Reference(
        input=file_of(folder, image["test_tensor"]),
        output=file_of(folder, output["test_tensor"]),
        axes=axes,
        preprocessing=tuple(image["preprocessing"]) if normalised else None,
        postprocessing=tuple(output["postprocessing"]),
        relative=float(tolerance.get("relative_tolerance", 1e-3)),
        absolute=float(tolerance.get("absolute_tolerance", 1e-3)),
        mismatched=float(tolerance.get("mismatched_elements_per_million", 100)),
    )


def _tolerance(config: Document, output: str, data: Any) -> Document:
    """Return the first tolerance that is for this output and these weights."""
    kind = str((data[0] if isinstance(data, list) else data).get("type", "float32"))
    generic = "any_continuous_output" if kind.startswith("float") else "any_discrete_output"
    for entry in _listed((config.get("bioimageio") or {}).get("reproducibility_tolerance")):
        formats, outputs = entry.get("weights_formats") or [], entry.get("output_ids") or []
        if (not formats or _WEIGHTS in formats) and (not outputs or outputs == generic or output in outputs):
            return entry
    return {}


def _provenance(document: Document) -> dict[str, Scalar]:
    """Return where the network comes from, as a checkpoint says it."""
    cite = [" ".join(filter(None, (c["text"], str(c.get("doi") or c.get("url") or "")))) for c in document["cite"]]
    documentation = document.get("documentation")
    return {
        "name": document["name"],
        "version": None if document.get("version") is None else str(document["version"]),
        "license": None if document.get("license") is None else str(document["license"]),
        "authors": ", ".join(str(author["name"]) for author in document.get("authors") or []) or None,
        "citation": "; ".join(cite) or None,
        "documentation": None if documentation is None else str(documentation["source"]),
        "bioimageio_id": None if document.get("id") is None else str(document["id"]),
        "bioimageio_format": str(document["format_version"]),
    }


def _one_line(text: str) -> str:
    return "; ".join(line.strip(" -") for line in text.splitlines() if line.strip())
