"""What a training plans for itself, and why: a table of facts and choices."""

import numpy as np
import pytest

from pipeline.config import TrainJob
from pipeline.errors import InputError
from pipeline.model.architecture import UNetArchitecture
from pipeline.training.pairs import open_pairs
from pipeline.training.plan import GIVEN, SETTLED, plan_training, settled
from pipeline.training.rules import Means, step_bytes
from pipeline.training.survey import Facts, survey
from pipeline.training.targets import ClassIds, TargetRule
from pipeline.volume import Space

SMALL = Means("cpu", 8 << 30)
GPU = Means("cuda", 64 << 30)
PLANE = Facts(Space("yx", (1.0, 1.0), (0.0, 0.0), None), ((4096, 4096),), 1, 4096**2, (0.7, 0.3), 20.0, "grey")


def stack(shape=(128, 512, 512), size=(1.0, 1.0, 1.0), unit="micrometer", **changes):
    space = Space("zyx", size, (0.0,) * 3, unit)
    values = {
        "channels": 1,
        "labelled": int(np.prod(shape)),
        "shares": (0.8, 0.2),
        "diameter": 20.0,
        "look": "grey",
    }
    return Facts(space, (shape,), **(values | changes))


def plan(facts=PLANE, means=SMALL, **changes):
    values = {"pairs": [{"image": "i", "target": "t"}], "output": "m.safetensors", "classes": ("a", "b")}
    return plan_training(TrainJob.model_validate(values | changes), facts, means)


def changed(facts, **changes):
    values = {name: getattr(facts, name) for name in Facts.__slots__}
    return Facts(**(values | changes))


def reasons(found):
    return {choice.name: choice.reason for choice in found.choices}


def test_nothing_is_left_out_and_every_choice_has_a_reason():
    found = plan()
    assert all(getattr(found.job, name) is not None for name in SETTLED)
    assert all(getattr(found, name) == getattr(found.job, name) for name in SETTLED)
    assert all(choice.reason and "\n" not in choice.text() for choice in found.choices)
    assert TrainJob.model_validate(found.job.model_dump(mode="json")) == found.job
    again = plan_training(found.job, PLANE, SMALL)
    assert again.job == found.job
    assert settled(found.job, found.job, found.document()) == found


@pytest.mark.parametrize(
    ("facts", "dims", "why"),
    [
        (PLANE, 2, "planes"),
        (stack(), 3, "128 slices"),
        (stack(size=(3.0, 1.0, 1.0)), 3, "3.0 times as long"),
        (stack(size=(4.0, 1.0, 1.0)), 2, "4.0 times longer along z"),
        (stack(shape=(20, 512, 512)), 2, "stacks of 20 slices"),
        (stack(unit=None), 2, "voxel size is not known"),
    ],
)
def test_the_network_is_solid_where_voxels_and_slices_are_worth_it(facts, dims, why):
    found = plan(facts)
    assert found.architecture.dims == len(found.patch) == dims
    assert why in reasons(found)["architecture.dims"]


@pytest.mark.parametrize(("diameter", "depth"), [(5.0, 3), (40.0, 4), (80.0, 5), (900.0, 5), (None, 5)])
def test_the_network_sees_a_larger_object_whole(diameter, depth):
    found = plan(changed(PLANE, diameter=diameter))
    assert found.architecture.depth == depth
    if diameter is not None and depth < 5:
        assert found.architecture.reach().halo[0] >= diameter


@pytest.mark.parametrize(("edge", "depth"), [(96, 3), (80, 2), (300, 4), (1000, 5)])
def test_a_guard_around_a_block_leaves_something_to_learn_from(edge, depth):
    small = changed(PLANE, shapes=((edge, edge),), diameter=None)
    assert plan(small).architecture.depth == depth
    assert plan(small, split="none").architecture.depth == 5
    assert plan(changed(small, shapes=((edge, edge),) * 5)).architecture.depth == 5


def test_a_patch_fits_the_network_the_volume_and_a_split_into_blocks():
    for edge in (64, 100, 300, 1000, 5000):
        found = plan(changed(PLANE, shapes=((edge, 2 * edge),), labelled=2 * edge**2))
        stride = found.architecture.reach().stride
        assert all(length % stride == 0 and length <= edge for length in found.patch)
        blocks = np.prod([max(1, n // (2 * p)) for n, p in zip((edge, 2 * edge), found.patch, strict=True)])
        assert blocks >= 5 or min(found.patch) <= 2 * stride


def test_a_patch_is_shorter_along_an_axis_whose_voxels_are_longer():
    z, y, x = plan(stack(size=(2.0, 1.0, 1.0), shape=(400, 900, 900), diameter=16.0)).patch
    assert y == x
    assert z == y // 2


def test_width_and_batch_follow_the_memory():
    wide, narrow = plan(means=GPU), plan(means=Means("cuda", 1 << 28))
    assert wide.architecture.width >= narrow.architecture.width
    assert wide.batch > narrow.batch >= 2
    for found in (wide, narrow):
        memory = 64 << 30 if found is wide else 1 << 28
        assert found.batch * step_bytes(found.architecture, found.patch) <= memory or found.batch == 2


def test_steps_follow_the_labelled_voxels_within_a_night():
    few, some, many = (plan(changed(PLANE, labelled=n)).steps for n in (1000, 10**6, 10**11))
    assert few == 300 < some < many == 3000


def test_a_rare_class_gets_dice_and_is_looked_for():
    rare = plan(changed(PLANE, shares=(0.995, 0.005)))
    assert rare.loss.kind == "dice_cross_entropy"
    assert rare.balance == pytest.approx(1 / 3)
    usual = plan()
    assert (usual.loss.kind, usual.balance) == ("cross_entropy", 0)
    absent = plan(changed(PLANE, shares=(0.7, 0.3, 0.0)), classes=("a", "b", "c"))
    assert absent.loss.kind == "cross_entropy", "a class that is nowhere says nothing"


@pytest.mark.parametrize(
    ("look", "channels", "expected"),
    [
        ("stained", 3, {"stain": 0.1}),
        ("grey", 1, {"gamma": 0.2}),
        ("colour", 3, {"stain": 0}),
        ("other", 5, {"scale": 0}),
    ],
)
def test_changes_are_those_that_the_kind_of_image_meets(look, channels, expected):
    found = plan(changed(PLANE, look=look, channels=channels)).augment.model_dump()
    assert expected.items() <= found.items()
    assert (found["elastic"] is not None) == (look == "grey")
    assert found["flips"]


def test_classes_make_a_sigmoid_or_a_softmax():
    assert plan().architecture.classes == 1
    assert plan(classes=("a", "b", "c"), facts=changed(PLANE, shares=(0.5, 0.3, 0.2))).architecture.classes == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("patch", (64, 96)),
        ("batch", 3),
        ("steps", 7),
        ("validate_every", 2),
        ("loss", "focal"),
        ("balance", 0.5),
        ("augment", False),
        ("learning_rate", 0.5),
        ("architecture", {"classes": 2, "depth": 3, "padding": "same"}),
    ],
)
def test_every_choice_can_be_made_by_the_job(name, value):
    found = plan(**{name: value})
    given = TrainJob.model_validate(
        {"pairs": [{"image": "i", "target": "t"}], "output": "m.safetensors", "classes": ("a", "b"), name: value}
    )
    assert getattr(found, name) == getattr(given, name)
    assert reasons(found)[name] == GIVEN


def test_a_network_is_planned_for_the_job_s_patch():
    found = plan(patch=(36, 44))
    assert found.patch == (36, 44)
    assert found.architecture.depth == 3
    assert plan(patch=(33, 33)).architecture.depth == 1
    assert plan(stack(), patch=(16, 32, 32)).architecture.dims == 3


def test_a_patch_that_the_network_does_not_take_is_refused():
    with pytest.raises(InputError, match=r"patch 30,31: .*nearest 30 and 32"):
        plan(patch=(30, 31), architecture={"depth": 2, "padding": "same"})


def test_one_voxel_at_the_lowest_level_cannot_be_normalised():
    found = plan(patch=(2, 2), batch=1, architecture={"depth": 2, "padding": "same", "norm": "batch"})
    with pytest.raises(InputError, match=r"patch 2,2, batch 1: one voxel at the lowest level"):
        found.check_batch()


def test_the_maps_that_training_holds_are_those_that_layers_make():
    network = UNetArchitecture(depth=2, width=4, padding="same", norm="batch", classes=1)
    # input; 2 x (convolution, norm) at full size, pool, 2 x at half size, up, concat, 2 x at full size, head
    full, half = 8 * 8, 4 * 4
    expected = full + 4 * 4 * full + 4 * half + 4 * 8 * half + 4 * full + 8 * full + 4 * 4 * full + full
    assert network.training_elements((8, 8)) == expected


def discs(size, radius, pitch):
    y, x = np.mgrid[:size, :size]
    centre = (np.stack([y, x]) % pitch) - pitch // 2
    return ((centre**2).sum(0) <= radius**2).astype("u1")


def test_a_survey_finds_sizes_shares_and_looks(make_pair):
    target = discs(256, 10, 64)
    grey = survey(open_pairs([make_pair(target[None] * 100, target)]), TargetRule(ClassIds(2)))
    assert grey.diameter == pytest.approx(20, rel=0.05)
    assert grey.shares[1] == pytest.approx(target.mean())
    assert (grey.labelled, grey.look, grey.channels, grey.shapes) == (256 * 256, "grey", 1, ((256, 256),))

    stained = np.where(target == 1, np.array([150, 80, 160])[:, None, None], 240).astype("u1")
    rule = TargetRule(ClassIds(2))
    assert survey(open_pairs([make_pair(stained, target)]), rule).look == "stained"
    green = np.where(target == 1, np.array([80, 160, 90])[:, None, None], 240).astype("u1")
    assert survey(open_pairs([make_pair(green, target)]), rule).look == "colour"
    assert survey(open_pairs([make_pair(np.zeros((5, 256, 256), "u1"), target)]), rule).look == "other"


def test_a_survey_looks_at_what_is_labelled_alone(make_pair):
    target = np.zeros((300, 300), "u1")
    target[100:110, 100:110] = 1
    pair = make_pair(target[None], target, boxes=["90:120,90:120"])
    found = survey(open_pairs([pair]), TargetRule(ClassIds(2)))
    assert found.labelled == 900
    assert found.shares[1] == pytest.approx(100 / 900)


def test_instances_that_touch_are_parts_of_one_class(make_pair):
    target = np.zeros((64, 64), "u1")
    target[10:20, 10:20], target[10:20, 20:30] = 1, 2
    rule = TargetRule(ClassIds(2), "foreground")
    found = survey(open_pairs([make_pair(target[None], target)]), rule)
    assert found.shares[1] == pytest.approx(200 / 64**2)


def test_nothing_but_background_has_no_size(make_pair):
    found = survey(open_pairs([make_pair(np.zeros((1, 64, 64), "u1"))]), TargetRule(ClassIds(2)))
    assert found.diameter is None
    assert found.rarest == 1.0
