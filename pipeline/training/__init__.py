"""Training: pairs of volumes and targets become patches, patches become steps, steps become weights."""
