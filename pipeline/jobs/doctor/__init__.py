"""What this machine and the servers around it have, and what of it is unsafe, missing or known not to work.

Each check is a function of facts that were gathered before, so that any machine can be imagined in a test. Nothing
here imports torch or Prefect.
"""

from pipeline.jobs.doctor.doctor import doctor
from pipeline.jobs.doctor.finding import FAILED, OK, WARNING, Finding

__all__ = ["FAILED", "OK", "WARNING", "Finding", "doctor"]
