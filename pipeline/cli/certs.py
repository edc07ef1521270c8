"""``overtile certs``: certificates for a cluster that other machines can reach."""

from __future__ import annotations

import click

from pipeline.cli.options import Console, print_json
from pipeline.cli.texts import table
from pipeline.jobs.certificates import make_certificates


@click.command("certs")
@click.argument("folder")
@click.option("--days", type=int, default=365, show_default=True, metavar="N", help="days that they are valid")
@click.option("--json", "as_json", is_flag=True, help="print one JSON document to stdout")
def certs_command(folder: str, days: int, as_json: bool) -> None:
    r"""Make certificates for a small Dask cluster: an authority, and one each for scheduler, workers and client.

    Files that only you may read; nothing is overwritten. Whoever has them may run code on the cluster.

    \b
    Example:
      overtile certs ~/cluster-tls
    """
    made = make_certificates(folder, days=days)
    if as_json:
        print_json(made)
        return
    console = Console()
    console.say(f"{folder}: made, valid for {days} days", style="bold green")
    console.say(table(_commands(made)))


def _commands(made: dict[str, str]) -> list[tuple[str, str]]:
    """Return the commands that use the files, one a role."""
    ca = made["ca.pem"]

    def flags(role: str) -> str:
        return f"--tls-ca-file {ca} --tls-cert {made[f'{role}.pem']} --tls-key {made[f'{role}-key.pem']}"

    client = f"--tls-ca {ca} --tls-cert {made['client.pem']} --tls-key {made['client-key.pem']}"
    return [
        ("scheduler", f"dask scheduler --protocol tls {flags('scheduler')}"),
        ("workers", f"dask worker tls://HOST:8786 {flags('worker')}"),
        ("job", f"overtile segment ... --scheduler tls://HOST:8786 {client}"),
    ]
