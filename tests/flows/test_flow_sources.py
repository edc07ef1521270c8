"""Flows are phases in order: short, without numbers, loops over chunks or error handling of their own."""

import ast
from pathlib import Path

import pytest

FLOWS = [path for path in sorted((Path(__file__).parents[2] / "flows").glob("*.py"))]
LINES = 60


def functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def decorated(node, name):
    called = [d.func if isinstance(d, ast.Call) else d for d in node.decorator_list]
    return any(isinstance(d, ast.Name) and d.id == name for d in called)


def modules(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("path", FLOWS, ids=lambda path: path.stem)
def test_a_flow_holds_phases_only(path):
    tree = ast.parse(path.read_text())
    flows = [f for f in functions(tree) if decorated(f, "flow")]
    for function in functions(tree):
        assert function.end_lineno - function.lineno < LINES, function.name
    for function in flows:
        assert not [n for n in ast.walk(function) if isinstance(n, ast.Try | ast.While)], function.name
    if flows:
        assert not {"numpy", "torch", "dask", "distributed", "zarr"} & set(modules(tree))


def test_there_are_flows():
    names = {
        function.name
        for path in FLOWS
        for function in functions(ast.parse(path.read_text()))
        if decorated(function, "flow")
    }
    assert {"segment_flow", "ingest_flow", "train_flow", "evaluate_flow", "report_flow"} <= names
