"""Certificates for a small cluster: an authority of its own, and one for each part that scheduler, workers and we play.

The authority's private key is never written: it signs these certificates and is forgotten, so nobody can ever make
another one that the cluster would believe. To renew them, make a new set.
"""

from __future__ import annotations

import datetime
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pipeline.errors import InputError

ROLES = ("scheduler", "worker", "client")
"""The parts of a cluster; the client is the process that runs a job."""

LONGEST = 3650
"""Days that certificates may be valid at most."""

_BACKDATED = datetime.timedelta(minutes=5)


def make_certificates(folder: str | Path, *, days: int = 365) -> dict[str, str]:
    """Make an authority and a certificate for each role: PEM files that only their owner may read.

    Args:
        folder: where to; made if it is not there. ``ca.pem``, and ``ROLE.pem`` and ``ROLE-key.pem`` for each role.
        days: for which they are valid.

    Returns:
        The files' paths by their names.

    Raises:
        InputError: one of the files is there already, the folder cannot be written to, or the days are no number from
            1 to :data:`LONGEST`.
    """
    if not 1 <= days <= LONGEST:
        raise InputError(f"--days {days}: from 1 to {LONGEST}")
    place = Path(folder).absolute()
    files = _signed(datetime.timedelta(days=days))
    there = [name for name in files if (place / name).exists() or (place / name).is_symlink()]
    if there:
        raise InputError(
            f"{folder}: {', '.join(there)} is there already and is never overwritten; name another folder"
        )
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, content in files.items():
            _write(place / name, content)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written to ({error.strerror})") from error
    return {name: str(place / name) for name in files}


def _signed(valid: datetime.timedelta) -> dict[str, bytes]:
    """Return the files' contents by their names; the authority's key is in none."""
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = _name("Overtile cluster authority")
    ca = (
        _builder(authority, authority, authority_key.public_key(), valid)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    files = {"ca.pem": ca.public_bytes(serialization.Encoding.PEM)}
    for role in ROLES:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _builder(_name(f"Overtile {role}"), authority, key.public_key(), valid)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            # Each part listens and connects: workers talk to each other, the scheduler to its workers.
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(f"overtile-{role}")]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
            )
            .sign(authority_key, hashes.SHA256())
        )
        files[f"{role}.pem"] = certificate.public_bytes(serialization.Encoding.PEM)
        files[f"{role}-key.pem"] = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    return files


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, valid: datetime.timedelta
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)  # the clocks of a cluster differ a little
        .not_valid_after(now + valid)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _write(path: Path, content: bytes) -> None:
    """Make a file that is read and written by its owner alone; never follow or replace what is there."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
