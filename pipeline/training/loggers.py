"""Where losses and metrics are logged while a network learns: Lightning's loggers, by name."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from pipeline.errors import InputError
from pipeline.training.quiet import quiet_lightning

NEEDS = {"csv": (), "tensorboard": ("tensorboard", "tensorboardX"), "mlflow": ("mlflow",), "wandb": ("wandb",)}
"""Packages of which each logger needs one."""


def check_loggers(names: Sequence[str]) -> None:
    """Refuse loggers whose package is not installed.

    Raises:
        InputError: which names the package, and how to install it.
    """
    for name in names:
        packages = NEEDS[name]
        if packages and not any(importlib.util.find_spec(package) for package in packages):
            raise InputError(
                f"loggers: {name} needs the package {packages[0]}, which is not installed: pip install"
                f" 'overtile[{name}]', or leave {name} out"
            )


def make_loggers(
    names: Sequence[str], folder: Path, *, name: str, step: int, settings: Mapping[str, Any]
) -> list[Logger]:
    """Return loggers.

    Files lie under ``folder``: ``csv/step-00000000/metrics.csv`` and ``tensorboard/step-00000000/``, one folder for
    each life of a training, named after the step that it began with. MLflow and Weights & Biases are told where to
    log by their own settings (``MLFLOW_TRACKING_URI``, ``wandb login``).

    Args:
        names: which, checked before.
        folder: of the logs.
        name: what is trained.
        step: steps that are done already.
        settings: what the training is done with, logged once.
    """
    version = f"step-{step:08d}"
    made: list[Logger] = []
    for each in names:
        match each:
            case "csv":
                made.append(CSVLogger(folder, name="csv", version=version))
            case "tensorboard":
                made.append(TensorBoardLogger(folder, name="tensorboard", version=version))
            case "mlflow":
                made.append(MLFlowLogger(experiment_name="overtile", run_name=name))
            case "wandb":
                made.append(WandbLogger(name=name, save_dir=folder, project="overtile"))
    with quiet_lightning():
        for logger in made:
            logger.log_hyperparams(dict(settings))
    return made
