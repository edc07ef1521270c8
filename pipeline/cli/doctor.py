"""``overtile doctor``: what this machine has, and what is unsafe or missing in its settings."""

from __future__ import annotations

import click

from pipeline.cli.options import job_command, print_json
from pipeline.config.doctor import DoctorJob
from pipeline.errors import InputError
from pipeline.jobs.doctor import FAILED, OK, WARNING, Finding, doctor

_STYLES = {OK: "green", WARNING: "yellow", FAILED: "red"}


@job_command(
    DoctorJob, arguments=(), example="overtile doctor --store s3://bucket/results --scheduler tcp://127.0.0.1:8786"
)
def doctor_command(job: DoctorJob, as_json: bool) -> None:
    """Say what this machine has, and what is unsafe or missing. Exits with 2 if a check failed."""
    found: list[Finding] = []
    for finding in doctor(job):
        found.append(finding)
        if not as_json:
            _say(finding)
    failed = [finding.name for finding in found if finding.state == FAILED]
    if as_json:
        print_json({"ok": not failed, "checks": [finding.to_json() for finding in found]})
    if failed:
        raise InputError(f"doctor: {len(failed)} check(s) failed: {', '.join(failed)}")


def _say(finding: Finding) -> None:
    """Print a line of a table on stdout, and below it what to do."""
    click.secho(f"{finding.state:<8}", fg=_STYLES[finding.state], nl=False)
    click.echo(f" {finding.name:<14} {finding.found}")
    if finding.advice:
        click.echo(f"{'':<24}{finding.advice}")
