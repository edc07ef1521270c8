import base64
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from pages import Page
from PIL import Image
from runs import make_image, make_model, make_run
from volumes import save

import pipeline
from pipeline.config import EvaluateJob, SegmentJob
from pipeline.errors import InputError
from pipeline.reporting import album
from pipeline.reporting.measured import check_metrics

EVIL = "<img src=x onerror=alert(1)>"


def stripes(shape=(700, 900)):
    """Class ids with borders, most of them at the top left."""
    y, x = np.indices(shape)
    return ((((y // 9) % 2) * ((x // 7) % 2)) * (y + x < 500)).astype("u1")


def picture(page, name):
    uri = page.all("image", id=name)[0]["href"]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A sealed run, its target (wrong in one place), its metrics, and the page of them."""
    root = tmp_path_factory.mktemp("measured")
    ids = stripes()
    output = make_run(root, ids, chunk=(128, 128))
    target = ids.copy()
    target[650:660, 800:820] = 1
    save(root / "target.zarr", target, "yx", chunks=100)
    job = EvaluateJob(prediction=str(output), target=str(root / "target.zarr"), out=str(root))
    pipeline.evaluate(job)
    options = {"target": root / "target.zarr", "metrics": root / "metrics.json"}
    return root, options, Page(pipeline.report(output, out=root / "page.html", **options))


def test_a_measured_run(measured):
    root, _, page = measured
    page.check_alone()
    assert page.says("out.zarr")
    assert page.says("image.zarr , segmented by model.safetensors")
    assert page.says("Complete")
    found = json.loads((root / "metrics.json").read_text())
    assert page.says(f"{found['mean_iou']:.3f} mean IoU")
    for name, each in found["classes"].items():
        assert page.says(
            f"{name} {each['iou']:.3f} {each['dice']:.3f} {each['precision']:.3f} {each['recall']:.3f}"
        )
    assert page.says("y 0–700 · x 0–900, in 900 × 700 pixels")
    assert page.says("overtile segment")
    assert page.says("--chunk 128,128")


def test_the_pictures_are_what_they_say(measured):
    _, _, page = measured
    ids = stripes()
    prediction, errors = picture(page, "overview-prediction"), picture(page, "overview-errors")
    assert prediction.shape == (700, 900, 4)
    assert np.array_equal(prediction[..., 3] > 0, ids > 0)
    wrong = np.zeros(ids.shape, np.bool_)
    wrong[650:660, 800:820] = True
    assert np.array_equal(errors[..., 3] == 255, wrong)
    assert np.array_equal((errors[..., 3] > 0) & ~wrong, ids > 0)
    assert picture(page, "overview-image").shape == (700, 900, 3)


def test_the_places_are_those_with_errors_and_then_with_borders(measured):
    _, _, page = measured
    assert page.says("In the chunk with the most errors chunk 5/6 · y 316–700 · x 516–900")
    assert page.says("Many class borders chunk 1/1 · y 0–384 · x 0–384")
    assert len([a for t, a in page.elements if t == "span" and a.get("class") == "mark"]) == 4


def test_the_same_run_gives_the_same_page(measured):
    root, options, page = measured
    again = pipeline.report(root / "out.zarr", out=root / "again.html", **options)
    assert Path(again).read_text() == page.source


@pytest.mark.slow
def test_a_real_run(tmp_path):
    make_image(tmp_path / "image.zarr", (300, 300), channels=2)
    make_model(tmp_path / "model.safetensors", channels=2)
    output = tmp_path / f"{EVIL}.zarr"
    job = {"input": tmp_path / "image.zarr", "output": output, "model": tmp_path / "model.safetensors"}
    pipeline.segment(
        SegmentJob(**{k: str(v) for k, v in job.items()}, workers=1, threads=1, chunk=(256, 256), device="cpu")
    )
    path = pipeline.report(output)
    assert path == str(tmp_path / f"{EVIL}.zarr.run" / "report.html")
    page = Page(path)
    page.check_alone()
    assert EVIL not in page.source
    assert page.says(f"{EVIL}.zarr")
    assert page.says("4 chunks")
    assert page.says("of the plan; the limit is")
    assert re.search(r"torch.[\d.]+", page.text)


def test_an_unfinished_run_shows_what_lacks_and_escapes_everything(tmp_path):
    classes = ("background", f"cell {EVIL}")
    states = {0: "failed", 1: "pending", 2: "skipped"}
    output = make_run(
        tmp_path, stripes((200, 200)), states=states, sealed=False, name=f"{EVIL}.zarr", classes=classes
    )
    page = Page(pipeline.report(output))
    page.check_alone()
    assert EVIL not in page.source
    assert page.says(f"cell {EVIL}")
    assert page.says("Incomplete Of 16 chunks, 1 failed and 1 are pending.")
    assert page.says("0/0 3 the <network> gave NaN")
    assert page.says("not computed")
    assert page.says("13 done 1 failed 1 skipped 1 pending")
    assert page.says("20 µm")  # of the image: the result is not published yet
    shown = picture(page, "overview-prediction")
    grey = (shown[..., 0] == shown[..., 1]) & (shown[..., 3] > 0)
    assert grey[:64, :128].all()
    assert not grey[64:].any()
    assert not grey[:, 128:].any()


def test_more_failures_than_are_shown(tmp_path):
    states = dict.fromkeys(range(12), "failed")
    page = Page(pipeline.report(make_run(tmp_path, stripes((200, 200)), states=states, sealed=False)))
    assert page.says("And 2 more;")


def test_all_computed_but_not_sealed(tmp_path):
    page = Page(pipeline.report(make_run(tmp_path, stripes((64, 64)), sealed=False)))
    assert page.says("Not sealed All 1 chunks are computed")


def test_without_the_image_the_model_and_the_result(tmp_path):
    output = make_run(tmp_path, stripes((200, 200)))
    (tmp_path / "image.zarr").rename(tmp_path / "moved.zarr")
    (tmp_path / "model.safetensors").unlink()
    page = Page(pipeline.report(output))
    assert page.says("The image is not shown")
    assert page.says("The checkpoint is not there any more")
    assert page.says("Halo y 8 + 8, x 8 + 8 voxels")
    assert not page.all("image", id="overview-image")
    assert page.all("image", id="overview-prediction")
    shutil.rmtree(output)
    page = Page(pipeline.report(output))
    page.check_alone()
    assert page.says("The result is not shown")
    assert not page.all("image")
    assert page.says("Complete")


def test_another_image_or_model_in_the_old_place(tmp_path):
    output = make_run(tmp_path, stripes((200, 200)))
    shutil.rmtree(tmp_path / "image.zarr")
    make_image(tmp_path / "image.zarr", (90, 90))
    make_model(tmp_path / "model.safetensors")
    page = Page(pipeline.report(output))
    assert page.says("has the shape [90, 90], the run read [200, 200]")
    assert page.says("holds another model now")


def test_another_result_in_the_old_place(tmp_path):
    output = make_run(tmp_path, stripes((200, 200)))
    shutil.rmtree(output)
    make_image(output, (90, 90))
    assert Page(pipeline.report(output)).says("has the shape (90, 90), the run made (200, 200)")


@pytest.mark.parametrize(("damaged", "note"), [("out.zarr", "The overview"), ("image.zarr", "The image")])
def test_damaged_chunks_are_noted(tmp_path, damaged, note):
    output = make_run(tmp_path, stripes((700, 500)), chunk=(256, 256))
    for path in [path for path in (tmp_path / damaged / "0" / "c").rglob("*") if path.is_file()][:1]:
        path.write_bytes(b"damaged")
    page = Page(pipeline.report(output))
    page.check_alone()
    assert page.says(f"{note} is not shown")
    assert page.all("image", id="place-1-prediction")


def test_a_stack_shows_its_middle_plane(tmp_path):
    ids = np.zeros((70, 600, 100), "u1")
    ids[35, 10:60, 10:60] = 1
    output = make_run(tmp_path, ids)
    target = ids.copy()
    target[1, 5, 5] = 1
    save(tmp_path / "t.zarr", target, "zyx", chunks=64)
    found = pipeline.evaluate(
        EvaluateJob(prediction=str(output), target=str(tmp_path / "t.zarr"), out=str(tmp_path))
    )
    assert found["worst"][0]["core"] == "0:64,0:64,0:64"
    options = {"target": tmp_path / "t.zarr", "metrics": tmp_path / "metrics.json"}
    page = Page(pipeline.report(output, **options))
    assert page.says("The middle plane of the result, z 35 · y 0–600 · x 0–100")
    assert np.array_equal(picture(page, "overview-prediction")[..., 3] > 0, ids[35] > 0)
    assert page.says("In the chunk with the most errors chunk 0/0/0 · z 32")
    assert page.says("Many class borders chunk 0/3/0 · z 35")


@pytest.mark.parametrize(
    ("kind", "dtype", "scale", "offset"),
    [("probabilities", "uint8", 255, 0), ("probabilities", "float32", 1, 0), ("logits", None, 8, -4)],
)
@pytest.mark.parametrize("outputs", [1, 2])
def test_probabilities_and_raw_output_are_shown_as_classes(tmp_path, kind, dtype, scale, offset, outputs):
    ids = stripes((100, 120))
    values = np.stack([1 - ids, ids][-outputs:]) * float(scale) + offset
    make_model(tmp_path / "model.safetensors", outputs=outputs)
    output = make_run(tmp_path, values, kind=kind, dtype=dtype)
    page = Page(pipeline.report(output))
    assert np.array_equal(picture(page, "overview-prediction")[..., 3] > 0, ids > 0)


def test_a_region_lies_over_its_part_of_the_image(tmp_path):
    make_image(tmp_path / "image.zarr", (300, 400))
    output = make_run(tmp_path, stripes((100, 200)), region=((100, 200), (50, 250)))
    page = Page(pipeline.report(output))
    assert page.says("--region 100:200,50:250")
    assert page.says("Region 100:200,50:250")
    assert picture(page, "overview-image").shape == (100, 200, 3)


def test_the_overview_is_bounded_and_places_are_at_full_resolution(tmp_path, monkeypatch):
    monkeypatch.setattr(album, "PIXELS", 100)
    output = make_run(tmp_path, stripes((1000, 700)), chunk=(256, 256))
    page = Page(pipeline.report(output))
    assert picture(page, "overview-prediction").shape[:2] == (100, 70)
    assert picture(page, "place-1-prediction").shape[:2] == (384, 384)


def test_an_even_result_is_looked_at_in_its_middle(tmp_path):
    page = Page(pipeline.report(make_run(tmp_path, np.zeros((700, 700), "u1"), chunk=(256, 256))))
    assert page.says("Spread evenly")


def test_ignored_voxels_are_neither_right_nor_wrong(tmp_path):
    ids = np.ones((100, 100), "u1")
    output = make_run(tmp_path, ids)
    target = ids.copy()
    target[:50] = 255
    target[60] = 0
    save(tmp_path / "t.zarr", target, "yx", chunks=50)
    job = {"prediction": str(output), "target": str(tmp_path / "t.zarr"), "out": str(tmp_path), "ignore": 255}
    pipeline.evaluate(EvaluateJob.model_validate(job))
    options = {"target": tmp_path / "t.zarr", "metrics": tmp_path / "metrics.json"}
    page = Page(pipeline.report(output, **options))
    assert page.says("not counted")
    alpha = picture(page, "overview-errors")[..., 3]
    assert [len(set(part.flat)) for part in (alpha[:50], alpha[60:61])] == [1, 1]
    assert alpha[0, 0] < alpha[60, 0] == 255


@pytest.fixture
def plain(tmp_path):
    return make_run(tmp_path, np.zeros((64, 64), "u1"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output": "none.zarr"}, "there is no run here"),
        ({"out": "page.txt"}, "ends in .html"),
        ({"out": "folder.html"}, "ends in .html"),
        ({"out": "none/page.html"}, "there is no folder"),
        ({"out": "out.zarr/page.html"}, "lies in the result"),
        ({"target": "small.zarr"}, "has the shape .63, 64., the result .* must be equal"),
        ({"target": "image.zarr"}, "has a channel axis"),
        ({"metrics": "none.json"}, "cannot be read"),
        ({"metrics": "text.json"}, "cannot be read"),
        ({"metrics": "list.json"}, "not what `overtile evaluate --out` writes"),
        ({"metrics": "empty.json"}, "not what .*prediction: is needed"),
    ],
)
def test_refusals(plain, monkeypatch, options, message):
    monkeypatch.chdir(plain.parent)
    save(plain.parent / "small.zarr", np.zeros((63, 64), "u1"))
    (plain.parent / "folder.html").mkdir()
    for name, content in (("text", "{"), ("list", "[]"), ("empty", "{}")):
        (plain.parent / f"{name}.json").write_text(content)
    with pytest.raises(InputError, match=message):
        pipeline.report(**{"output": "out.zarr"} | options)
    assert not (plain.parent / "out.zarr.run" / "report.html").exists()


@pytest.mark.parametrize("worst", [[], [{"position": "9/9", "core": "90:99,90:99", "wrong": 3}]])
def test_the_worst_chunk_of_another_volume_is_not_looked_for(worst):
    ratios = dict.fromkeys(("accuracy", "mean_iou", "mean_dice", "mean_precision", "mean_recall"), None)
    counts = {"voxels": 0, "ignored": 0, "chunks": 1, "ignore": None}
    found = check_metrics(
        {"prediction": "p", "target": "t", "absent": [], "classes": {}, **ratios, **counts, "worst": worst}
    )
    assert found.worst_core((64, 64)) is None
    assert bool(worst) == (found.worst_core((99, 99)) is not None)
