"""Registers what a Prefect server needs: work pool, deployments, automations and the limit of GPUs.

Run it again after each change of the files beside it: what is there is replaced, and what was paused stays paused. The
server is the one of ``PREFECT_API_URL``; ``OVERTILE_GPUS`` is how many runs may compute on GPUs at a time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound

from flows.limits import GPU

ROOT = Path(__file__).parents[1]
POOL = "overtile"
DEPLOY = ("deploy", "--all", "--prefect-file", "deployments/prefect.yaml")
AUTOMATIONS = ("crashed", "rerun-once")
NOBODY = "00000000-0000-0000-0000-000000000000"


def main() -> None:
    """Register everything; fails at the first thing that the server refuses."""
    gpus = gpus_of(os.environ.get("OVERTILE_GPUS", "1"))
    template = json.loads((ROOT / "deployments" / "pools" / "process.json").read_text())
    with get_client(sync_client=True) as client:
        pool(client, template)
        prefect(*DEPLOY)
        client.upsert_global_concurrency_limit_by_name(GPU, gpus)
        rerun = client.read_deployment_by_name("rerun-failed/rerun-failed")
        for name in AUTOMATIONS:
            text = (ROOT / "deployments" / "automations" / f"{name}.yaml").read_text()
            automate(client, yaml.safe_load(text.replace(NOBODY, str(rerun.id))))


def gpus_of(text: str) -> int:
    """Return the number of GPUs; the limit cannot be 0."""
    if not text.isdecimal() or int(text) < 1:
        sys.exit(
            f"OVERTILE_GPUS={text}: a number of 1 or more; where there are no GPUs, nothing waits for the limit"
        )
    return int(text)


def pool(client: SyncPrefectClient, template: dict[str, Any]) -> None:
    """Make the work pool, or give the one that is there its template; its limit and its pause are the operator's."""
    try:
        client.read_work_pool(POOL)
    except ObjectNotFound:
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process", base_job_template=template))
    else:
        client.update_work_pool(POOL, WorkPoolUpdate(base_job_template=template))


def prefect(*arguments: str) -> None:
    """Run one of Prefect's commands; this process ends with it if it fails."""
    done = subprocess.run([sys.executable, "-m", "prefect", "--no-prompt", *arguments], cwd=ROOT, check=False)
    if done.returncode:
        sys.exit(f"prefect {' '.join(arguments)}: ended with {done.returncode}")


def automate(client: SyncPrefectClient, wanted: dict[str, Any]) -> None:
    """Make an automation, or bring the one of this name to what the file says."""
    there = client.read_automations_by_name(wanted["name"])
    if there:
        enabled = there[0].enabled
        client.update_automation(there[0].id, AutomationCore.model_validate(wanted | {"enabled": enabled}))
    else:
        client.create_automation(AutomationCore.model_validate(wanted))


if __name__ == "__main__":
    main()
