"""No secret leaves a flow: canaries are planted wherever one might stand, and looked for in all that it says."""

import logging
import traceback

import pytest

from flows.redact import HIDDEN, Redaction, cleaned, redact, redact_all, redacted
from pipeline.errors import InputError, OvertileError

CANARY = "c4n4ryBird9"


@pytest.mark.parametrize(
    "text",
    [
        f"s3://AKIAIOSFODNN7EXAMPLE:{CANARY}@bucket/key: no",
        f"cannot reach postgresql+asyncpg://overtile:{CANARY}@db:5432/prefect",
        f"https://host/a.tif?X-Amz-Signature={CANARY}&X-Amz-Date=1",
        f"https://account.blob/a.tif?sv=1&sig={CANARY}",
        f"GET https://host/a?access_token={CANARY}#x",
        f"Authorization: Bearer {CANARY}",
        f"aws_secret_access_key = {CANARY}",
        f'{{"password": "{CANARY}"}}',
        f"{{'apiKey': '{CANARY}'}}",
        f"OVERTILE_TOKEN={CANARY} overtile segment",
        f"-----BEGIN RSA PRIVATE KEY-----\n{CANARY}\n-----END RSA PRIVATE KEY----- and more",
        f"-----BEGIN PRIVATE KEY-----\n{CANARY}",
        f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0{CANARY}.x",
    ],
)
def test_what_looks_like_a_secret_is_hidden(text):
    assert CANARY not in redact(text)
    assert HIDDEN in redact(text)
    assert "AKIAIOSFODNN7EXAMPLE" not in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "/data/key/image.zarr: chunk 3/4, attempt 1 failed: stored chunk c/0/0 is missing",
        "s3://bucket/scans/a@2x.zarr",
        "https://host/a.tif?level=3",
        "the token of chunk 3 is lost",
        "https://host:443/path and name@host",
        "C:\\data: 12 of 20 chunks",
    ],
)
def test_what_is_no_secret_is_left_as_it_is(text):
    assert redact(text) == text


@pytest.mark.parametrize(
    "name", ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "OVERTILE_STORE_PASSWORD", "PREFECT_API_AUTH_STRING"]
)
def test_secrets_of_the_environment_are_hidden_wherever_they_stand(monkeypatch, name):
    monkeypatch.setenv(name, "a/b+c d9")
    monkeypatch.setenv("OVERTILE_STORE_PATIENCE", "patience")
    assert redact("x a/b+c d9 y a%2Fb%2Bc%20d9 z patience") == f"x {HIDDEN} y {HIDDEN} z patience"


def test_a_short_value_or_a_path_is_no_secret(monkeypatch):
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/home/me/credentials")
    monkeypatch.setenv("USE_TOKEN", "true")
    assert redact("true: /home/me/credentials") == "true: /home/me/credentials"


def test_nested_data_is_cleaned():
    found = redact_all({"a": [1, f"token={CANARY}", (f"password={CANARY}",)], f"secret={CANARY}": None})
    assert CANARY not in str(found)
    assert found["a"][0] == 1


class Odd(Exception):
    """An exception whose text is not in its arguments."""

    def __str__(self):
        return f"token={CANARY}"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InputError(f"s3://a:{CANARY}@b/c: no"), InputError),
        (FileNotFoundError(2, "none", f"s3://a:{CANARY}@b/c"), OvertileError),
        (KeyError(f"token={CANARY}"), KeyError),
        (Odd(), OvertileError),
    ],
)
def test_a_flow_fails_without_the_secret_in_its_error(error, kind):
    @redacted
    def flow(job: str, number: int = 3) -> None:
        """Do nothing."""
        raise error

    with pytest.raises(kind) as raised:
        flow("x")
    assert CANARY not in "".join(traceback.format_exception_only(raised.value))
    assert CANARY not in repr(raised.value)


@pytest.mark.parametrize("cause", [ValueError(f"token={CANARY}"), Odd()])
def test_a_cause_is_cleaned_too(cause):
    @redacted
    def flow() -> None:
        """Do nothing."""
        try:
            raise cause
        except Exception as error:
            raise InputError("no") from error

    with pytest.raises(InputError) as raised:
        flow()
    assert CANARY not in "".join(traceback.format_exception(raised.value))


def test_an_error_without_secrets_and_a_result_are_left_alone():
    error = InputError("no")
    assert cleaned(error) is error

    @redacted
    def double(number: int) -> int:
        """Double it."""
        return 2 * number

    assert double(3) == 6
    assert double.__annotations__ == {"number": int, "return": int}


@pytest.fixture
def cleaned_log(caplog):
    redaction = Redaction()
    caplog.handler.addFilter(redaction)
    yield caplog
    caplog.handler.removeFilter(redaction)  # the handler is that of all tests of this process


def test_a_record_whose_arguments_do_not_fit_harms_nobody(cleaned_log):
    logging.getLogger("overtile.test-redact").warning("%d of it", f"token={CANARY}")
    assert f"%d of it ('token={HIDDEN}',)" in cleaned_log.text


def test_log_records_lose_secrets_in_messages_arguments_and_traces(cleaned_log):
    caplog = cleaned_log
    log = logging.getLogger("overtile.test-redact")
    log.warning("reading %s, attempt %d", f"s3://a:{CANARY}@b/c", 2)
    log.warning("100 % of it")
    try:
        raise ValueError(f"token={CANARY}")
    except ValueError:
        log.exception("it failed")
    assert CANARY not in caplog.text
    assert f"reading s3://{HIDDEN}@b/c, attempt 2" in caplog.text
    assert "ValueError: token=***" in caplog.text
    assert "100 % of it" in caplog.text
