"""Augmentation: what is done to patches at random, on image and target alike."""

from pipeline.training.augment.augment import Augment

__all__ = ["Augment"]
