"""Train a network: from the job to a checkpoint, its metrics, its learning curve and the pictures on the way."""

from pipeline.jobs.training.train import train

__all__ = ["train"]
