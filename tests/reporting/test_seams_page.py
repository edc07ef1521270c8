import numpy as np
import pytest
from pages import Page
from runs import make_run
from scipy.ndimage import gaussian_filter

import pipeline
from pipeline.evaluation.seam_survey import SeamSurvey
from pipeline.jobs.seams import keep_seams, recorded_subject
from pipeline.reporting.recorded import read_run
from pipeline.reporting.seams import CELLS, seam_facts, strengths
from pipeline.run.folder import RunFolder

SHAPE = (512, 512)


def sealed_run(root, values):
    """A run whose seams were measured."""
    ids = (values > 0).astype(np.uint8)
    output = make_run(root, ids, tile=(64, 64))
    folder = RunFolder(output)
    survey = SeamSurvey(recorded_subject(folder))
    for chunk, core in enumerate(read_run(output).grid.cores()):
        survey.add(chunk, ids[core.slices])
    seal = folder.read_seal()
    folder.seal(seal | {"seams": keep_seams(folder, survey, limit=0.52, root=seal["root"])})
    return output


@pytest.fixture(scope="module")
def stepped(tmp_path_factory):
    random = np.random.default_rng(0)
    smooth = gaussian_filter(random.standard_normal(SHAPE), 3)
    steps = np.kron(random.standard_normal((8, 8)), np.ones((64, 64)))
    return sealed_run(tmp_path_factory.mktemp("stepped"), smooth / smooth.std() + steps)


def test_a_page_says_that_there_are_seams_and_where(stepped):
    page = Page(pipeline.report(stepped))
    page.check_alone()
    assert page.says("The result has seams. At borders of chunks along ")
    assert page.says("chunks along y fine")
    assert len(page.all("img", alt="The grid of chunks, each in the colour of how far its borders stand out")) == 1
    assert len(page.all("source")) == 1
    found = seam_facts(read_run(stepped))
    assert found.flagged
    assert len(found.rows) == 4  # chunks and tiles are the same: borders of chunks alone


def test_a_map_of_another_result_is_not_shown(stepped):
    folder = RunFolder(stepped)
    seal = folder.read_seal()
    folder.seal(seal | {"root": "another"})
    assert seam_facts(read_run(stepped)).map is None
    folder.seal(seal)
    folder.place.put("seams.npz", b"torn")
    assert seam_facts(read_run(stepped)).map is None


def test_a_page_says_that_there_are_none(tmp_path):
    output = sealed_run(tmp_path, gaussian_filter(np.random.default_rng(0).standard_normal(SHAPE), 3))
    page = Page(pipeline.report(output))
    assert page.says("No seam was found: no border stands out from what is beside it.")


def test_a_page_says_why_nothing_is_known(tmp_path):
    assert (
        "is not yet" in seam_facts(read_run(make_run(tmp_path, np.zeros((64, 64), "u1"), sealed=False))).sentence
    )
    older = (
        make_run(tmp_path / "older", np.zeros((64, 64), "u1")) if (tmp_path / "older").mkdir() is None else None
    )
    assert "sealed before seams were measured; overtile seams" in seam_facts(read_run(older)).sentence
    (tmp_path / "one").mkdir()
    one = sealed_run(tmp_path / "one", np.zeros((64, 64)))
    assert "one chunk of one tile" in seam_facts(read_run(one)).sentence


def test_colours_follow_what_stands_out():
    strips, signs = np.array([[4, 100, 100], [100, 100, 100]], "f4"), np.array([[4, 0, 25], [-30, 40, 60]], "f4")
    assert strengths(strips, signs).tolist() == [[0, 1, 2], [1, 3, 4]]


def test_a_large_grid_is_added_up():
    strips = np.full((300, 300), 20, "f4")
    signs = np.zeros((300, 300), "f4")
    signs[200:203, 100:103] = 20
    found = strengths(strips, signs)
    assert found.size <= CELLS
    assert found.max() > 1
    assert (found > 1).sum() <= 9
