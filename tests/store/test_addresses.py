"""Which addresses there are: one table of schemes, and everything that is refused before a byte is sent."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InputError, StoreError
from pipeline.store import LocalPlace, ObjectPlace, WebPlace, has_pattern, open_file, open_place, parse_address
from pipeline.store.address import SCHEMES, Address, hidden
from pipeline.store.clients import connect
from pipeline.store.hosts import check_host, is_public

CLOUD = ("GOOGLE_", "AZURE_", "OVERTILE_", "AWS_")


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    """No credentials, no switches, no home folder with any."""
    import os

    for name in [name for name in os.environ if name.startswith(CLOUD)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


def resolves_to(monkeypatch, *numbers):
    """Let every name resolve to these addresses."""
    found = [(socket.AF_INET6 if ":" in n else socket.AF_INET, 1, 6, "", (n, 443)) for n in numbers]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("a/b.tif", Address("file", "", "a/b.tif")),
        ("file:///a/b.tif", Address("file", "", "/a/b.tif")),
        ("s3://bucket/a/b/", Address("s3", "bucket", "a/b")),
        ("gs://bucket/a", Address("gs", "bucket", "a")),
        ("az://container/a", Address("az", "container", "a")),
        ("https://host:8443/a/b.svs", Address("https", "host:8443", "a/b.svs")),
        ("http://host/a", Address("http", "host", "a")),
    ],
)
def test_addresses_are_taken_apart(url, address):
    assert parse_address(url) == address
    assert parse_address(address.url) == address
    assert address.scheme in SCHEMES


@pytest.mark.parametrize("scheme", ["s3", "gs", "az", "https", "http"])
@pytest.mark.parametrize(
    "rest",
    [
        "",
        "root",
        "root/",
        "/key",
        "user:secret@root/key",
        "root/key?token=secret",
        "root/key#part",
        "root/a//b",
        "root/../key",
        "root/./key",
        "root\\key/a",
    ],
)
def test_what_makes_an_address_mean_something_else_is_refused(scheme, rest):
    with pytest.raises(InputError, match="not an address of the form") as caught:
        parse_address(f"{scheme}://{rest}")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["memory://a/b", "ftp://user:secret@host/a", "S3://bucket/key", "vsis3://bucket/key"]
)
def test_other_schemes_are_refused(url):
    with pytest.raises(InputError, match="addresses are a path or begin with one of") as caught:
        parse_address(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "simplecache::s3://b/k",
        "s3://b/k::x",
        "zip://a::https://h/b",
        "https://h/a.h5::/raw",
        "https://[::1]/a",
        "a::b",
    ],
)
def test_chained_addresses_are_refused(url):
    with pytest.raises(InputError, match="chained addresses are not read"):
        parse_address(url)


def test_a_file_of_this_machine_may_be_named_as_it_likes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a::b").write_bytes(b"x")
    assert parse_address("a::b").key == "a::b"
    assert open_file(tmp_path / "a#b?c").url == str(tmp_path / "a#b?c")


def test_a_file_address_has_no_host():
    with pytest.raises(InputError, match="file:///absolute/path"):
        parse_address("file://host/a")


def test_patterns_are_allowed_where_something_can_be_listed():
    assert parse_address("s3://b/k/*?.png", pattern=True).key == "k/*?.png"
    assert has_pattern("a/[0-9].png")
    assert not has_pattern("a/b.png")
    with pytest.raises(InputError, match="not an address of the form"):
        parse_address("https://h/a?b", pattern=True)


@given(st.text("abc:/?#@.*[\\s3htp ", max_size=24))
def test_any_text_is_an_address_or_refused(text):
    try:
        address = parse_address(text)
    except InputError:
        return
    assert address.is_local or not any(c in address.key for c in "?#@\\")


def test_secrets_are_hidden():
    assert hidden("https://a:b@host/k?c=d#e") == "https://host/k"
    assert hidden("a/b?c") == "a/b?c"


@pytest.mark.parametrize(
    ("number", "public"),
    [
        ("127.0.0.1", False),
        ("127.8.9.1", False),
        ("0.0.0.0", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("224.0.0.251", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00:ec2::254", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::808:808", True),
        ("2002:7f00:1::", False),
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
    ],
)
def test_which_machines_are_on_the_open_internet(number, public):
    assert is_public(number) is public


@pytest.mark.parametrize(
    "root", ["127.0.0.1", "127.0.0.1:8000", "localhost", "2130706433", "0x7f.1", "169.254.169.254"]
)
@pytest.mark.parametrize("opener", [open_file, open_place])
def test_this_machine_and_private_networks_are_refused(root, opener):
    with pytest.raises(InputError, match="OVERTILE_ALLOW_PRIVATE=1"):
        opener(f"https://{root}/a")


def test_a_name_is_refused_if_any_of_its_addresses_is_private(monkeypatch):
    resolves_to(monkeypatch, "8.8.8.8", "10.0.0.1")
    with pytest.raises(
        InputError, match=r"name.example is 10\.0\.0\.1, an address of this machine or of a private"
    ):
        check_host("name.example", "https://name.example/a")
    resolves_to(monkeypatch, "8.8.8.8", "2606:4700::1111")
    check_host("name.example:8443", "https://name.example:8443/a")


def test_a_name_that_is_not_resolved_may_be_so_later(monkeypatch):
    def fails(*_, **__):
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", fails)
    with pytest.raises(StoreError, match=r"'name\.example' cannot be resolved"):
        open_file("https://name.example/a")


@pytest.mark.parametrize(
    ("root", "message"), [("host:port", "is no host"), (":80", "is no host"), ("[::1", "is no host")]
)
def test_what_is_no_host_is_refused(root, message):
    with pytest.raises(InputError, match=message):
        check_host(root, "https://x/a")


def test_plain_http_is_refused(monkeypatch):
    resolves_to(monkeypatch, "8.8.8.8")
    with pytest.raises(InputError, match=r"plain http is not read.*OVERTILE_ALLOW_HTTP=1"):
        open_file("http://name.example/a")
    monkeypatch.setenv("OVERTILE_ALLOW_HTTP", "1")
    assert open_file("http://name.example/a%20b").name == "a b"


@pytest.mark.parametrize(
    ("url", "name", "missing"),
    [
        ("gs://bucket/a", "GOOGLE_SKIP_SIGNATURE", "no credentials; set one of GOOGLE_SERVICE_ACCOUNT"),
        ("az://container/a", "AZURE_SKIP_SIGNATURE", "no credentials; set one of AZURE_STORAGE_ACCOUNT_KEY"),
    ],
)
def test_missing_credentials_are_told_without_a_request(monkeypatch, url, name, missing):
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    with pytest.raises(InputError, match=missing):
        open_place(url)
    with pytest.raises(InputError, match="OVERTILE_MACHINE_ROLE=1"):
        open_file(url)
    monkeypatch.setenv(name, "true")
    place = open_place(url)
    assert type(place) is ObjectPlace
    assert (place.url, place.at("b").url, place.beside(".run").url) == (url, f"{url}/b", f"{url}.run")
    assert open_file(url).url == url


def test_an_azure_address_needs_an_account():
    with pytest.raises(InputError, match="AZURE_STORAGE_ACCOUNT_NAME"):
        open_place("az://container/a")


def test_googles_own_file_of_credentials_counts(monkeypatch, tmp_path):
    folder = tmp_path / ".config" / "gcloud"
    folder.mkdir(parents=True)
    (folder / "application_default_credentials.json").write_text("{")
    with pytest.raises(InputError, match="the object store is not set up"):  # it is read, and is broken
        open_place("gs://bucket/a")


def test_what_obstore_does_not_take_is_told(monkeypatch):
    monkeypatch.setenv("OVERTILE_STORE_PATIENCE", "long")
    with pytest.raises(InputError, match=r"the object store is not set up.*docs/stores\.md"):
        connect("s3", "bucket", "a")


@pytest.mark.parametrize(("url", "kind"), [("a", LocalPlace), ("https://name.example/a", WebPlace)])
def test_kinds_of_places(monkeypatch, url, kind):
    resolves_to(monkeypatch, "8.8.8.8")
    assert type(open_place(url)) is kind


WRITES = [
    lambda p: p.put("a", b""),
    lambda p: p.create("a", b""),
    lambda p: p.replace("a", b"", "etag"),
    lambda p: p.delete("a"),
    lambda p: p.appender("a"),
    lambda p: p.zarr_store(read_only=False),
]


@pytest.mark.parametrize("write", WRITES)
def test_nothing_is_written_over_https(monkeypatch, write):
    resolves_to(monkeypatch, "8.8.8.8")
    with pytest.raises(
        InputError, match=r"https is only read; what is written goes to a path or to one of file://, s3://"
    ):
        write(open_place("https://name.example/a"))


def test_nothing_is_listed_over_https(monkeypatch):
    resolves_to(monkeypatch, "8.8.8.8")
    with pytest.raises(InputError, match="cannot be listed"):
        open_place("https://name.example/a").entries()
