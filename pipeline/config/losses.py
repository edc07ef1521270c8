"""What training makes small: one model a loss, told apart by ``kind``."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.config.values import Job, Numbers

ClassWeights = Literal["none", "balanced"] | Numbers
"""A weight for each class, or ``balanced``: so that all classes weigh the same over the training pairs."""


class CrossEntropy(Job):
    """Cross-entropy of a softmax, or of one sigmoid."""

    kind: Literal["cross_entropy"] = "cross_entropy"
    class_weights: ClassWeights = Field("none", description="weight of each class: none, balanced, or numbers")


class BorderCrossEntropy(Job):
    """The U-Net paper's weighted cross-entropy (Ronneberger et al. 2015, section 3, equation 2); needs instance ids."""

    kind: Literal["border_cross_entropy"] = "border_cross_entropy"
    class_weights: ClassWeights = Field("balanced", description="weight of each class: none, balanced, or numbers")
    w0: float = Field(10.0, ge=0, description="weight of the background between two instances that touch")
    sigma: float = Field(5.0, gt=0, description="how far that reaches, in voxels")


class Dice(Job):
    """One minus the soft Dice coefficient, the mean over the classes."""

    kind: Literal["dice"] = "dice"
    squared: bool = Field(False, description="squares in the denominator (Milletari et al. 2016, section 3)")
    smooth: float = Field(
        1e-5, gt=0, description="added above and below: a class that is neither there nor found costs nothing"
    )


class DiceCrossEntropy(Job):
    """The sum of soft Dice and cross-entropy (Isensee et al. 2021)."""

    kind: Literal["dice_cross_entropy"] = "dice_cross_entropy"
    class_weights: ClassWeights = Field("none", description="weight of each class in the cross-entropy")
    squared: bool = Field(False, description="squares in the denominator of Dice")
    smooth: float = Field(1e-5, gt=0, description="added above and below")
    dice_weight: float = Field(1.0, ge=0, description="weight of Dice")
    cross_entropy_weight: float = Field(1.0, ge=0, description="weight of the cross-entropy")

    @model_validator(mode="after")
    def _has_weight(self) -> Self:
        if not self.dice_weight + self.cross_entropy_weight:
            raise ValueError("dice_weight and cross_entropy_weight are both 0: nothing would be learnt")
        return self


class Focal(Job):
    """The focal loss (Lin et al. 2017, section 3.2): voxels that are right already weigh less."""

    kind: Literal["focal"] = "focal"
    gamma: float = Field(2.0, ge=0, description="how much less")
    class_weights: ClassWeights = Field("none", description="weight of each class")


class Tversky(Job):
    """One minus the Tversky index (Salehi et al. 2017, section 2): false positives and negatives weighed apart."""

    kind: Literal["tversky"] = "tversky"
    false_positives: float = Field(0.5, ge=0, description="weight of false positives (alpha)")
    false_negatives: float = Field(0.5, ge=0, description="weight of false negatives (beta)")
    smooth: float = Field(1e-5, gt=0, description="added above and below")


LossSettings = Annotated[
    CrossEntropy | BorderCrossEntropy | Dice | DiceCrossEntropy | Focal | Tversky, Field(discriminator="kind")
]
