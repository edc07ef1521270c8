import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError
from pipeline.jobs.manifest import is_manifest, read_manifest


@pytest.mark.parametrize(
    ("name", "so"), [("a.csv", True), ("s3://b/A.PARQUET", True), ("a.csv/", False), ("a", False)]
)
def test_a_manifest_is_known_by_its_name(name, so):
    assert is_manifest(name) is so


def test_tables_of_both_kinds_say_the_same(tmp_path):
    (tmp_path / "a.csv").write_bytes(b'\xef\xbb\xbfpath,level,_note\r\nx.tif,2,\r\n"y,z.tif",,who\r\n')
    table = {"path": ["x.tif", "y,z.tif"], "level": [2, None], "_note": [None, "who"]}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    assert read_manifest(str(tmp_path / "a.csv")) == [("x.tif", {"level": "2"}), ("y,z.tif", {})]
    assert read_manifest(str(tmp_path / "a.parquet")) == [("x.tif", {"level": 2}), ("y,z.tif", {})]


def test_a_manifest_may_be_empty(tmp_path):
    (tmp_path / "a.csv").write_text("path\n")
    assert read_manifest(str(tmp_path / "a.csv")) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file\na.tif\n", "no column 'path', only file"),
        ("path,levle\na.tif,1\n", "unknown column 'levle'; did you mean 'level'"),
        ("path,patient\na.tif,1\n", "unknown column 'patient'; known are path"),
        ("path,input\na.tif,1\n", "unknown column 'input'"),
        ("path,level\n,1\n", "row 1 has no path"),
        ("path,level\na.tif\n", "line 2 has another number of cells"),
        ("path\na.tif,b\n", "line 2 has another number of cells"),
        ('path\n"a.tif\n', "cannot be read"),
        ("path\n\udcff\n", "cannot be read"),
    ],
)
def test_what_is_no_manifest_is_refused(tmp_path, content, message):
    (tmp_path / "a.csv").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=message):
        read_manifest(str(tmp_path / "a.csv"))


@pytest.mark.parametrize("name", ["a.parquet", "nothing.csv"])
def test_a_file_that_is_no_table_or_not_there_is_refused(tmp_path, name):
    (tmp_path / "a.parquet").write_text("none")
    with pytest.raises(InputError, match="the manifest cannot be read"):
        read_manifest(str(tmp_path / name))
