import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from volumes import create_filled, save, small_spec

import pipeline
from pipeline.config import EvaluateJob, load_job
from pipeline.errors import InputError, VolumeError
from pipeline.evaluation.metrics import metrics
from pipeline.evaluation.statistics import ConfusionStatistics
from pipeline.run.folder import RunFolder
from pipeline.volume import publish

NAMES = ("background", "cell", "wall")


class Heard:
    """Notes what a job says."""

    def __init__(self):
        self.phases, self.done = [], []

    def phase(self, name, total, unit):
        self.phases.append((name, total, unit))

    def progress(self, done, failed=0):
        self.done.append(done)

    def note(self, text):
        raise AssertionError(text)


def maps(shape=(21, 17), classes=3, seed=0):
    rng = np.random.default_rng(seed)
    return tuple(rng.integers(0, classes, shape).astype("u1") for _ in range(2))


@pytest.fixture
def pair(tmp_path):
    """A prediction of ours, with class names, and a plain target."""
    prediction, target = maps()
    spec = small_spec(prediction.shape)
    create_filled(tmp_path / "p.zarr", spec, prediction)
    publish(tmp_path / "p.zarr", name="p", axes="yx", levels=[("0", spec.space)], classes=NAMES)
    save(tmp_path / "t.zarr", target, "yx", chunks=5)
    return tmp_path, prediction, target


def job(root, **options):
    return EvaluateJob(**{"prediction": str(root / "p.zarr"), "target": str(root / "t.zarr")} | options)


def whole(prediction, target, names=NAMES, ignore=None):
    return metrics(ConfusionStatistics.of(prediction, target, classes=len(names), ignore=ignore), names)


def test_equals_the_metrics_of_the_whole_and_writes_them(pair):
    root, prediction, target = pair
    heard = Heard()
    found = pipeline.evaluate(job(root, out=str(root / "m")), listener=heard)
    assert found.items() >= whole(prediction, target).items()
    assert (found["prediction"], found["chunks"], found["region"]) == (str(root / "p.zarr"), 9, None)
    assert heard.phases == [("evaluate", 9, "chunks"), ("add up", 9, "chunks")]
    assert heard.done == [0, *range(1, 10), *range(1, 10)]
    assert json.loads((root / "m" / "metrics.json").read_text()) == found


def test_the_table_has_a_row_a_chunk_that_adds_up(pair):
    root, prediction, target = pair
    found = pipeline.evaluate(job(root, out=str(root), ignore=2))
    table = pq.read_table(root / "statistics.parquet")
    assert json.loads(table.schema.metadata[b"classes"]) == list(NAMES)
    rows = table.to_pylist()
    assert [(r["chunk"], r["position"], r["core"]) for r in rows][:4] == [
        (0, "0/0", "0:8,0:8"),
        (1, "0/1", "0:8,8:16"),
        (2, "0/2", "0:8,16:17"),
        (3, "1/0", "8:16,0:8"),
    ]
    counts = np.sum([r["counts"] for r in rows], axis=0).reshape(3, 3)
    assert counts.tolist() == found["confusion"]
    assert sum(r["ignored"] for r in rows) == found["ignored"]
    first = whole(prediction[:8, :8], target[:8, :8], ignore=2)
    assert rows[0].items() >= {"voxels": first["voxels"], "accuracy": first["accuracy"]}.items()
    assert [rows[0][f"iou_{name}"] for name in NAMES] == [first["classes"][name]["iou"] for name in NAMES]


def test_the_worst_chunks_come_first(pair):
    root, prediction, target = pair
    worst = pipeline.evaluate(job(root))["worst"]
    wrong = {
        (y, x): int((prediction != target)[y : y + 8, x : x + 8].sum()) for y in (0, 8, 16) for x in (0, 8, 16)
    }
    assert [w["wrong"] for w in worst] == sorted(wrong.values(), reverse=True)[:8]
    start = tuple(int(part.split(":")[0]) for part in worst[0]["core"].split(","))
    assert wrong[start] == worst[0]["wrong"]
    assert worst[0]["position"] == f"{start[0] // 8}/{start[1] // 8}"


@settings(max_examples=12, deadline=None)
@given(
    data=st.data(),
    shape=st.one_of(st.tuples(st.integers(1, 30), st.integers(1, 30)), st.tuples(*[st.integers(1, 9)] * 3)),
    threads=st.integers(1, 3),
    ignore=st.sampled_from([None, 1, 9]),
)
def test_any_chunking_and_region_gives_the_metrics_of_the_whole(tmp_path_factory, data, shape, threads, ignore):
    root = tmp_path_factory.mktemp("law")
    prediction, target = maps(shape, seed=sum(shape))
    for name, values in (("p.zarr", prediction), ("t.zarr", target)):
        chunks = tuple(data.draw(st.integers(1, n)) for n in shape)
        save(root / name, values, "zyx"[-len(shape) :], chunks=chunks, sharded=data.draw(st.booleans()))
    region = tuple((a := data.draw(st.integers(0, n - 1)), data.draw(st.integers(a + 1, n))) for n in shape)
    found = pipeline.evaluate(job(root, classes=NAMES, region=region, threads=threads, ignore=ignore))
    cut = tuple(slice(a, b) for a, b in region)
    assert found.items() >= whole(prediction[cut], target[cut], ignore=ignore).items()
    assert found["region"] == ",".join(f"{a}:{b}" for a, b in region)


def test_a_region_may_leave_its_ends_open(pair):
    root, prediction, target = pair
    found = pipeline.evaluate(load_job(EvaluateJob, job(root).model_dump() | {"region": "3:,:9"}))
    assert found.items() >= whole(prediction[3:, :9], target[3:, :9]).items()
    assert found["chunks"] == 6


@pytest.mark.parametrize(
    ("given", "labelled", "expected"),
    [
        (("a", "b", "c"), "p", ["a", "b", "c"]),
        ("a, b,c", "p", ["a", "b", "c"]),
        (None, "p", list(NAMES)),
        (None, "t", list(NAMES)),
        (None, "", ["class 0", "class 1", "class 2"]),
    ],
)
def test_classes_are_named_by_the_job_then_the_prediction_then_the_target_then_counted(
    tmp_path, given, labelled, expected
):
    for name, values in zip("pt", maps(), strict=True):
        spec = small_spec(values.shape)
        create_filled(tmp_path / f"{name}.zarr", spec, values)
        names = NAMES if name == labelled else None
        publish(tmp_path / f"{name}.zarr", name=name, axes="yx", levels=[("0", spec.space)], classes=names)
    made = load_job(EvaluateJob, job(tmp_path).model_dump() | {"classes": given})
    assert list(pipeline.evaluate(made)["classes"]) == expected


def test_counted_classes_leave_the_ignored_value_out(tmp_path):
    prediction, target = maps(classes=2)
    target[3, 3] = 255
    save(tmp_path / "p.zarr", prediction)
    save(tmp_path / "t.zarr", target)
    found = pipeline.evaluate(job(tmp_path, ignore=255))
    assert list(found["classes"]) == ["class 0", "class 1"]
    assert (found["ignored"], found["voxels"]) == (1, 21 * 17 - 1)


def test_the_array_of_an_image_has_the_names_of_the_image(pair):
    root, *_ = pair
    found = pipeline.evaluate(job(root, prediction=str(root / "p.zarr" / "0")))
    assert list(found["classes"]) == list(NAMES)


def replace_target(root, values, **options):
    save(root / "other.zarr", values, **options)
    return {"target": str(root / "other.zarr")}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: {"target": str(r / "p.zarr")}, "are the same volume"),
        (lambda r: {"target": str(r / "none.zarr")}, "there is no such file"),
        (
            lambda r: replace_target(r, np.zeros((21, 16), "u1")),
            "shape 21 y x 17 x, target .* 21 y x 16 x; they must",
        ),
        (lambda r: replace_target(r, np.zeros((1, 21, 17), "u1"), axes="zyx"), "they must be equal"),
        (lambda r: replace_target(r, np.zeros((21, 17), "f4")), "target .* is of float32"),
        (lambda r: replace_target(r, np.zeros((2, 21, 17), "u1"), axes="cyx"), "target .* has a channel axis"),
        (lambda r: {"region": ((0, 5),)}, "--region has 1 ranges"),
        (lambda r: {"region": ((0, 5), (3, 18))}, "--region 3:18 along x is not inside the volumes' 0:17"),
        (lambda r: {"region": ((5, 5), (3, 4))}, "--region 5:5 along y"),
        (lambda r: {"classes": ("a", "b", "a")}, "occur more than once"),
        (lambda r: {"classes": ("a", "b")}, "holds the value 2, but there are 2 classes"),
        (lambda r: {"out": str(r / "p.zarr" / "m")}, "lies in the volume"),
        (lambda r: {"out": str(r / "t.zarr")}, "lies in the volume"),
        (lambda r: {"out": str(r / "none" / "m")}, "there is no folder"),
        (lambda r: {"out": str(r / "t.zarr" / "..") + "/file"}, "is a file"),
        (lambda r: {"out": "s3://bucket/m"}, "name a folder of this machine"),
        (lambda r: {"scheduler": "tcp://127.0.0.1:1"}, "--out: name a folder that the workers"),
    ],
)
def test_refusals(pair, change, message):
    root, *_ = pair
    (root / "file").write_text("")
    with pytest.raises(InputError, match=message):
        pipeline.evaluate(job(root, **change(root)))


def test_object_ids_are_no_classes(tmp_path):
    prediction, target = maps()
    save(tmp_path / "p.zarr", prediction)
    save(tmp_path / "t.zarr", target.astype("u4") * 300)
    with pytest.raises(
        InputError, match=r"the target holds the value 600.* are objects, not classes.*--instances"
    ):
        pipeline.evaluate(job(tmp_path))


@pytest.mark.parametrize("place", ["p.zarr", "p.zarr/0"])
def test_a_run_that_is_not_complete_is_refused(pair, place):
    root, *_ = pair
    folder = RunFolder(root / "p.zarr")
    folder.begin({}, {})
    with pytest.raises(InputError, match=r"prediction .*p\.zarr.*: its run is not complete"):
        pipeline.evaluate(job(root, prediction=str(root / place)))
    folder.seal({"state": "sealed", "root": ""})
    assert pipeline.evaluate(job(root, prediction=str(root / place)))["voxels"] == 21 * 17


@pytest.mark.parametrize(("name", "key"), [("p.zarr", "0/c/1/1"), ("t.zarr", "c/2/3")])
def test_a_hole_is_an_error_and_no_background(pair, name, key):
    root, *_ = pair
    (root / name / key).unlink()
    with pytest.raises(VolumeError, match=rf"{name}: 1 stored chunk.* are missing \({key.removeprefix('0/')}\)"):
        pipeline.evaluate(job(root, out=str(root / "m")))
    assert not (root / "m" / "metrics.json").exists()


def test_a_damaged_chunk_is_an_error(pair):
    root, *_ = pair
    path = root / "p.zarr" / "0" / "c" / "0" / "0"
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(VolumeError, match=r"p\.zarr: voxels 0:8,0:8 cannot be read"):
        pipeline.evaluate(job(root))
