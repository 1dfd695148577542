"""compose.yaml, .env and the Dockerfile: what they promise, held against what they say."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()

ONE_SHOT = {name for name, service in SERVICES.items() if service["restart"] == "no"}


def mounts(service: dict[str, Any]) -> list[list[str]]:
    return [volume.split(":") for volume in service.get("volumes", [])]


def test_nothing_is_published_beyond_loopback() -> None:
    ports = [str(port) for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == 5
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert not any(service.get("network_mode") == "host" for service in SERVICES.values())


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - {"pod"} - ONE_SHOT))
def test_every_service_lives_in_the_pod_and_starts_after_it(name: str) -> None:
    assert SERVICES[name]["network_mode"] == "service:pod"
    assert "pod" in SERVICES[name]["depends_on"]


@pytest.mark.parametrize("name", SERVICES)
def test_no_service_has_more_rights_than_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert "privileged" not in service
    assert not any("docker.sock" in mount[0] for mount in mounts(service))


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - {"pod"} - ONE_SHOT))
def test_every_service_is_restarted_and_has_a_health_check(name: str) -> None:
    assert SERVICES[name]["restart"] == "unless-stopped"
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"


@pytest.mark.parametrize("name", SERVICES)
def test_every_image_is_pinned_to_a_release(name: str) -> None:
    assert re.search(r":v?\d+\.\d+\.\d+(-\w+)?$", SERVICES[name]["image"])


def test_our_image_carries_the_version_of_the_project() -> None:
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    ours = {service["image"] for service in SERVICES.values() if service["image"].startswith(COMPOSE["name"])}
    assert version
    assert {image.partition(":")[2].removesuffix("-sandbox") for image in ours} == {version[1]}


def test_every_mounted_file_is_in_the_repository_and_every_volume_declared() -> None:
    for service in SERVICES.values():
        for source, _, *mode in mounts(service):
            if source.startswith("."):
                assert (ROOT / source).exists(), source
                assert mode == ["ro"], source
            else:
                assert source in COMPOSE["volumes"]


def test_grafana_looks_for_dashboards_where_they_are_mounted() -> None:
    provisioning = ROOT / "dashboards/provisioning/dashboards"
    providers = [yaml.safe_load(path.read_text())["providers"] for path in provisioning.glob("*.yaml")]
    folders = {provider["options"]["path"] for group in providers for provider in group}
    mounted = {target for _, target, *_ in mounts(SERVICES["grafana"])}
    assert folders
    assert folders <= mounted


def test_no_credential_stands_in_compose() -> None:
    """The sandbox's two words are none: its cloud takes any."""
    secret = re.compile(r"(TOKEN|PASSWORD|SECRET|KEY|KEY_ID)$")
    for service in SERVICES.values():
        environment = service.get("environment") or {}
        if isinstance(environment, dict):
            values = {value for name, value in environment.items() if secret.search(name)}
            assert values <= {"sandbox"}


def test_a_remediator_that_can_be_reached_has_a_token() -> None:
    for name in ("remediator", "remediator-sandbox"):
        environment = SERVICES[name]["environment"]
        assert environment["BOT_REMEDIATOR_LISTEN"].startswith("0.0.0.0:")
        assert environment["BOT_REMEDIATOR_TOKEN_FILE"].startswith("/run/bot/")
        assert environment["BOT_REMEDIATOR_OPEN_METRICS"] == "true", "its Prometheus has no token"


def test_the_demo_never_sees_the_settings_or_the_state_of_the_real_fleet() -> None:
    demo = [service for service in SERVICES.values() if service.get("profiles") == ["sandbox"]]
    assert demo
    for service in demo:
        assert "env_file" not in service
        assert "remediator" not in {source for source, *_ in mounts(service)}
    assert "AWS_ENDPOINT_URL" in "".join(SERVICES["remediator-sandbox"]["environment"])


def test_plain_up_is_the_real_fleet_and_its_env_file_holds_no_more_than_that() -> None:
    lines = [line for line in (ROOT / ".env").read_text().splitlines() if not line.startswith("#")]
    assert lines == ["COMPOSE_PROFILES=aws"]
    assert SERVICES["remediator"]["profiles"] == ["aws"]


def test_the_settings_of_an_installation_stay_out_of_git_and_of_the_image() -> None:
    files = {entry["path"] for service in SERVICES.values() for entry in service.get("env_file", [])}
    assert files == {"remediator.env"}
    assert "/remediator.env" in (ROOT / ".gitignore").read_text().splitlines()
    assert "!remediator.env" not in (ROOT / ".dockerignore").read_text()


def compose_command() -> list[str]:
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]):
            result = subprocess.run(
                [*command, "version", "--short"], capture_output=True, text=True, check=False
            )
            if re.match(r"v?[2-9]\.", result.stdout):
                return command
    pytest.skip("no Docker Compose 2 here")


@pytest.mark.parametrize(
    ("arguments", "remediator"),
    [
        ([], "remediator"),
        (["--profile", "aws"], "remediator"),
        (["--profile", "sandbox"], "remediator-sandbox"),
    ],
)
def test_docker_compose_takes_each_profile_and_each_has_one_remediator(
    arguments: list[str], remediator: str
) -> None:
    command = [*compose_command(), *arguments, "config", "--services"]
    services = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert {"pod", "init", "exporter", "prometheus", "alertmanager", "grafana"} <= set(services)
    assert [name for name in services if name.startswith("remediator")] == [remediator]
    assert ("cloud" in services) == (remediator == "remediator-sandbox")


def test_the_image_is_pinned_and_runs_as_nobody_in_particular() -> None:
    bases = set(re.findall(r"^FROM (\S+:\S+)", DOCKERFILE, re.MULTILINE))
    assert len(bases) == 1
    assert re.search(r":3\.1[1-9]\.\d+-slim-\w+$", bases.pop())
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", DOCKERFILE, re.MULTILINE)


def test_all_the_image_installs_is_hashed_or_built_here() -> None:
    for line in re.findall(r"pip [^&\n]*install [^&\n]*", DOCKERFILE):
        assert "--require-hashes" in line or "--no-index" in line, line


def test_everything_the_dockerfile_copies_reaches_the_build() -> None:
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    }
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    admitted = [line.removeprefix("!") for line in ignore if line.startswith("!")]
    assert "*" in ignore
    for source in copied:
        assert (ROOT / source).exists(), source
        assert any(Path(source).match(pattern) for pattern in admitted), source
