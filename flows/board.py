"""Where a flow's progress and pictures are shown: artifacts of the Prefect server, or a test."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

from prefect.artifacts import create_image_artifact, create_progress_artifact, update_progress_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate


class Board(Protocol):
    """Where progress is shown: the Prefect server, or a test."""

    def create(self, key: str, percent: float, description: str) -> UUID:
        """Show a new bar."""
        ...

    def update(self, bar: UUID, percent: float, description: str) -> None:
        """Move a bar."""
        ...

    def draw(self, key: str, shown: UUID | None, picture: str, description: str) -> UUID:
        """Show a picture (a data URI), in place of the one that is ``shown``."""
        ...


class PrefectBoard:
    """Shows progress as progress artifacts of the current flow run."""

    def create(self, key: str, percent: float, description: str) -> UUID:
        """Create the artifact."""
        bar = create_progress_artifact(percent, key=key, description=description)
        assert isinstance(bar, UUID)  # no coroutine: the flows are synchronous
        return bar

    def update(self, bar: UUID, percent: float, description: str) -> None:
        """Update the artifact."""
        update_progress_artifact(bar, percent, description=description)

    def draw(self, key: str, shown: UUID | None, picture: str, description: str) -> UUID:
        """Create the artifact, or update it."""
        if shown is None:
            made = create_image_artifact(picture, key=key, description=description)
            assert isinstance(made, UUID)  # no coroutine: the flows are synchronous
            return made
        with get_client(sync_client=True) as client:
            client.update_artifact(shown, ArtifactUpdate(data=picture, description=description))
        return shown
