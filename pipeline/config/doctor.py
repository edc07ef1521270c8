"""What `overtile doctor` looks at beside the machine."""

from __future__ import annotations

from pydantic import Field

from pipeline.config.cluster import ClusterFields


class DoctorJob(ClusterFields):
    """Check this machine, and the store, cluster and servers that are named."""

    path: str = Field(".", description="folder for results: its room and its file system are looked at")
    store: str | None = Field(None, description="folder or prefix of an object store, to try: s3://bucket/prefix")
