"""Each loss against values worked out by hand, against MONAI and torch, and against its own gradient."""

import math

import monai.losses
import pytest
import torch
import torch.nn.functional as F
from pydantic import TypeAdapter, ValidationError

from pipeline.config.losses import LossSettings
from pipeline.errors import InputError
from pipeline.training.determinism import deterministic_algorithms
from pipeline.training.losses import IGNORE, Loss, loss_for

LN2, LN3 = math.log(2), math.log(3)

# Two voxels, two classes. Softmax: p(1) = 3/4 in the first, 1/2 in the second. The first is of class 1, the other of 0.
LOGITS = torch.tensor([[[[0.0, 0.0]], [[LN3, 0.0]]]])
TARGET = torch.tensor([[[1, 0]]])
# As one sigmoid: the same probabilities of the foreground.
SIGMOID = torch.tensor([[[[LN3, 0.0]]]])

KINDS = (
    {"kind": "cross_entropy"},
    {"kind": "cross_entropy", "class_weights": "0.5,1.5"},
    {"kind": "cross_entropy", "class_weights": "balanced"},
    {"kind": "border_cross_entropy"},
    {"kind": "dice"},
    {"kind": "dice", "squared": True},
    {"kind": "dice_cross_entropy", "class_weights": "2,1", "dice_weight": 0.5},
    {"kind": "focal"},
    {"kind": "focal", "gamma": 0.5, "class_weights": "0.5,1.5"},
    {"kind": "tversky", "false_positives": 0.3, "false_negatives": 0.7},
)
every_loss = pytest.mark.parametrize("settings", KINDS, ids=lambda settings: "-".join(map(str, settings.values())))
outputs_of_two_classes = pytest.mark.parametrize("outputs", [1, 2])


def make(settings: dict[str, object] | str, outputs: int = 2, shares: tuple[float, ...] = (0.75, 0.25)) -> Loss:
    given = {"kind": settings} if isinstance(settings, str) else settings
    model = TypeAdapter(LossSettings).validate_python(given)
    return loss_for(model, outputs=outputs, class_shares=shares)


def batch(outputs: int, *spatial: int, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, ...]:
    """Two random images of logits, with targets of every class and some voxels ignored, and weights."""
    random = torch.Generator().manual_seed(5)
    logits = torch.randn(2, outputs, *spatial, generator=random, dtype=dtype)
    target = torch.randint(-1, max(2, outputs), (2, *spatial), generator=random)
    return logits, target, torch.rand(2, *spatial, generator=random, dtype=dtype) + 0.1


def test_cross_entropy_by_hand():
    # -ln 3/4 and -ln 1/2, the mean
    assert make("cross_entropy")(LOGITS, TARGET).item() == pytest.approx((2 * LN2 - LN3 + LN2) / 2)
    assert make("cross_entropy", 1)(SIGMOID, TARGET).item() == pytest.approx((3 * LN2 - LN3) / 2)


def test_class_weights_by_hand():
    # class 1 three times class 0: (3 (-ln 3/4) + 1 (-ln 1/2)) / (3 + 1)
    want = (3 * (2 * LN2 - LN3) + LN2) / 4
    assert make({"kind": "cross_entropy", "class_weights": "0.5,1.5"})(LOGITS, TARGET).item() == pytest.approx(
        want
    )
    # shares 3/4 and 1/4: the inverses 4/3 and 4 stand 1 to 3, too
    for outputs, logits in ((1, SIGMOID), (2, LOGITS)):
        loss = make({"kind": "cross_entropy", "class_weights": "balanced"}, outputs)
        assert loss(logits, TARGET).item() == pytest.approx(want)


def test_border_weights_are_added_to_the_weight_of_the_class():
    # balanced for shares 3/4 and 1/4: 1/2 and 3/2. The second voxel has 4 more: 4 1/2.
    weights = torch.tensor([[[0.0, 4.0]]])
    want = (1.5 * (2 * LN2 - LN3) + 4.5 * LN2) / 6
    assert make("border_cross_entropy")(LOGITS, TARGET, weights).item() == pytest.approx(want)
    plain = make({"kind": "border_cross_entropy", "class_weights": "none"})
    assert plain(LOGITS, TARGET, weights).item() == pytest.approx((1 * (2 * LN2 - LN3) + 5 * LN2) / 6)
    with pytest.raises(AssertionError, match="border weights"):
        plain(LOGITS, TARGET)


def test_dice_by_hand():
    # class 0: p = 1/4, 1/2 and g = 0, 1: (2 * 1/2) / (3/4 + 1) = 4/7
    # class 1: p = 3/4, 1/2 and g = 1, 0: (2 * 3/4) / (5/4 + 1) = 2/3
    assert make("dice")(LOGITS, TARGET).item() == pytest.approx(1 - (4 / 7 + 2 / 3) / 2, abs=1e-5)
    # squared: class 0: 1 / (1/16 + 1/4 + 1) = 16/21; class 1: (3/2) / (9/16 + 1/4 + 1) = 24/29
    loss = make({"kind": "dice", "squared": True})
    assert loss(LOGITS, TARGET).item() == pytest.approx(1 - (16 / 21 + 24 / 29) / 2, abs=1e-5)
    # a sigmoid has the foreground alone
    assert make("dice", 1)(SIGMOID, TARGET).item() == pytest.approx(1 / 3, abs=1e-5)
    # s = 1: (3/2 + 1) / (9/4 + 1) = 10/13
    assert make({"kind": "dice", "smooth": 1}, 1)(SIGMOID, TARGET).item() == pytest.approx(3 / 13)


def test_weights_enter_the_sums_of_dice():
    # weights 2 and 1: foreground (2 * 2 * 3/4) / (2 * 3/4 + 1/2 + 2) = 3/4; squared 3 / (9/8 + 1/4 + 2) = 8/9
    weights = torch.tensor([[[2.0, 1.0]]])
    assert make("dice", 1)(SIGMOID, TARGET, weights).item() == pytest.approx(1 / 4, abs=1e-5)
    loss = make({"kind": "dice", "squared": True}, 1)
    assert loss(SIGMOID, TARGET, weights).item() == pytest.approx(1 / 9, abs=1e-5)


def test_a_class_that_is_neither_there_nor_found_costs_nothing():
    found = torch.full((1, 1, 2, 2), -40.0)
    assert make("dice", 1)(found, torch.zeros(1, 2, 2, dtype=torch.int64)).item() == pytest.approx(0, abs=1e-6)


def test_dice_and_cross_entropy_by_hand():
    loss = make({"kind": "dice_cross_entropy", "dice_weight": 3, "cross_entropy_weight": 0.5}, 1)
    assert loss(SIGMOID, TARGET).item() == pytest.approx(3 / 3 + 0.5 * (3 * LN2 - LN3) / 2, abs=1e-4)
    only = make({"kind": "dice_cross_entropy", "cross_entropy_weight": 0}, 1)
    assert torch.equal(only(SIGMOID, TARGET), make("dice", 1)(SIGMOID, TARGET))
    with pytest.raises(ValidationError, match="both 0"):
        make({"kind": "dice_cross_entropy", "dice_weight": 0, "cross_entropy_weight": 0})


def test_focal_by_hand():
    # (1/4)**2 (-ln 3/4) and (1/2)**2 (-ln 1/2), the mean
    want = ((2 * LN2 - LN3) / 16 + LN2 / 4) / 2
    assert make("focal")(LOGITS, TARGET).item() == pytest.approx(want)
    assert make("focal", 1)(SIGMOID, TARGET).item() == pytest.approx(want)


def test_tversky_by_hand():
    # foreground: TP = 3/4, FP = 1/2, FN = 1/4: (3/4) / (3/4 + 0.3 / 2 + 0.7 / 4) = 30/43
    loss = make({"kind": "tversky", "false_positives": 0.3, "false_negatives": 0.7}, 1)
    assert loss(SIGMOID, TARGET).item() == pytest.approx(13 / 43, abs=1e-5)


@outputs_of_two_classes
def test_focal_without_focus_is_cross_entropy_and_has_a_gradient_where_it_is_certain(outputs):
    logits, target, weights = batch(outputs, 3, 4)
    without = make({"kind": "focal", "gamma": 0}, outputs)(logits, target, weights)
    torch.testing.assert_close(without, make("cross_entropy", outputs)(logits, target, weights))
    certain = torch.where(torch.arange(outputs).view(1, -1, 1, 1) == outputs - 1, 200.0, -200.0).requires_grad_()
    right, wrong = torch.ones(1, 1, 1, dtype=torch.int64), torch.zeros(1, 1, 1, dtype=torch.int64)
    for gamma in (0, 0.5, 2):
        loss = make({"kind": "focal", "gamma": gamma}, outputs)
        for truth in (right, wrong):
            (gradient,) = torch.autograd.grad(loss(certain, truth), certain)
            assert gradient.isfinite().all()
            assert gradient.any() == (truth is wrong)


@pytest.mark.parametrize("spatial", [(4, 5), (3, 2, 4)])
@pytest.mark.parametrize("outputs", [1, 3])
def test_values_are_those_of_torch_and_monai(outputs, spatial):
    logits, target, _ = batch(outputs, *spatial)
    target = target.clamp(min=0)
    hot = (target.unsqueeze(1) if outputs == 1 else F.one_hot(target, 3).movedim(-1, 1)).double()
    how = {"sigmoid": outputs == 1, "softmax": outputs > 1, "batch": True}
    reference = {
        "cross_entropy": F.cross_entropy(logits, target)
        if outputs > 1
        else F.binary_cross_entropy_with_logits(logits, hot),
        "dice": monai.losses.DiceLoss(**how)(logits, hot),
        "tversky": monai.losses.TverskyLoss(**how)(logits, hot),
        "focal": monai.losses.FocalLoss(use_softmax=outputs > 1)(logits, hot)
        * outputs,  # its mean is over classes too
        "dice_cross_entropy": monai.losses.DiceCELoss(**how)(logits, hot),
    }
    for kind, want in reference.items():
        loss = make(kind, outputs, (1 / 3,) * 3)(logits, target)
        torch.testing.assert_close(loss, want.double(), rtol=1e-6, atol=1e-6, msg=kind)
    squared = make({"kind": "dice", "squared": True}, outputs)(logits, target)
    torch.testing.assert_close(squared, monai.losses.DiceLoss(**how, squared_pred=True)(logits, hot))


@every_loss
@outputs_of_two_classes
@pytest.mark.parametrize("spatial", [(2, 3), (2, 1, 3)])
def test_gradients(settings, outputs, spatial):
    logits, target, weights = batch(outputs, *spatial)
    loss = make(settings, outputs)
    assert torch.autograd.gradcheck(lambda x: loss(x, target, weights), logits.requires_grad_())


@every_loss
@outputs_of_two_classes
@pytest.mark.parametrize("value", [1e4, math.inf, math.nan])
def test_ignored_voxels_change_neither_loss_nor_gradient(settings, outputs, value):
    logits, target, weights = batch(outputs, 4, 4)
    target[:, 1] = IGNORE
    loss = make(settings, outputs)
    changed = logits.clone()
    changed[:, :, 1] = value
    changed.requires_grad_()
    found = loss(changed, target, weights)
    assert found.item() == loss(logits, target, weights).item()
    (gradient,) = torch.autograd.grad(found, changed)
    assert (gradient[:, :, 1] == 0).all()
    assert gradient.isfinite().all()
    kept = [0, 2, 3]
    torch.testing.assert_close(found, loss(logits[:, :, kept], target[:, kept], weights[:, kept]))


@every_loss
@outputs_of_two_classes
def test_a_weight_of_two_counts_as_two_voxels(settings, outputs):
    logits, target, _ = batch(outputs, 2, 4)
    loss, ones = make(settings, outputs), torch.ones(target.shape)
    if settings["kind"] == "border_cross_entropy":
        return  # its weights are added: see above
    twice = torch.where(torch.arange(4) == 3, 2, ones)
    doubled = [torch.cat([x, x[..., 3:]], -1) for x in (logits, target)]
    torch.testing.assert_close(loss(logits, target, twice), loss(*doubled))
    assert loss(logits, target, ones).item() == pytest.approx(loss(logits, target).item(), rel=1e-12)
    assert loss(logits, target, twice).item() != pytest.approx(loss(logits, target).item(), rel=1e-6)


@every_loss
@outputs_of_two_classes
def test_a_batch_in_which_nothing_counts_has_no_loss_and_no_gradient(settings, outputs):
    for target in (torch.full((2, 2, 2), IGNORE), torch.ones(2, 2, 2, dtype=torch.int64)):
        logits = torch.ones(2, outputs, 2, 2, requires_grad=True)
        if (target >= 0).any() and settings["kind"] == "border_cross_entropy":
            continue  # the class's weight is added, so that a voxel counts
        loss = make(settings, outputs)(logits, target, torch.zeros(2, 2, 2))
        loss.backward()
        assert loss.item() == 0
        assert (logits.grad == 0).all()


@every_loss
def test_low_precision_is_summed_in_float32(settings):
    logits, target, weights = batch(2, 8, 8)
    found = make(settings)(logits.bfloat16(), target, weights.float())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), make(settings)(logits.bfloat16().double(), target, weights))


@every_loss
@outputs_of_two_classes
def test_losses_are_deterministic(settings, outputs):
    logits, target, weights = batch(outputs, 6, 5, dtype=torch.float32)
    logits.requires_grad_()
    with deterministic_algorithms(environment={}):
        found = [torch.autograd.grad(make(settings, outputs)(logits, target, weights), logits) for _ in range(2)]
    assert torch.equal(found[0][0], found[1][0])


def test_class_weights_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="3 numbers for 2 classes"):
        make({"kind": "focal", "class_weights": "1,2,3"}, 1)
