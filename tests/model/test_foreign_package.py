"""Packages of files: folders and zips, and nothing outside them."""

import zipfile

import pytest
from foreign_models import sha256, zipped

from pipeline.errors import ModelError
from pipeline.model.foreign import package
from pipeline.model.foreign.package import file_of, is_package, opened, read_description


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "made"
    made.mkdir()
    (made / "rdf.yaml").write_text("name: a\n")
    (made / "weights.pt").write_bytes(b"weights")
    return made


def test_a_folder_a_zip_and_a_description_are_packages(folder):
    archive = zipped(folder)
    for path in (folder, archive, folder / "rdf.yaml"):
        assert is_package(path)
        with opened(path) as description:
            assert read_description(description) == {"name": "a"}
            assert file_of(description.parent, {"source": "weights.pt"}).read_bytes() == b"weights"
            unpacked = description.parent
    assert not is_package(folder / "weights.pt")
    with opened(archive) as description:
        unpacked = description.parent
    assert not unpacked.exists()


def test_the_newer_name_of_the_description_comes_first(folder):
    (folder / "bioimageio.yaml").write_text("name: b\n")
    with opened(folder) as description:
        assert description.name == "bioimageio.yaml"


def test_what_is_no_package_is_refused(tmp_path, folder):
    for path, said in [
        (tmp_path / "none.zip", "There is no package"),
        (tmp_path, r"not a package of bioimage\.io: it has no bioimageio\.yaml or rdf\.yaml"),
        (folder / "weights.zip", "cannot be unpacked"),
    ]:
        (folder / "weights.zip").write_bytes(b"no zip")
        with pytest.raises(ModelError, match=said), opened(path):
            pass


@pytest.mark.parametrize("name", ["../evil.py", "/evil.py", "a/../../evil.py", "..\\evil.py"])
def test_a_zip_that_leads_out_is_refused(tmp_path, name):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("rdf.yaml", "name: a")
        archive.writestr(name, "1 / 0")
    with pytest.raises(ModelError, match="which leads out of it"), opened(path):
        pass


def test_a_zip_that_is_too_large_is_refused(folder, monkeypatch):
    monkeypatch.setattr(package, "_LARGEST_PACKAGE", 3)
    with pytest.raises(ModelError, match=r"unpacks to 0 GiB.*unpack it yourself"), opened(zipped(folder)):
        pass


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"- a\n- b\n", "no `key: value` lines"),
        (b"a: [1", "cannot be read"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"!!python/object/apply:os.system ['true']", "cannot be read"),
        (b"# " + b"x" * (5 << 20), "has 5 MiB: that is no description"),
    ],
)
def test_what_is_no_description_is_refused(folder, content, said):
    (folder / "rdf.yaml").write_bytes(content)
    with pytest.raises(ModelError, match=said):
        read_description(folder / "rdf.yaml")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("https://host/weights.pt", "by its address; nothing is downloaded here"),
        ("s3://bucket/weights.pt", "by its address"),
        ("../outside.pt", "lies outside of it"),
        ("link.pt", "lies outside of it"),
        ("none.pt", r"has no file none\.pt"),
    ],
)
def test_only_files_of_the_package_are_read(folder, source, said):
    (folder.parent / "outside.pt").write_bytes(b"secret")
    (folder / "link.pt").symlink_to(folder.parent / "outside.pt")
    with pytest.raises(ModelError, match=said):
        file_of(folder, {"source": source})
    with pytest.raises(ModelError, match="lies outside of it"):
        file_of(folder, {"source": str(folder.parent / "outside.pt")})


def test_a_file_must_be_the_one_that_the_description_means(folder):
    digest = sha256(folder / "weights.pt")
    assert file_of(folder, {"source": "weights.pt", "sha256": digest}) == folder / "weights.pt"
    with pytest.raises(ModelError, match=f"its sha256 is {digest}, not {'0' * 64}; get the package anew"):
        file_of(folder, {"source": "weights.pt", "sha256": "0" * 64})
