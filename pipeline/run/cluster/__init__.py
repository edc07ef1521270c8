"""Dask clusters, one file a kind: this machine, an existing scheduler, SLURM, Kubernetes. One way in: ``connect``."""

from pipeline.run.cluster.connect import connect, slots

__all__ = ["connect", "slots"]
