"""What a job accepts at its edge, what it refuses, and that the command line offers all of it."""

import json
import re

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.cli.options import job_command
from pipeline.config import (
    AggregateJob,
    EvaluateJob,
    IngestJob,
    Job,
    Pair,
    SegmentJob,
    TrainJob,
    explain,
    load_job,
)
from pipeline.config.values import NO_CREDENTIALS
from pipeline.errors import InputError

PATHS = {"input": "a.zarr", "output": "b.zarr", "model": "c.safetensors"}
PAIR = {"image": "i.zarr", "target": "t.zarr"}
TRAIN = {"pairs": [PAIR], "output": "m.safetensors", "classes": "background,cell"}
SMALLEST = {
    SegmentJob: PATHS,
    IngestJob: {"source": "a.tif", "output": "a.zarr"},
    AggregateJob: {"sources": ["metrics"], "out": "t.parquet"},
    EvaluateJob: {"prediction": "p.zarr", "target": "t.zarr"},
    TrainJob: TRAIN,
    Pair: PAIR,
}


def load(model, **options):
    return load_job(model, SMALLEST[model] | options)


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=4))
def test_voxels_are_read_as_they_are_written(numbers):
    text = ", ".join(map(str, numbers))
    assert load(SegmentJob, chunk=text).chunk == load(SegmentJob, chunk=numbers).chunk == tuple(numbers)


@given(
    st.lists(st.tuples(st.none() | st.integers(-9, 99), st.none() | st.integers(-9, 99)), min_size=1, max_size=3)
)
def test_ranges_are_read_as_they_are_written(pairs):
    text = ",".join(":".join("" if n is None else str(n) for n in pair) for pair in pairs)
    assert load(SegmentJob, region=text).region == load(SegmentJob, region=pairs).region == tuple(pairs)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", 1),
        ("512MiB", 512 << 20),
        ("512 MiB", 512 << 20),
        ("1.5GB", 1_500_000_000),
        ("4gib", 4 << 30),
        ("2TiB", 2 << 40),
        (7, 7),
    ],
)
def test_bytes_have_units(text, expected):
    assert load(SegmentJob, memory_limit=text).memory_limit == expected


@pytest.mark.parametrize(
    ("model", "field", "value", "said"),
    [
        (SegmentJob, "region", "0:10:2,3:4", "--region: '0:10:2' is not start:stop, for example 0:1000"),
        (SegmentJob, "region", "a:b", "--region: 'a:b' is not start:stop"),
        (SegmentJob, "region", "1.5:2", "is not start:stop"),
        (SegmentJob, "region", "", "'' is not start:stop"),
        (SegmentJob, "region", 5, "--region: Input should be a valid tuple (given: 5)"),
        (SegmentJob, "region", [[0, 64, 5]], "region.0"),
        (SegmentJob, "memory_limit", "4 trucks", "--memory-limit: '4 trucks' is not a number of bytes"),
        (SegmentJob, "memory_limit", "-3", "is not a number of bytes"),
        (SegmentJob, "memory_limit", "", "is not a number of bytes"),
        (SegmentJob, "memory_limit", "0", "--memory-limit: Input should be greater than or equal to 1"),
        (SegmentJob, "chunk", "1,,2", "chunk.1: Input should be a valid integer"),
        (SegmentJob, "chunk", "12.5,3", "chunk.0: Input should be a valid integer"),
        (SegmentJob, "chunk", "-4,4", "chunk.0: Input should be greater than or equal to 1"),
        (SegmentJob, "tile", 64.5, "--tile: Input should be a valid tuple"),
        (SegmentJob, "workers", 0, "--workers: Input should be greater than or equal to 1"),
        (SegmentJob, "threads", -1, "--threads: Input should be greater than or equal to 1"),
        (SegmentJob, "batch", "0", "--batch: Input should be greater than or equal to 1"),
        (SegmentJob, "retries", -1, "--retries: Input should be greater than or equal to 0"),
        (SegmentJob, "level", "one", "--level: Input should be a valid integer"),
        (SegmentJob, "holes", "ignore", "--holes: Input should be 'error' or 'background'"),
        (SegmentJob, "precision", "int8", "--precision: Input should be"),
        (SegmentJob, "device", "tpu", "--device: Input should be 'auto', 'cpu' or 'cuda'"),
        (SegmentJob, "dtype", "uint16", "--dtype: Input should be 'uint8' or 'float32'"),
        (SegmentJob, "pyramid", "maybe", "--pyramid: Input should be a valid boolean"),
        (SegmentJob, "input", 7, "--input: Input should be a valid string"),
        (IngestJob, "voxel_size", "a,b", "voxel_size.0: Input should be a valid number"),
        (IngestJob, "values", {"x": 1}, "values.x"),
        (IngestJob, "threshold", "nan", "--threshold: Input should be a finite number"),
        (IngestJob, "threads", 0, "--threads: Input should be greater than or equal to 1"),
        (EvaluateJob, "ignore", "none", "--ignore: Input should be a valid integer"),
        (TrainJob, "pairs", [PAIR | {"wieght": 2}], "pairs.0.wieght"),
        (TrainJob, "pairs", [PAIR | {"weight": 0}], "pairs.0.weight: Input should be greater than 0"),
        (TrainJob, "learning_rate", 0, "--learning-rate: Input should be greater than 0"),
        (TrainJob, "time_limit", "inf", "--time-limit: Input should be a finite number"),
        (TrainJob, "architecture", {"depht": 3}, "architecture.depht"),
        (Pair, "weight", -1, "--weight: Input should be greater than 0"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_with_its_option_and_what_was_given(model, field, value, said):
    with pytest.raises(InputError, match=re.escape(said)) as refusal:
        load(model, **{field: value})
    assert "\n" not in str(refusal.value)
    assert "(given: " in str(refusal.value)


@pytest.mark.parametrize("model", SMALLEST)
def test_every_needed_key_is_named_when_it_is_not_there(model):
    with pytest.raises(InputError) as refusal:
        load_job(model, {})
    for name in SMALLEST[model]:
        assert f"--{name}: is needed" in str(refusal.value)


@pytest.mark.parametrize("model", SMALLEST)
def test_jobs_are_frozen_and_come_back_from_json(model):
    job = load(model)
    for name in model.model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(job, name, getattr(job, name))
    assert model.model_validate_json(job.model_dump_json()) == job
    with pytest.raises(ValidationError, match="Extra inputs"):
        model.model_validate(SMALLEST[model] | {"colour": "red"})


def test_an_unknown_key_names_the_nearest_one_and_its_file(tmp_path):
    for key, near in {
        "memory_limt": "memory_limit",
        "modl": "model",
        "Chunk": "chunk",
        "worker": "workers",
    }.items():
        with pytest.raises(InputError, match=f"job: unknown key '{key}'; did you mean '{near}'"):
            load(SegmentJob, **{key: 1})
    file = tmp_path / "job.yaml"
    file.write_text("chnuk: 64,64")
    with pytest.raises(InputError, match=r"job\.yaml: unknown key 'chnuk'; did you mean 'chunk'"):
        load_job(SegmentJob, PATHS, file)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "a list of `key: value` lines"),
        (b"# nothing but a remark\n", "a list of `key: value` lines"),
        (b"just words", "a list of `key: value` lines"),
        (b"- a\n- b\n", "a list of `key: value` lines"),
        (b"a: [1, 2", "cannot be read"),
        (b"a: 1\n\tb: 2", "cannot be read"),
        (b"\x80\x02\xff\xfe binary", "cannot be read"),
        (b"a: \x00", "cannot be read"),
        (b"!!python/object/apply:os.system ['true']", "cannot be read"),
    ],
)
def test_a_file_that_is_no_job_is_refused(tmp_path, content, said):
    file = tmp_path / "job.yaml"
    file.write_bytes(content)
    with pytest.raises(InputError, match=said):
        load_job(SegmentJob, PATHS, file)


def test_a_file_that_is_not_there_or_a_folder_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "none.yaml"):
        with pytest.raises(InputError, match="cannot be read"):
            load_job(SegmentJob, PATHS, path)


def test_a_job_file_may_be_yaml_or_json_and_options_win_over_it(tmp_path):
    content = {**PATHS, "chunk": "64,64", "region": "0:50,:9", "memory-limit": "1GiB", "workers": 4, "tile": None}
    expected = load(SegmentJob, chunk=(64, 64), region=((0, 50), (None, 9)), memory_limit=1 << 30, workers=4)
    as_json, as_yaml = tmp_path / "job.json", tmp_path / "job.yaml"
    as_json.write_text(json.dumps(content))
    as_yaml.write_text("\n".join(f"{key}: {'' if value is None else value}" for key, value in content.items()))
    for file in (as_json, as_yaml):
        assert load_job(SegmentJob, {}, file) == expected
        assert load_job(SegmentJob, {"workers": None, "chunk": None}, file) == expected, "None is: not given"
        job = load_job(SegmentJob, {"workers": 1, "output": "d.zarr", "retries": "0"}, file)
        assert (job.workers, job.output, job.retries, job.chunk) == (1, "d.zarr", 0, (64, 64))


def test_a_finding_on_the_job_as_a_whole_has_no_option():
    with pytest.raises(InputError, match=r"^job: 3 class names for a network of 2 outputs"):
        load(TrainJob, classes="a,b,c", architecture={})
    with pytest.raises(ValidationError) as refusal:
        TrainJob.model_validate(TRAIN | {"architecture": {}, "patch": 7})
    assert explain(refusal.value).startswith("job: patch (7,) has not the 2 axes of the network")


@pytest.mark.parametrize("model", [SegmentJob, IngestJob, EvaluateJob])
def test_every_field_is_an_option_with_a_description(model):
    def show_command(job: Job, as_json: bool) -> None:
        """Show."""

    command = job_command(model, arguments=(), example="show")(show_command)
    options = {parameter.name: parameter for parameter in command.params}
    nested = {"values"} if model is IngestJob else set()
    assert set(options) == set(model.model_fields) - nested | {"config", "json"}
    shown = command.get_help(click.Context(command))
    for name in set(model.model_fields) - nested:
        assert f"--{name.replace('_', '-')}" in shown
        assert model.model_fields[name].description


@pytest.mark.parametrize("value", [True, False])
def test_a_yes_or_no_can_be_said_both_ways(value):
    heard = []

    def show_command(job: SegmentJob, as_json: bool) -> None:
        """Show."""
        heard.append(job)

    command = job_command(SegmentJob, arguments=("input", "output"), example="show")(show_command)
    flag = "--pyramid" if value else "--no-pyramid"
    command.main(["a.zarr", "b.zarr", "--model", "c", flag, "--chunk", "8,8"], standalone_mode=False)
    assert (heard[0].pyramid, heard[0].chunk, heard[0].input) == (value, (8, 8), "a.zarr")


def test_people_meet_the_fields_of_a_job_before_those_that_jobs_share():
    ordered = SegmentJob.ordered()
    assert sorted(ordered) == sorted(SegmentJob.model_fields)
    assert ordered[:3] == ["input", "output", "model"]
    assert ordered.index("pyramid") < ordered.index("scheduler")
    assert ordered.index("pyramid") < ordered.index("axes")
    assert list(SegmentJob.model_json_schema()["properties"]) == ordered


def test_a_form_of_a_job_is_fit_to_be_read():
    fields = SegmentJob.model_json_schema()["properties"]
    assert [field["position"] for field in fields.values()] == list(range(len(fields))), (
        "databases forget the order"
    )
    titles = {name: fields[name]["title"] for name in ("pixel_size", "tls_ca", "crs", "tta")}
    assert titles == {"pixel_size": "Pixel size", "tls_ca": "TLS CA", "crs": "CRS", "tta": "TTA"}
    assert not [name for name, field in fields.items() if "--" in field["description"]], "a form has no options"
    assert "with Voxel size" in fields["unit"]["description"]


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("region", "0:10,5:20"),
        ("chunk", "64,64"),
        ("overlap", "0,8"),
        ("voxel_size", "0.5,0.5"),
        ("memory_limit", "4GiB"),
    ],
)
def test_a_form_takes_lists_and_sizes_as_the_command_line_does(field, text):
    kinds = [kind["type"] for kind in SegmentJob.model_json_schema()["properties"][field]["anyOf"]]
    assert kinds[0] == "string"
    assert kinds[-1] == "null"
    job = SegmentJob.model_validate({"input": "a", "output": "b", "model": "c", field: text})
    assert getattr(job, field) is not None
    (textual, *_) = SegmentJob.model_json_schema()["properties"][field]["anyOf"]
    assert textual["pattern"] == NO_CREDENTIALS


def test_a_form_refuses_credentials_in_lists_of_addresses_too():
    assert AggregateJob.model_json_schema()["properties"]["sources"]["items"]["pattern"] == NO_CREDENTIALS


def test_a_command_takes_as_many_of_a_list_as_there_are(tmp_path):
    heard = []

    def show_command(job: AggregateJob, as_json: bool) -> None:
        """Show."""
        heard.append(job)

    command = job_command(AggregateJob, arguments=("sources",), example="show")(show_command)
    command.main(["a,b", "c", "--out", "t.parquet"], standalone_mode=False)
    (tmp_path / "job.yaml").write_text("sources: [d]")
    command.main(["--out", "t.parquet", "--config", str(tmp_path / "job.yaml")], standalone_mode=False)
    assert [job.sources for job in heard] == [("a,b", "c"), ("d",)]
