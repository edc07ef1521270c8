"""The Dockerfile and the compose file: what a linter and the specification say of them, and what we promise."""

import importlib.resources
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from compose import condition_of, mounts, read_compose, secrets
from dockerfile import is_sent, last_stage, read_dockerfile, variables
from jsonschema import Draft202012Validator

from pipeline.config.cluster import KubernetesCluster

ROOT = Path(__file__).parents[2]
DEPLOYMENTS = ROOT / "deployments"
DOCKERFILE = read_dockerfile(DEPLOYMENTS / "Dockerfile")
COMPOSE = read_compose(DEPLOYMENTS / "compose.yaml", {})
SERVICES = COMPOSE["services"]
OURS = {"overtile:cpu", "overtile:cuda"}
"""The two variants of the image, as the Dockerfile's own comment tags them."""

PROGRAMS = Path(sys.executable).parent


def runs(text):
    return [i for i, each in enumerate(DOCKERFILE) if each.name == "RUN" and text in each.value]


def copies(path):
    return [i for i, each in enumerate(DOCKERFILE) if each.name == "COPY" and path in each.words[:-1]]


# --- The image


def test_a_linter_finds_nothing_in_the_dockerfile():
    linter = PROGRAMS / "hadolint"
    if not linter.exists():
        pytest.skip("hadolint has no package for this system")
    done = subprocess.run([linter, DEPLOYMENTS / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_bases_are_pinned_and_the_image_is_of_nobody_who_may_do_anything():
    bases = [each.words[0] for each in DOCKERFILE if each.name == "FROM"]
    assert len(bases) == 2
    assert all(re.fullmatch(r"python:3\.\d+-slim-\w+", base) for base in bases)
    assert [each.value for each in last_stage(DOCKERFILE) if each.name == "USER"] == ["1000:1000"]
    assert variables(last_stage(DOCKERFILE))["PYTHONUNBUFFERED"] == "1"


def test_what_changes_often_is_copied_after_what_takes_long():
    (torch,), (dependencies,), (install,) = (
        runs("torch.sh"),
        runs("--constraint constraints.txt"),
        runs("--no-deps ."),
    )
    assert copies("constraints.txt")[0] < torch < copies("pyproject.toml")[0] < dependencies
    assert dependencies < min(copies("pipeline") + copies("flows") + copies("README.md")) < install


def test_what_is_copied_is_there_and_is_sent_to_the_engine_and_little_else():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    from_here = [
        each.words for each in DOCKERFILE if each.name == "COPY" and not each.words[0].startswith("--from")
    ]
    sources = [source for words in from_here for source in words[:-1]]
    assert sources
    assert all((ROOT / source).exists() and is_sent(ignored, source) for source in sources)
    assert is_sent(ignored, "pipeline/cli/main.py")
    kept = {"deployments/secrets/api_auth", "deployments/.env", ".env", ".git/config", ".venv/bin/python"}
    kept |= {"tests/conftest.py", "pipeline/__pycache__/errors.cpython-311.pyc"}
    assert {path for path in kept if is_sent(ignored, path)} == set()


def test_no_address_and_no_secret_stands_in_the_files():
    for name in ("Dockerfile", "torch.sh", "entrypoint.sh", "secrets.sh"):
        assert "://" not in (DEPLOYMENTS / name).read_text(), name
    settings = {each.value.split("=")[0] for each in DOCKERFILE if each.name == "ARG"}
    assert settings == {"VARIANT", "TORCH_INDEX", "EXTRAS"}


def test_every_command_of_the_image_and_of_the_services_exists():
    (entry,) = (each.words for each in DOCKERFILE if each.name == "ENTRYPOINT")
    (default,) = (each.words for each in DOCKERFILE if each.name == "CMD")
    ours = [service["command"] for service in SERVICES.values() if service["image"] in OURS]
    for command in (entry[2:], default, *ours):
        program = command[0].replace("/opt/overtile", str(ROOT))
        assert shutil.which(program, path=f"{PROGRAMS}:/usr/bin:/bin"), command
        assert os.access(shutil.which(program, path=f"{PROGRAMS}:/usr/bin:/bin"), os.X_OK)
    assert entry[0] == "tini"
    assert "tini" in last_stage(DOCKERFILE)[1].value


def test_extras_are_those_of_the_package():
    (extras,) = (each.value.partition("=")[2] for each in DOCKERFILE if each.value.startswith("EXTRAS="))
    declared = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert set(extras.split(",")) <= set(declared)


def test_everybody_calls_the_image_by_the_same_names():
    tagged = set(re.findall(r"--tag (\S+)", (DEPLOYMENTS / "Dockerfile").read_text()))
    assert tagged == OURS
    pools = [json.loads((DEPLOYMENTS / "pools" / f"{kind}.json").read_text()) for kind in ("docker", "kubernetes")]
    assert {pool["variables"]["properties"]["image"]["default"] for pool in pools} == {"overtile:cpu"}
    assert KubernetesCluster().image == "overtile:cpu"
    for name, tag in (("kubernetes", "overtile:cpu"), ("kubernetes-gpu", "overtile:cuda")):
        image = yaml.safe_load((DEPLOYMENTS / "clusters" / f"{name}.yaml").read_text())["image"]
        assert image.rpartition("/")[2] == tag
    assert pools[0]["variables"]["properties"]["networks"]["default"] == [COMPOSE["networks"]["default"]["name"]]


# --- The scripts in it


@pytest.fixture
def stand_ins(tmp_path):
    """A machine of x86_64, and a pip that installs nothing and says what it was asked for."""
    for name, text in (("uname", "echo x86_64"), ("pip", f'echo "$@" >>{tmp_path}/asked')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    return tmp_path


def run(script, *arguments, **variables):
    command = [str(DEPLOYMENTS / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | variables, check=False)


def install_torch(stand_ins, *arguments):
    done = run("torch.sh", *arguments, PATH=f"{stand_ins}:{PROGRAMS}:{os.environ['PATH']}")
    asked = (stand_ins / "asked").read_text().splitlines() if (stand_ins / "asked").exists() else []
    return done.returncode, done.stderr, asked


@pytest.mark.parametrize(
    ("arguments", "said"), [(("cpu", ""), "TORCH_INDEX is not given"), (("gpu", ""), "cpu or cuda")]
)
def test_a_variant_that_cannot_be_is_refused_before_anything_is_fetched(stand_ins, arguments, said):
    status, message, asked = install_torch(stand_ins, *arguments)
    assert status == 2
    assert said in message
    assert asked == []


def test_torch_alone_comes_from_the_index_that_is_given(stand_ins):
    status, message, asked = install_torch(stand_ins, "cpu", "file:///index")
    assert asked == ["install --constraint constraints.txt --no-deps --index-url file:///index torch"]
    if torch.version.cuda is None:
        assert (status, message) == (0, "")
    else:
        assert "this torch was built for CUDA" in message


def test_a_torch_of_the_other_variant_is_noticed(stand_ins):
    other = "cuda" if torch.version.cuda is None else "cpu"
    status, message, asked = install_torch(stand_ins, other, "file:///index" if other == "cpu" else "")
    assert status == 1
    assert f"VARIANT={other}, but this torch was built for" in message
    assert len(asked) == 1


def test_secrets_become_the_variables_that_they_are_named_after(tmp_path):
    (tmp_path / "PREFECT_API_AUTH_STRING").write_text("user:pass $HOME `word`\n")
    (tmp_path / "database_password").write_text("not a variable")
    (tmp_path / "kubernetes.io").mkdir()
    done = run("entrypoint.sh", "env", SECRETS=str(tmp_path))
    found = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert found["PREFECT_API_AUTH_STRING"] == "user:pass $HOME `word`"
    assert "database_password" not in found
    assert run("entrypoint.sh", "sh", "-c", "exit 7", SECRETS=str(tmp_path / "nowhere")).returncode == 7


def test_nothing_starts_with_an_empty_secret(tmp_path):
    (tmp_path / "PREFECT_API_AUTH_STRING").write_text("\n")
    done = run("entrypoint.sh", "echo", "started", SECRETS=str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert "PREFECT_API_AUTH_STRING is empty" in done.stderr


def test_secrets_are_made_once_and_for_you_alone(tmp_path):
    folder = tmp_path / "secrets"
    assert run("secrets.sh", folder).returncode == 0
    first = {path.name: path.read_text() for path in folder.iterdir()}
    assert first.keys() == COMPOSE["secrets"].keys()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert len({value for name, value in first.items() if name != "store_user"}) == 3
    assert all(re.fullmatch(r"(overtile:)?[0-9a-f]{48}|overtile", value) for value in first.values())
    (folder / "api_auth").unlink()
    assert run("secrets.sh", folder).returncode == 0
    second = {path.name: path.read_text() for path in folder.iterdir()}
    assert {name for name in first if first[name] != second[name]} == {"api_auth"}


# --- The services


def test_the_compose_file_is_what_the_specification_allows():
    schema = importlib.resources.files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    validator = Draft202012Validator(json.loads(schema.read_text()))
    for document in (yaml.safe_load((DEPLOYMENTS / "compose.yaml").read_text()), COMPOSE):
        assert [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)] == []
    assert list(validator.iter_errors({"services": {"a": {"imagine": "b"}}})), "the schema refuses what is wrong"


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_may_do_little_and_take_no_more_than_its_share(name):
    service = SERVICES[name]
    assert service["image"].partition(":")[2] not in ("", "latest")
    assert service["user"] in ("1000:1000", "postgres")
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert not service.keys() & {"privileged", "cap_add", "pid", "ipc", "userns_mode", "devices"}
    limits = service["deploy"]["resources"]["limits"]
    assert limits.keys() >= {"memory", "pids"}
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    assert all(published.startswith("127.0.0.1:") for published in service.get("ports", []))


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_restarted_or_done_and_those_that_need_it_wait_for_that(name):
    service = SERVICES[name]
    assert service["restart"] in ("unless-stopped", "no")
    assert ("healthcheck" in service) == (service["restart"] != "no")
    for other, wanted in service.get("depends_on", {}).items():
        assert wanted["condition"] == condition_of(SERVICES[other])


@pytest.mark.parametrize("name", SERVICES)
def test_no_secret_is_a_word_of_a_service(name):
    service = SERVICES[name]
    for variable, value in service.get("environment", {}).items():
        if re.search(r"PASSWORD|SECRET|TOKEN|AUTH|ACCESS_KEY|_KEY$", variable):
            assert value.startswith(("/run/secrets/", "/tls/")), variable
        assert not re.search(r"://[^/]*@", str(value)), variable
    targets = secrets(service)
    assert set(targets.values()) <= COMPOSE["secrets"].keys()
    if service["image"] in OURS:
        assert all(re.fullmatch(r"[A-Z_]+", target) for target in targets), "they are to become variables"


def test_secrets_are_files_and_volumes_are_declared():
    assert all(each.keys() == {"file"} for each in COMPOSE["secrets"].values())
    used = [source for service in SERVICES.values() for source in mounts(service).values()]
    assert {source for source in used if not source.startswith(".")} == COMPOSE["volumes"].keys()
    assert all((DEPLOYMENTS / source).is_file() for source in used if source.startswith("."))


def test_only_the_server_reaches_the_database():
    assert COMPOSE["networks"]["database"]["internal"] is True
    near = {name for name, service in SERVICES.items() if "database" in service.get("networks", [])}
    assert near == {"database", "prefect-server"}
    assert "ports" not in SERVICES["database"]


def test_a_worker_with_a_gpu_is_there_for_those_who_ask():
    service = SERVICES["dask-worker-gpu"]
    assert service["profiles"] == ["gpu"]
    assert service["image"] == "overtile:cuda"
    assert service["build"]["args"]["VARIANT"] == "cuda"
    (device,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "device_ids": ["0"], "capabilities": ["gpu"]}


def test_every_variable_is_explained():
    text = (DEPLOYMENTS / "compose.yaml").read_text()
    wanted = set(re.findall(r"\$\{(\w+)", text))
    header, guide = text.partition("name: overtile")[0], (ROOT / "docs" / "operations.md").read_text()
    assert wanted
    assert {name for name in wanted if name not in header or f"`{name}`" not in guide} == set()
