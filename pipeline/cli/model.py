"""``overtile model ...``: look at checkpoints, and make them of networks of others."""

from __future__ import annotations

from typing import Any

import click

import pipeline
from pipeline.cli.options import Console, TerminalListener, job_command, print_json
from pipeline.cli.texts import count, table
from pipeline.config import CheckJob, ConvertJob
from pipeline.errors import DamageError
from pipeline.model.checkpoint import describe


@click.group("model")
def model_command() -> None:
    """Look at checkpoints, and make them of networks of others."""


@model_command.command("info")
@click.argument("checkpoint")
@click.option("--json", "as_json", is_flag=True, help="print one JSON document to stdout")
def model_info(checkpoint: str, as_json: bool) -> None:
    r"""Say what a checkpoint is: network, classes, normalisation, halo, stride, whether it can be tiled exactly.

    \b
    Example:
      overtile model info nuclei.safetensors
    """
    found = describe(checkpoint)
    if as_json:
        print_json(found)
    else:
        click.echo(info_text(found))


@job_command(
    ConvertJob,
    arguments=("weights", "output"),
    example="overtile model convert nuclei.zip nuclei.safetensors --trust sha256:...",
)
def convert_command(job: ConvertJob, as_json: bool) -> None:
    """Make a checkpoint of a network of somebody else: measured, and compared with itself and its reference output.

    `arguments` (of the constructor) is for the job file alone. Only packages that the operator allows are called:
    OVERTILE_MODEL_PACKAGES adds to MONAI's networks.
    """
    console = Console()
    with TerminalListener(console) as listener:
        found = pipeline.convert(job, listener=listener)
    if as_json:
        print_json(found)
        return
    console.say(f"{found['checkpoint']}: made of {job.weights}", style="bold green")
    console.say(info_text(found))
    if found["reference"] is not None:
        console.say(f"reference  the package's output, up to a difference of {found['reference']:.2g}")
    console.say(f"next       overtile segment VOLUME.zarr OUT.zarr --model {found['checkpoint']}")


@job_command(
    CheckJob,
    arguments=("model", "input"),
    example="overtile model check nuclei.safetensors slide.zarr --region 20000:20512,31000:31512",
)
def check_command(job: CheckJob, as_json: bool) -> None:
    """Run a network over a part of your own image, whole and cut in several ways, and compare the results."""
    with TerminalListener() as listener:
        found = pipeline.check_model(job, listener=listener)
    if as_json:
        print_json(found)
    else:
        click.echo(check_text(found))
    if not found["holds"]:
        raise DamageError(
            f"{job.model}: the results differ, though the checkpoint says {'exact' if found['exact'] else 'blended'};"
            " convert the model anew, and report this if it stays"
        )


model_command.add_command(convert_command)
model_command.add_command(check_command)


def check_text(found: dict[str, Any]) -> str:
    """Return how whole and tiled compare, as a table."""
    rows = [("model", found["model"]), ("input", f"{found['input']}, {found['region']}")]
    for cut in found["cuts"]:
        chunk, tile = ("x".join(map(str, cut[name])) for name in ("chunk", "tile"))
        difference = (
            f"largest difference from the whole {cut['largest']:.3g}, in {cut['differing']:,} values; class differs in"
            f" {cut['classes']:,} voxels"
        )
        rows.append((f"chunk {chunk}", f"{cut['tiles']} tiles of {tile}: {difference}"))
    if found["exact"]:
        said = (
            "exact: every cut gives the whole's bits"
            if found["holds"]
            else "NOT EXACT, though the checkpoint says so"
        )
    else:
        said = (
            "blended: every cut gives the same bits"
            if found["holds"]
            else "blended, but cuts DIFFER from each other"
        )
        rows += [("because", reason) for reason in found["reasons"]]
    return table([*rows, ("verdict", said)])


def info_text(found: dict[str, Any]) -> str:
    """Return what a checkpoint is, as a table.

    Args:
        found: what :func:`pipeline.model.checkpoint.describe` says.
    """
    network, normalisation = found["architecture"], found["normalisation"]
    rows = [
        ("network", _network(network)),
        ("channels", f"{network['in_channels']} in, {network['classes']} out ({network.get('output', 'logits')})"),
        ("parameters", f"{count(found['parameters'])} ({found['parameters']:,})"),
        ("classes", ", ".join(f"{i} {name}" for i, name in enumerate(found["classes"]))),
    ]
    if len(found["classes"]) == 2 and network["classes"] == 1:
        rows.append(("threshold", f"{found['threshold']:g}"))
    if found["temperature"] != 1:
        rows.append(("temperature", f"{found['temperature']:.3g}"))
    rows.append(("normalised", f"mean {_numbers(normalisation['mean'])}, std {_numbers(normalisation['std'])}"))
    if found["voxel_size"]:
        size = _numbers(found["voxel_size"], " x ")
        rows.append(("voxel", f"{size} {found['unit'] or '(no unit)'} ({found['axes']})"))
    rows += _tiling(found)
    rows += [(key.replace("_", " "), value) for key, value in found["provenance"].items() if value is not None]
    rows.append(("digest", found["digest"]))
    return table(rows)


def _network(network: dict[str, Any]) -> str:
    """Return the network in a line: our U-Net by its settings, another by its constructor."""
    if network["kind"] == "constructor":
        arguments = ", ".join(f"{name}={value!r}" for name, value in network["arguments"].items())
        return f"{network['dims']}-D {network['constructor']}({arguments})"
    settings = ("depth", "width", "padding", "skip", "upsampling", "norm", "dropout")
    return f"{network['dims']}-D U-Net, " + ", ".join(f"{name} {network[name]}" for name in settings)


def _tiling(found: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return whether tiles can equal the whole image, and what that takes; or why not, and what to do."""
    sizes = [("stride", _per_axis(found["stride"]))]
    if any(found["shrink"].values()):
        sizes.append(("output", f"smaller than the input by {_per_axis(found['shrink'])} voxels"))
    legal = {axis: f"{size['minimum']} + k * {size['step']}" for axis, size in found["legal_sizes"].items()}
    sizes.append(("inputs", f"{_per_axis(legal)} voxels"))
    if found["exact"]:
        halo = {axis: f"{before} + {after}" for axis, (before, after) in found["halo"].items()}
        return [("tiling", "exact: tiles equal the whole image"), ("halo", f"{_per_axis(halo)} voxels"), *sizes]
    reasons = [("" if index else "reasons", reason) for index, reason in enumerate(found["reasons"])]
    advice = (
        "segment with it all the same: overlapping tiles are blended, and the seam error is measured;"
        " or replace what is named above and train anew"
    )
    return [
        ("tiling", "not exact: no halo makes tiles equal the whole image"),
        *reasons,
        ("what to do", advice),
        *sizes,
    ]


def _per_axis(values: dict[str, Any]) -> str:
    """Return one value for all axes, or each with its axis."""
    if len(set(values.values())) == 1:
        return f"{next(iter(values.values()))}"
    return ", ".join(f"{axis} {value}" for axis, value in values.items())


def _numbers(values: list[float], between: str = ", ") -> str:
    return between.join(f"{value:g}" for value in values)
