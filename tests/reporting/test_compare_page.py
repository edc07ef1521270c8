"""The page of a comparison: it loads nothing, runs nothing, and says what was found."""

import re

from pipeline.reporting.compare_page import compare_page

EVIL = "<img src=x onerror=alert(1)>$&\"'"


def row(variant, seed, value):
    return {
        "variant": variant,
        "seed": seed,
        "checkpoint": f"/out/{variant}/{EVIL}",
        "mean_iou": value,
        "parameters": 1234,
        "steps": 100,
        "kept_step": 90,
        "seconds": 60.0,
        "waited": 3.0,
    }


def document(**changes):
    found = {
        "metrics": ["mean_iou"],
        "variants": [
            {"variant": "base", "metric": "mean_iou", "mean": 0.7, "std": 0.01, "by_seed": {"0": 0.69, "1": 0.71}},
            {"variant": "bare", "metric": "mean_iou", "mean": 0.6, "std": None, "by_seed": {"0": 0.6, "1": None}},
        ],
        "differences": [
            {
                "variant": "bare",
                "metric": "mean_iou",
                "mean": -0.09,
                "low": -0.12,
                "high": -0.05,
                "by_seed": {"0": -0.09, "1": None},
                "verdict": "worse",
            }
        ],
        "trials": [row("base", 0, 0.69), row("base", 1, 0.71), row("bare", 0, 0.6), row("bare", 1, None)],
        "changes": {"bare": {"architecture": EVIL}},
        "plan": [{"name": "loss", "value": {"kind": EVIL}, "reason": EVIL}],
        "exam": "exam",
        "intervals": {"resamples": 2000, "confidence": 0.95, "seed": 0},
    }
    return found | changes


CURVES = [
    (
        "base",
        [
            {"step": 50, "loss": 0.5, "validation_mean_iou": 0.4},
            {"step": 100, "loss": 0.3, "validation_mean_iou": 0.7},
        ],
    ),
    ("bare", [{"step": 100, "loss": 0.4, "validation_mean_iou": None}]),
]


def text(page):
    return " ".join(re.sub(r"<[^>]*>", " ", page.partition("</style>")[2]).replace("\u00a0", " ").split())


def test_the_page_is_one_file_in_which_names_are_no_markup():
    page = compare_page(document(), CURVES)
    assert "<script" not in page
    assert "<img src=x" not in page
    assert re.findall(r'(?:src|href)="(?!data:image/png;base64,)', page) == []
    assert "default-src 'none'" in page
    assert page == compare_page(document(), CURVES)


def test_it_says_what_was_found():
    said = text(compare_page(document(), CURVES))
    assert "base 0.700 ± 0.010 2 1,234 100" in said
    assert "bare mean_iou −0.0900 −0.1200 to −0.0500 −0.0900, – worse" in said
    assert "Measured on pairs that no training used" in said
    assert "2,000 bootstrap" in said
    assert "4 min 00 s of training" in said
    assert "5.0%" in said
    assert "which also chose the weights" in text(compare_page(document(exam="split"), CURVES))


def test_what_was_not_measured_is_not_drawn():
    bare = [("base", [{"step": 1, "loss": 0.5, "validation_mean_iou": None}])]
    page = compare_page(document(), bare)
    assert "On what each training held out." not in page
    assert "Mean loss since" in page
