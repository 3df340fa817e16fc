"""The containers' files: valid, closed by default, and in step with what they run.

No container engine is at hand here, so this is what can be known without one.
"""

import json
import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from cli.workers import STOP_SECONDS

ROOT = Path(__file__).parents[2]
OURS = ("api", "dicom", "worker", "flower")
PUBLISHED = {"api": "API_PUBLISH", "dicom": "DICOM_PUBLISH", "flower": "FLOWER_PUBLISH"}
SECRETS = ("REDIS_PASSWORD", "QDRANT_API_KEY", "KINDRED_API_KEYS", "FLOWER_BASIC_AUTH")
COMPOSE_FILES = ("docker-compose.yml", "docker-compose.cpu.yml")


class Loader(yaml.SafeLoader):
    """Reads Compose's `!reset`, which unsets a value of the file before, as that value."""


Loader.add_constructor("!reset", lambda loader, node: None)


def load(name: str) -> dict[str, Any]:
    return yaml.load((ROOT / name).read_text(), Loader)  # noqa: S506 - it is a SafeLoader


def mentioned_variables() -> set[str]:
    text = "".join((ROOT / name).read_text() for name in COMPOSE_FILES)
    return set(re.findall(r"(?<!\$)\$\{(\w+)", text))


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return load("docker-compose.yml")["services"]


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    """The compose specification's, as check-jsonschema ships it."""
    vendored = files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json"
    return json.loads(vendored.read_text())


@pytest.mark.parametrize("name", COMPOSE_FILES)
def test_compose_files_follow_the_specification(schema, name):
    jsonschema.Draft202012Validator(schema).validate(load(name))


def test_a_mistake_would_be_noticed(schema):
    broken = load("docker-compose.yml")
    broken["services"]["api"]["healthcheck"]["intervall"] = "10s"

    assert not jsonschema.Draft202012Validator(schema).is_valid(broken)


def test_every_service_is_watched_and_confined(services):
    for name, service in services.items():
        assert service["healthcheck"]["test"], name
        assert service["restart"] == "unless-stopped", name
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert service["logging"]["options"]["max-size"], name


def test_images_are_pinned_to_a_version_or_built_here(services):
    for name, service in services.items():
        if name in OURS:
            assert service["image"] == "kindred:local"
            assert (ROOT / service["build"]["dockerfile"]).is_file()
        else:
            assert re.search(r":v?\d+\.\d+\.\d+", service["image"]), name


def test_the_qdrant_server_is_of_the_clients_version(services):
    """Qdrant promises compatibility of neighbouring minor versions; we keep to the same."""
    lock = (ROOT / "requirements.lock").read_text()
    client = re.search(r"^qdrant-client==(\d+\.\d+)\.", lock, re.MULTILINE).group(1)

    assert f":v{client}." in services["qdrant"]["image"]


def test_only_doors_and_flower_are_published_and_only_to_this_host(services):
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}

    assert published.keys() == PUBLISHED.keys()
    for name, [port] in published.items():
        assert port.startswith(f"${{{PUBLISHED[name]}:-127.0.0.1:"), name


@pytest.mark.parametrize("door", ["api", "dicom"])
def test_the_doors_have_neither_qdrants_address_nor_its_key_nor_a_way_to_it(services, door):
    assert "qdrant" not in str(services[door]).lower()
    assert not set(services[door]["networks"]) & set(services["qdrant"]["networks"])


def test_secrets_are_required_and_never_written_down():
    lines = (ROOT / "docker-compose.yml").read_text().splitlines()
    for secret in SECRETS:
        uses = [line for line in lines if f"${{{secret}" in line]
        assert uses
        assert all(f"${{{secret}:?" in line for line in uses), secret

    for line in lines:
        match = re.match(r"\s+\w*(KEY|KEYS|PASSWORD|TOKEN|AUTH): (?P<value>.*)", line)
        assert not match or match["value"].startswith("${"), line


def test_redis_and_flower_ask_who_is_there(services):
    redis, flower = services["redis"], services["flower"]

    assert "requirepass $$REDISCLI_AUTH" in str(redis["command"])
    assert "${REDIS_PASSWORD" in redis["environment"]["REDISCLI_AUTH"]
    assert "${FLOWER_BASIC_AUTH" in flower["environment"]["FLOWER_BASIC_AUTH"]
    for service in services.values():
        for value in service["environment"].values():
            assert "redis://" not in value or value.startswith("redis://:${REDIS_PASSWORD"), value


def test_keys_and_the_audit_log_outlive_their_container(services):
    assert "access:/data" in services["api"]["volumes"]


def test_workers_and_api_agree_on_what_may_be_ingested(services):
    allowed = services["worker"]["environment"]["KINDRED_SOURCES"]

    assert services["api"]["environment"]["KINDRED_SOURCES"] == allowed
    assert any(
        volume.startswith(f"{allowed.split(',')[0]}:") for volume in services["worker"]["volumes"]
    )


def test_no_secret_stands_on_a_command_line(services):
    for name, service in services.items():
        line = str(service.get("command")) + str(service["healthcheck"]["test"])
        assert "${" not in line, name


def test_the_example_names_exactly_the_variables_that_the_files_need():
    lines = (ROOT / ".env.example").read_text().splitlines()
    pairs = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))

    assert pairs.keys() == mentioned_variables()
    assert {name for name in SECRETS if pairs[name]} == set()


def test_settings_given_to_containers_exist(services):
    page = (ROOT / "docs/settings.md").read_text()
    for name in OURS:
        for variable in services[name]["environment"]:
            assert not variable.startswith("KINDRED_") or f"`{variable}`" in page


@pytest.mark.parametrize("command", ["worker", "api", "dicom"])
def test_the_commands_of_the_containers_exist(services, command):
    assert services[command]["command"][0] == command

    options = [word for word in services[command]["command"] if word.startswith("--")]
    shown = subprocess.run(
        [sys.executable, "-m", "cli", command, "--help"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout

    assert all(option in shown for option in options)


def test_the_worker_uses_every_card_and_ends_its_children_before_docker_does(services):
    worker = services["worker"]

    assert "CUDA_VISIBLE_DEVICES" not in worker["environment"]
    assert worker["environment"]["KINDRED_DEVICES"] == "${KINDRED_DEVICES:-}"
    [device] = worker["deploy"]["resources"]["reservations"]["devices"]
    assert device["count"] == "all"
    assert worker["stop_grace_period"] == "2m"
    assert STOP_SECONDS["worker"] < 120


def test_the_image_holds_every_package_and_no_secret():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["setuptools"]["packages"]["find"]["include"]
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    sent = {line.removeprefix("!") for line in lines if line.startswith("!")}

    assert "*" in lines, "all that is not named stays out"
    assert {package.removesuffix("*") for package in packages} <= sent
    assert {"pyproject.toml", "requirements.lock", "README.md"} <= sent
    assert not any(fnmatch(".env", pattern) for pattern in sent)


def test_the_image_does_not_run_as_root():
    dockerfile = (ROOT / "Dockerfile.gpu").read_text()

    assert re.search(r"^USER (?!root|0)", dockerfile, re.MULTILINE)
    assert re.search(r"^HEALTHCHECK ", dockerfile, re.MULTILINE)
