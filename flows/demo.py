"""The demo: a classic U-Net teaching task at scale, from a painted image to a report, through the flows.

Find the ellipses among other shapes, in noise and uneven light, in an image much larger than the memory that the
run is given. The truth is exact, and the network has never seen the image that it is measured on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.artifacts import FlowListener, watched
from flows.evaluate import evaluate_flow
from flows.ingest import ingest_flow
from flows.paint import UNIT, VOXEL_SIZE, Canvas, paint
from flows.report import report_flow
from flows.segment import segment_flow
from flows.shapes import CLASS_NAMES
from flows.train import train_flow
from pipeline.config import Augmentation, EvaluateJob, IngestJob, Pair, SegmentJob, TrainJob
from pipeline.config.losses import CrossEntropy
from pipeline.jobs.listener import Listener
from pipeline.model.architecture import UNetArchitecture
from pipeline.run.machine import this_machine
from pipeline.volume import is_published

IMAGE, LESSON, EXAM = 1, 2, 3
"""Seeds: the image that is segmented, what is learnt from, what the learning curve is measured on."""


@dataclass(frozen=True, slots=True)
class Demo:
    """What the demo does, and where.

    Attributes:
        folder: everything that it makes is in here.
        size: pixels along each side of the image.
        memory_limit: memory that each worker of the segmentation is given, in bytes.
        steps: steps of training.
    """

    folder: Path
    size: int
    memory_limit: int
    steps: int

    @property
    def cores(self) -> int:
        """Processes and threads to use."""
        return this_machine().cores

    def canvas(self, name: str, size: int, seed: int) -> Canvas:
        """Return one of the demo's images: ``NAME.tif`` and its truth."""
        target = "target.zarr" if name == "image" else f"{name}_target.zarr"
        return Canvas(self.folder / f"{name}.tif", self.folder / target, size, seed)

    @property
    def canvases(self) -> tuple[Canvas, ...]:
        """All images that are painted."""
        lesson = min(self.size, 4096)
        return (
            self.canvas("image", self.size, IMAGE),
            self.canvas("lesson", lesson, LESSON),
            self.canvas("exam", min(self.size, 2048), EXAM),
        )

    def volume(self, canvas: Canvas) -> Path:
        """Return the volume that an image becomes."""
        return canvas.image.with_suffix(".zarr")

    @property
    def model(self) -> Path:
        """The checkpoint."""
        return self.folder / "model.safetensors"

    @property
    def prediction(self) -> Path:
        """The result."""
        return self.folder / "prediction.zarr"

    def training(self) -> TrainJob:
        """Return what is learnt, and how."""
        _, lesson, exam = self.canvases
        return TrainJob(
            pairs=(Pair(image=str(self.volume(lesson)), target=str(lesson.target)),),
            validation=(Pair(image=str(self.volume(exam)), target=str(exam.target)),),
            output=str(self.model),
            architecture=UNetArchitecture(
                in_channels=3, classes=1, depth=4, width=8, padding="same", norm="batch"
            ),
            classes=CLASS_NAMES,
            patch=(128, 128),
            batch=8,
            steps=self.steps,
            learning_rate=0.01,
            validate_every=-(-self.steps // 3),
            loss=CrossEntropy(),
            augment=Augmentation(),
            seed=1,
        )

    def segmentation(self) -> SegmentJob:
        """Return the main job."""
        image = self.canvases[0]
        return SegmentJob(
            input=str(self.volume(image)),
            output=str(self.prediction),
            model=str(self.model),
            memory_limit=self.memory_limit,
        )


def run_demo(demo: Demo, listener: Listener) -> dict[str, Any]:
    """Run the demo's flow and tell a listener, besides Prefect, what it does."""
    with watched(listener):
        return demo_flow(demo)


@flow(name="demo", validate_parameters=False)
def demo_flow(demo: Demo) -> dict[str, Any]:
    """Paint, ingest, train, segment, evaluate, report; what is there already is kept.

    Args:
        demo: what to do, and where.

    Returns:
        The metrics of the evaluation, as ``metrics.json`` has them.
    """
    for canvas in demo.canvases:
        prepare_image(demo, canvas)
    if not demo.model.exists():
        train_flow(demo.training())
    segment_flow(demo.segmentation())
    target = str(demo.canvases[0].target)
    job = EvaluateJob(prediction=str(demo.prediction), target=target, out=str(demo.folder), threads=demo.cores)
    metrics = evaluate_flow(job, stale=True)
    report_flow(
        str(demo.prediction),
        out=str(demo.folder / "report.html"),
        target=target,
        metrics=str(demo.folder / "metrics.json"),
    )
    return metrics


def prepare_image(demo: Demo, canvas: Canvas) -> None:
    """Paint one image and bring it into OME-Zarr; the TIFF is not kept."""
    volume = demo.volume(canvas)
    if is_published(volume):
        return
    paint_image(canvas, demo.cores)
    ingest_flow(
        IngestJob(
            source=str(canvas.image),
            output=str(volume),
            voxel_size=(VOXEL_SIZE, VOXEL_SIZE),
            unit=UNIT,
            threads=demo.cores,
        )
    )
    canvas.image.unlink()


@task(name="paint", task_run_name="paint", cache_policy=NO_CACHE)
def paint_image(canvas: Canvas, processes: int) -> None:
    """Paint an image as a scanner would leave it, and the truth beside it."""
    with FlowListener("demo", str(canvas.image)) as listener:
        listener.phase("paint", len(canvas.grid), "blocks")
        paint(canvas, processes=processes, on_progress=listener.progress)
