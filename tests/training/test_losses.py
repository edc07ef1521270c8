import math

import pytest
import torch

from pipeline.training.losses import loss_for

LOGITS = torch.tensor([[[[1.0, 2.0, 0.0]], [[3.0, 2.0, -1.0]]]])  # (1, 2 classes, 1, 3 voxels)


def test_cross_entropy_by_hand():
    target = torch.tensor([[[1, 0, 0]]])
    each = [math.log(1 + math.exp(1 - 3)), math.log(2), math.log(1 + math.exp(-1 - 0))]
    assert loss_for(2, ignore=None)(LOGITS, target).item() == pytest.approx(sum(each) / 3)
    assert loss_for(2, ignore=1)(LOGITS, target).item() == pytest.approx(sum(each[1:]) / 2)


def test_sigmoid_cross_entropy_by_hand():
    target = torch.tensor([[[1, 0, 7]]])
    each = [math.log(1 + math.exp(-1)), math.log(1 + math.exp(2))]
    assert loss_for(1, ignore=7)(LOGITS[:, :1], target).item() == pytest.approx(sum(each) / 2)
    assert loss_for(1, ignore=None)(LOGITS[:, :1], target * 0).item() == pytest.approx(
        (math.log(1 + math.e) + each[1] + math.log(2)) / 3
    )


@pytest.mark.parametrize("outputs", [1, 2])
def test_ignored_voxels_change_neither_loss_nor_gradient(outputs):
    logits = torch.randn(2, outputs, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    target = torch.randint(0, 2, (2, 4, 4), generator=torch.Generator().manual_seed(1))
    target[:, 1] = 255
    loss = loss_for(outputs, ignore=255)
    first = loss(logits, target)
    (gradient,) = torch.autograd.grad(first, logits)
    assert (gradient[:, :, 1] == 0).all()
    assert (gradient[:, :, 0] != 0).all()
    changed = logits.detach().clone()
    changed[:, :, 1] = 1e4
    assert loss(changed, target).item() == first.item()
    kept = [row for row in range(4) if row != 1]
    assert loss(logits[:, :, kept], target[:, kept]).item() == pytest.approx(first.item())


@pytest.mark.parametrize("outputs", [1, 2])
def test_a_batch_without_a_counted_voxel_has_no_loss_and_no_gradient(outputs):
    logits = torch.ones(1, outputs, 2, 2, requires_grad=True)
    loss = loss_for(outputs, ignore=9)(logits, torch.full((1, 2, 2), 9))
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()
