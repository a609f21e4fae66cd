"""The image, the compose file, the Kubernetes manifest and their guide agree with each other and with the server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from routellm_core.cli.serve import serve
from routellm_core.config import ENVIRONMENT, RouteLLMConfig, build_controller, load_config
from routellm_core.server.app import create_app

REPOSITORY = Path(__file__).parents[1]
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
GUIDE = (REPOSITORY / "docs" / "deployment.md").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((REPOSITORY / "deploy" / "compose.yaml").read_text(encoding="utf-8"))
MANIFEST = {
    item["kind"]: item
    for item in yaml.safe_load_all((REPOSITORY / "deploy" / "kubernetes.yaml").read_text(encoding="utf-8"))
}
POD = MANIFEST["Deployment"]["spec"]["template"]
CONTAINER = POD["spec"]["containers"][0]
KUBERNETES_CONFIG = yaml.safe_load(MANIFEST["ConfigMap"]["data"]["config.yaml"])
PROVIDERS_OWN = {"OPENAI_API_KEY", "XDG_CACHE_HOME"}


@pytest.fixture(scope="module")
def paths() -> set[str]:
    """The paths that the server answers."""
    controller = build_controller(RouteLLMConfig(), routers=["random"])
    return set(create_app(controller).openapi()["paths"])


def image_environment() -> dict[str, str]:
    block = re.search(r"^ENV ((?:.*\\\n)*.*)", DOCKERFILE, re.MULTILINE)
    assert block
    return dict(part.split("=", 1) for part in block[1].replace("\\\n", " ").split())


def images() -> Iterator[str]:
    yield from re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    yield from (service["image"] for service in COMPOSE["services"].values())
    yield CONTAINER["image"]


def served_commands() -> dict[str, list[str]]:
    command = re.search(r"^CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    unit = re.search(r"^ExecStart=\S+/routellm (.*)$", GUIDE, re.MULTILINE)
    run = re.search(r"routellm-core:0\.1\.0 (serve .*)$", GUIDE, re.MULTILINE)
    assert command
    assert unit
    assert run
    return {
        "Dockerfile": json.loads(command[1]),
        "compose": COMPOSE["services"]["routellm"]["command"],
        "kubernetes": CONTAINER["args"],
        "systemd": unit[1].split(),
        "docker run": run[1].split(),
    }


@pytest.mark.parametrize("where", list(served_commands()))
def test_commands_use_flags_that_exist(where: str) -> None:
    app = typer.Typer()
    app.command()(serve)
    known = {flag for parameter in typer.main.get_command(app).params for flag in parameter.opts}
    name, *arguments = served_commands()[where]
    assert name == "serve"
    flags = {argument for argument in arguments if argument.startswith("--")}
    assert flags
    assert flags <= known


def test_environment_variables_are_ones_that_are_read() -> None:
    used = {*image_environment(), *COMPOSE["services"]["routellm"]["environment"]}
    used |= {variable["name"] for variable in CONTAINER["env"]}
    ours = {name for name in used if name.startswith("ROUTELLM_")}
    assert {"ROUTELLM_SERVER_HOST", "ROUTELLM_STRONG_MODEL"} <= ours
    assert ours <= ENVIRONMENT.keys()
    assert used - ours <= PROVIDERS_OWN | {"PATH", "PYTHONUNBUFFERED"}


@pytest.mark.parametrize("image", list(images()))
def test_images_are_pinned(image: str) -> None:
    _, _, tag = image.rpartition(":")
    assert re.match(r"\d+\.\d+\.\d+", tag), f"{image} has no exact version"


def test_the_image_is_the_package_s_version_everywhere() -> None:
    version = re.search(r'^version = "(.*)"$', (REPOSITORY / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    ours = [image for image in images() if "routellm-core" in image]
    assert len(ours) == 2
    assert {image.rpartition(":")[2] for image in ours} == {version[1]}


def test_the_image_runs_without_root_and_checks_its_health(paths: set[str]) -> None:
    users = re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE)
    assert users == [str(POD["spec"]["securityContext"]["runAsUser"])]
    check = re.search(r"^HEALTHCHECK .*\\\n\s*CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    assert check
    program = json.loads(check[1])[-1]
    compile(program, "HEALTHCHECK", "exec")
    asked = re.search(r"\}(/\w+)\"", program)
    assert asked
    assert asked[1] in paths
    assert "ROUTELLM_SERVER_PORT" in image_environment()


def test_what_the_image_copies_is_there_and_not_ignored() -> None:
    ignored = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in ignored
    copied = [
        source
        for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    ]
    assert "pyproject.toml" in copied
    for source in copied:
        assert (REPOSITORY / source).exists()
        assert f"!{source.removeprefix('./')}" in ignored


@pytest.mark.parametrize("probe", ["startupProbe", "livenessProbe", "readinessProbe"])
def test_probes_ask_for_paths_that_exist(probe: str, paths: set[str]) -> None:
    asked = CONTAINER[probe]["httpGet"]
    assert asked["path"] in paths
    assert asked["port"] in {port["name"] for port in CONTAINER["ports"]}


def test_ports_agree() -> None:
    port = KUBERNETES_CONFIG["server"]["port"]
    assert image_environment()["ROUTELLM_SERVER_PORT"] == str(port)
    assert CONTAINER["ports"] == [{"name": "http", "containerPort": port}]
    assert MANIFEST["Service"]["spec"]["ports"][0]["targetPort"] == "http"
    assert POD["metadata"]["annotations"]["prometheus.io/port"] == str(port)
    assert COMPOSE["services"]["routellm"]["ports"] == [f"127.0.0.1:{port}:{port}"]


def test_the_manifest_s_configuration_is_valid(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(MANIFEST["ConfigMap"]["data"]["config.yaml"])
    config = load_config(file, environment={})
    assert config.server.host == "0.0.0.0"
    mounts = {mount["mountPath"]: mount["name"] for mount in CONTAINER["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in POD["spec"]["volumes"]}
    keys = config.server.api_keys_file
    assert keys is not None
    assert {item["path"] for item in volumes[mounts[str(keys.parent)]]["secret"]["items"]} == {keys.name}
    config_file = Path(CONTAINER["args"][CONTAINER["args"].index("--config") + 1])
    assert volumes[mounts[str(config_file.parent)]]["configMap"]["name"] == MANIFEST["ConfigMap"]["metadata"]["name"]
    assert config_file.name in MANIFEST["ConfigMap"]["data"]


def test_a_pod_has_time_to_finish_its_answers() -> None:
    pause = int(CONTAINER["lifecycle"]["preStop"]["exec"]["command"][1])
    answers = KUBERNETES_CONFIG["server"]["shutdown_seconds"]
    assert POD["spec"]["terminationGracePeriodSeconds"] > pause + answers
    default = RouteLLMConfig().server.shutdown_seconds
    assert int(COMPOSE["services"]["routellm"]["stop_grace_period"].removesuffix("s")) > default
    unit = re.search(r"^TimeoutStopSec=(\d+)$", GUIDE, re.MULTILINE)
    assert unit
    assert int(unit[1]) > default


def test_the_secret_s_keys_are_the_ones_that_the_guide_creates() -> None:
    created = set(re.findall(r"--from-(?:literal|file)=([\w-]+)=", GUIDE))
    wanted = {variable["valueFrom"]["secretKeyRef"]["key"] for variable in CONTAINER["env"] if "valueFrom" in variable}
    for volume in POD["spec"]["volumes"]:
        wanted |= {item["key"] for item in volume.get("secret", {}).get("items", [])}
    assert wanted == created


def test_the_pod_is_confined() -> None:
    assert POD["spec"]["securityContext"]["runAsNonRoot"] is True
    assert POD["spec"]["automountServiceAccountToken"] is False
    confined = CONTAINER["securityContext"]
    assert confined["readOnlyRootFilesystem"] is True
    assert confined["allowPrivilegeEscalation"] is False
    assert confined["capabilities"] == {"drop": ["ALL"]}
    assert CONTAINER["resources"]["requests"]["cpu"]  # without it, the autoscaler has nothing to divide by
    assert CONTAINER["resources"]["limits"]["memory"]


def test_selectors_find_the_pods() -> None:
    labels: dict[str, Any] = POD["metadata"]["labels"]
    assert MANIFEST["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert MANIFEST["Service"]["spec"]["selector"] == labels
    assert MANIFEST["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    scaler = MANIFEST["HorizontalPodAutoscaler"]["spec"]
    assert scaler["scaleTargetRef"]["name"] == MANIFEST["Deployment"]["metadata"]["name"]
    # A disruption budget that every pod is needed for would block every drain.
    assert MANIFEST["PodDisruptionBudget"]["spec"]["minAvailable"] < scaler["minReplicas"]


def test_compose_starts_things_in_their_order() -> None:
    services = COMPOSE["services"]
    waits = services["routellm"]["depends_on"]
    assert waits["ollama"]["condition"] == "service_healthy"
    assert "healthcheck" in services["ollama"]
    assert waits["pull"]["condition"] == "service_completed_successfully"
    environment = services["routellm"]["environment"]
    assert environment["ROUTELLM_STRONG_API_BASE"] == services["pull"]["environment"]["OLLAMA_HOST"]
    pulled = services["pull"]["command"][0]
    for tier in ("STRONG", "WEAK"):
        assert f"ollama pull {environment[f'ROUTELLM_{tier}_MODEL'].removeprefix('ollama_chat/')}" in pulled


def test_compose_s_settings_are_valid() -> None:
    given = {
        name: re.sub(r"\$\{\w+:-(.*)\}", r"\1", value)
        for name, value in COMPOSE["services"]["routellm"]["environment"].items()
    }
    config = load_config(environment={**image_environment(), **given})
    assert config.models.weak.model == "ollama_chat/llama3.2:1b"
    assert config.server.client_keys() == []
