"""Settings of all tests: nothing depends on how fast the machine is."""

from hypothesis import HealthCheck, settings
from s3 import s3  # noqa: F401

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
