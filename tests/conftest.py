"""Settings of all tests: nothing depends on how fast the machine is."""

from hypothesis import HealthCheck, settings
from s3 import s3  # noqa: F401

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_collection_modifyitems(items):
    """Begin with the files that take long, so that none is left to run alone at the end of a parallel run."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
