"""What a report says of a run's making: image, model, settings, and the command line that makes it again."""

from __future__ import annotations

import shlex
from typing import Any

from pipeline.config import SegmentJob
from pipeline.errors import ModelError
from pipeline.model.checkpoint import describe
from pipeline.reporting.recorded import Recorded
from pipeline.reporting.words import NO_BREAK, by, date, symbol, whole
from pipeline.volume import Space

Rows = list[tuple[str, str]]


def model_facts(run: Recorded) -> tuple[Rows, str | None]:
    """Return the model's card, and what is amiss with its file (None where nothing is)."""
    plan, path = run.plan, run.settings["model"]
    recorded = run.document["identity"]["model"]["digest"]
    known: Rows = [
        ("Classes", ", ".join(run.classes)),
        *_tiling(plan),
        ("Digest", recorded),
    ]
    try:
        card = describe(path)
    except ModelError as error:
        return known, f"The checkpoint is not there any more; what follows is what the run recorded. {error}"
    if card["digest"] != recorded:
        return known, (
            f"{path} holds another model now ({card['digest']}); what follows is what the run recorded of its own."
        )
    architecture = card["architecture"]
    described: Rows = [
        ("Network", _network(architecture)),
        ("Parameters", whole(card["parameters"])),
        ("Normalisation", _normalisation(card["normalisation"])),
    ]
    if card["voxel_size"]:
        described.append(
            ("Trained at", f"{by(card['voxel_size'])}{NO_BREAK}{symbol(card['unit'])} ({card['axes']})")
        )
    described += [(key.replace("_", " ").capitalize(), str(value)) for key, value in card["provenance"].items()]
    return described + known, None


def input_facts(run: Recorded, space: Space | None) -> Rows:
    """Return what was segmented; ``space`` is that of the result, None where it is not there."""
    plan = run.plan["input"]
    level = f", level {plan['level']}" if plan["level"] else ""
    rows = [
        ("Volume", run.settings["input"]),
        ("Voxels", f"{by(plan['shape'])} ({plan['axes']}{level}), {plan['channels']} × {plan['dtype']}"),
    ]
    if space is not None and space.unit is not None:
        rows.append(("Voxel size", f"{by(space.voxel_size)}{NO_BREAK}{symbol(space.unit)}"))
    if run.settings["region"]:
        rows.append(("Region", run.plan["region"]))
    return rows


def settings_facts(run: Recorded) -> list[tuple[str, str, bool]]:
    """Return every setting: its name, its value, and whether it is the default."""
    fields = SegmentJob.model_fields
    place = {name: i for i, name in enumerate(SegmentJob.ordered())}
    return [
        (name, _shown(value), name in fields and not fields[name].is_required() and value == fields[name].default)
        for name, value in sorted(run.settings.items(), key=lambda item: place.get(item[0], len(place)))
    ]


def command(run: Recorded) -> str:
    """Return the command line that makes the same run, a line an option; defaults are left out."""
    settings = run.settings
    lines = [["overtile", "segment", settings["input"], settings["output"]]]
    for name in SegmentJob.ordered():
        field = SegmentJob.model_fields[name]
        value = settings.get(name)
        if name in ("input", "output") or value is None or (not field.is_required() and value == field.default):
            continue
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            lines.append([flag if value else f"--no-{flag[2:]}"])
        else:
            lines.append([flag, _shown(value)])
    return " \\\n  ".join(shlex.join(line) for line in lines)


def origin_facts(run: Recorded) -> Rows:
    """Return what identifies the run: times, fingerprint, root digest, versions."""
    rows = [("Begun", date(run.document.get("created")))]
    if run.seal:
        rows += [("Sealed", date(run.seal.get("sealed"))), ("Root digest", str(run.seal.get("root", "–")))]
    rows.append(("Fingerprint", run.document["fingerprint"]))
    versions = run.document.get("versions", {})
    rows.append(("Versions", ", ".join(f"{name}{NO_BREAK}{version}" for name, version in versions.items())))
    return rows


def _network(architecture: dict[str, Any]) -> str:
    ends = f"{architecture['in_channels']} in and {architecture['classes']} out"
    if architecture["kind"] == "constructor":
        arguments = ", ".join(f"{name}={value!r}" for name, value in architecture["arguments"].items())
        return f"{architecture['dims']}-D {architecture['constructor']}({arguments}), {ends}"
    extra = "" if architecture["norm"] == "none" else f", {architecture['norm']} normalisation"
    joined = {"concat": "concatenating skips", "add": "adding skips", "none": "no skips"}[architecture["skip"]]
    return (
        f"{architecture['dims']}-D U-Net, {architecture['depth']} levels, {architecture['width']} channels at the first"
        f" level, {ends}, {architecture['padding']} padding, {joined}{extra}"
    )


def _tiling(plan: dict[str, Any]) -> Rows:
    """Return how tiles became the whole, and what keeps the network from being exact."""
    turns = {"none": "none", "flips": "mean over all flips", "all": "mean over all flips and right-angle turns"}
    rows: Rows = []
    if plan["exact"]:
        rows += [("Halo", _per_axis(plan["halo"])), ("Stride", _per_axis(plan["stride"]))]
        rows.append(("Tiling", "exact: the stitched result is what the network says of the whole image at once"))
    else:
        shared = " and ".join(map(str, plan["overlap"]))
        rows.append(
            ("Tiling", f"not exact: tiles overlap by {shared} voxels and are blended ({plan['blend']} weights)")
        )
        rows += [("Because", reason) for reason in plan["reasons"]]
    return rows if plan["tta"] == "none" else [*rows, ("Turns", turns[plan["tta"]])]


def _normalisation(found: dict[str, Any]) -> str:
    pairs = zip(found["mean"], found["std"], strict=True)
    return "(voxel − mean) / std: " + ", ".join(f"{mean:g} / {std:g}" for mean, std in pairs)


def _per_axis(values: dict[str, Any]) -> str:
    return (
        ", ".join(
            f"{axis} {' + '.join(map(str, value)) if isinstance(value, list) else value}"
            for axis, value in values.items()
        )
        + f"{NO_BREAK}voxels"
    )


def _shown(value: Any) -> str:
    """Return a setting as the command line takes it."""
    if isinstance(value, list):
        return ",".join(
            ":".join("" if edge is None else str(edge) for edge in part) if isinstance(part, list) else str(part)
            for part in value
        )
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "–" if value is None else str(value)
