"""``overtile ingest, info`` and ``overtile model info``: bring volumes in, and look at volumes and models."""

from __future__ import annotations

from typing import Any

import click

from pipeline.cli.options import print_json
from pipeline.cli.texts import table
from pipeline.model.checkpoint import describe


@click.group("model")
def model_command() -> None:
    """Look at checkpoints."""


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
        click.echo(table([(key, _text(value)) for key, value in found.items() if value not in (None, [])]))


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k}={v}" for k, v in value.items())
    return str(value)
