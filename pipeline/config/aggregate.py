"""Many evaluations and runs as one table: which ones, how they are compared, and when somebody is to be told."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.config.values import Job, Names

Share = Annotated[float, Field(ge=0, le=1)]


class AggregateJob(Job):
    """Put the metrics of many runs into one table and on one page, and compare their models."""

    sources: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        description="folders of evaluations, results (OUT.zarr), and folders that are searched for both"
    )
    out: str = Field(description="table to write (.parquet)")
    page: str | None = Field(None, description="page to write (.html); beside the table where left out")
    metrics: Annotated[Names, Field(min_length=1)] = Field(
        ("mean_iou", "mean_dice", "accuracy"),
        description="metrics by which models are compared, the first one is drawn: mean_iou,iou_nucleus",
    )
    broken: Literal["error", "list"] = Field(
        "error",
        description="what an evaluation or run that cannot be read means: refused, or a row of the table that says why",
    )
    resamples: Annotated[int, Field(ge=200, le=100_000)] = Field(
        2000, description="resamples of the bootstrap, for confidence intervals"
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="share of the resamples that an interval holds")
    seed: int = Field(0, ge=0, description="seed of the bootstrap")
    bounds: dict[str, Share] = Field(
        default_factory=dict,
        description="least value of a metric, by its name: of every volume's newest evaluation",
    )
    drop: Share | None = Field(
        None, description="most that a metric may fall, of a volume's newest evaluation, since the previous table"
    )
    fail_below: bool = Field(
        False, description="fail, when all is written, where a metric is below its bound or has dropped"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(set(self.metrics)) < len(self.metrics):
            raise ValueError(f"metrics {','.join(self.metrics)}: each one once")
        if self.fail_below and not self.bounds and self.drop is None:
            raise ValueError("fail_below needs bounds or drop: else there is nothing to fail for")
        return self
