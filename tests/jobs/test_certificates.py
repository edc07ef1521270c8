"""Certificates: who signed what, who may read it, and that nothing is overwritten."""

import json
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from pipeline.errors import InputError
from pipeline.jobs.certificates import LONGEST, ROLES, make_certificates

NAMES = ["ca.pem", *(f"{role}{end}.pem" for role in ROLES for end in ("", "-key"))]
OVERTILE = str(Path(sys.executable).with_name("overtile"))


def read(path):
    return x509.load_pem_x509_certificate(Path(path).read_bytes())


def test_each_role_has_a_certificate_of_the_one_authority(tmp_path):
    made = make_certificates(tmp_path / "new" / "tls", days=30)
    assert list(made) == NAMES
    authority = read(made["ca.pem"])
    for role in ROLES:
        certificate = read(made[f"{role}.pem"])
        certificate.verify_directly_issued_by(authority)
        key = load_pem_private_key(Path(made[f"{role}-key.pem"]).read_bytes(), None)
        assert key.public_key() == certificate.public_key()
        assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        left = certificate.not_valid_after_utc - datetime.now(UTC)
        assert timedelta(days=29) < left <= timedelta(days=30)
        context = ssl.create_default_context(cafile=made["ca.pem"])
        context.load_cert_chain(made[f"{role}.pem"], made[f"{role}-key.pem"])


def test_nobody_can_sign_another_one(tmp_path):
    made = make_certificates(tmp_path)
    authority = read(made["ca.pem"]).public_key()
    keys = [load_pem_private_key(Path(path).read_bytes(), None) for name, path in made.items() if "key" in name]
    assert len(keys) == len(ROLES)
    assert authority not in [key.public_key() for key in keys]


def test_only_the_owner_may_read_them(tmp_path):
    made = make_certificates(tmp_path / "tls")
    assert {Path(path).stat().st_mode & 0o777 for path in made.values()} == {0o600}
    assert (tmp_path / "tls").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", ["ca.pem", "worker-key.pem"])
@pytest.mark.parametrize("linked", [False, True])
def test_nothing_is_overwritten(name, linked, tmp_path):
    if linked:
        (tmp_path / name).symlink_to(tmp_path / "elsewhere")
    else:
        (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match=f"{name} is there already and is never overwritten"):
        make_certificates(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("days", [0, -1, LONGEST + 1])
def test_the_days_are_bounded(days, tmp_path):
    with pytest.raises(InputError, match=f"--days {days}: from 1 to"):
        make_certificates(tmp_path / "x", days=days)
    assert not (tmp_path / "x").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot be written to \(Not a directory\)"):
        make_certificates(tmp_path / "file" / "tls")


def run(*arguments):
    return subprocess.run([OVERTILE, "certs", *map(str, arguments)], capture_output=True, text=True, check=False)


def test_the_command_makes_them_and_says_how_to_use_them(tmp_path):
    done = run(tmp_path / "tls")
    assert (done.returncode, done.stdout) == (0, "")
    for words in ("dask scheduler --protocol tls", "dask worker tls://HOST:8786", "--scheduler tls://HOST:8786"):
        assert words in done.stderr
    again = run(tmp_path / "tls")
    assert again.returncode == 2
    assert "never overwritten" in again.stderr
    told = run(tmp_path / "other", "--json", "--days", 5)
    assert list(json.loads(told.stdout)) == NAMES
