"""The stack for Docker and for Kubernetes, as far as it can be looked at without an engine."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import kubernetes_validate
import pytest
import yaml

from infra.settings import Settings
from tasks import recipe

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
COMPOSE = yaml.safe_load((INFRA / "compose.yaml").read_text())
TEMPLATE = json.loads((INFRA / "kubernetes" / "job-template.json").read_text())
FILES = [each for each in sorted((INFRA / "kubernetes").glob("*.yaml")) if each.name != "kustomization.yaml"]
MANIFESTS = [manifest for path in FILES for manifest in yaml.safe_load_all(path.read_text())]
ONCE = {"bucket", "vernal"}  # what ends by itself has no health
SECRET = re.compile(r"PASSWORD|SECRET_ACCESS_KEY|ACCESS_KEY_ID|AUTH_STRING$|LEDGER")


def containers() -> dict[str, dict[str, Any]]:
    pods = {
        each["metadata"]["name"]: each["spec"]["template"]["spec"]
        for each in MANIFESTS
        if "template" in each.get("spec", {})
    }
    return {name: pod["containers"][0] for name, pod in pods.items()}


def rendered(**values: object) -> dict[str, Any]:
    """The job that a worker would make of the template: Prefect's own rendering, with every default."""
    from prefect.utilities.templating import apply_values

    variables = {
        name: each["default"] for name, each in TEMPLATE["variables"]["properties"].items() if "default" in each
    }
    given = {"name": "intent", "command": ["prefect", "flow-run", "execute"], "env": [], **values}
    made = apply_values(TEMPLATE["job_configuration"]["job_manifest"], {**variables, **given})
    assert isinstance(made, dict)
    return made


def test_compose_keeps_its_schema() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, str(INFRA / "compose.yaml")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_image_is_built_as_hadolint_would() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, INFRA / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda each: f"{each['kind']}-{each['metadata']['name']}")
def test_every_manifest_keeps_the_schema_of_kubernetes(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, "1.34", strict=True)


def test_kustomize_names_every_file() -> None:
    named = yaml.safe_load((INFRA / "kubernetes" / "kustomization.yaml").read_text())["resources"]
    assert sorted(named) == [path.name for path in FILES]


def test_a_run_becomes_a_job_with_the_gpus_that_it_asks_for() -> None:
    job = rendered(gpus="2", memory="32Gi")
    kubernetes_validate.validate(job, "1.34", strict=True)
    limits = job["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits == {"memory": "32Gi", "nvidia.com/gpu": "2"}


def test_every_variable_of_the_template_is_used_and_every_one_used_is_there() -> None:
    used = set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(TEMPLATE["job_configuration"])))
    assert used == set(TEMPLATE["variables"]["properties"])


def test_settings_are_those_that_the_code_reads() -> None:
    known = {f"VERNAL_{name.upper()}" for name in Settings.model_fields}
    text = "\n".join(path.read_text() for path in (INFRA / "compose.yaml", INFRA / "Dockerfile", *FILES))
    text += (INFRA / "kubernetes" / "kustomization.yaml").read_text()
    used = set(re.findall(r"\bVERNAL_[A-Z0-9_]+", text))
    assert used - known == {"VERNAL_IMAGE"}, "compose's own: which image"
    assert {"VERNAL_STORE", "VERNAL_LEDGER", "VERNAL_MLFLOW", "VERNAL_S3_ENDPOINT", "VERNAL_HOME"} <= used


def test_docker_and_kubernetes_run_the_same_images_with_the_same_settings() -> None:
    theirs = {name: each["image"] for name, each in containers().items()}
    ours = {name: each["image"] for name, each in COMPOSE["services"].items()}
    for name in ("postgres", "s3", "bucket"):
        assert theirs[name] == ours[name]
        assert re.fullmatch(r"[a-z/]+:\d+\.\d+\S*", ours[name]), "pinned to a version"
    settings = next(each for each in MANIFESTS if each["kind"] == "ConfigMap" and each["metadata"]["name"] == "vernal")
    plain = {
        name: value for name, value in COMPOSE["services"]["worker"]["environment"].items() if not SECRET.search(name)
    }
    assert settings["data"] == plain


def test_the_image_installs_the_python_that_is_tested_and_the_libraries_of_the_lock() -> None:
    text = (INFRA / "Dockerfile").read_text()
    assert re.search(r"^FROM python:3\.11\.\d+-slim-bookworm$", text, re.M)
    assert "-r requirements.lock" in text
    assert re.search(r"^USER 1000$", text, re.M), "not root"


def test_every_part_of_compose_is_watched_and_bounded() -> None:
    for name, service in COMPOSE["services"].items():
        if name in ONCE:
            continue
        assert service["restart"] == "unless-stopped", name
        assert "memory" in service["deploy"]["resources"]["limits"], name
        assert "healthcheck" in service, name
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} is open to the network"


def test_workers_are_asked_where_prefect_lets_them_answer_and_take_every_run_that_is_due() -> None:
    from fastapi.testclient import TestClient
    from prefect.workers.server import build_healthcheck_server

    for polls, status in ((True, 200), (False, 503)):
        worker: Any = SimpleNamespace(is_worker_still_polling=lambda polls=polls, **_: polls)
        served = build_healthcheck_server(worker, 10.0).config
        assert TestClient(cast(Any, served.app)).get("/health").status_code == status
    for name in ("worker", "worker-gpu"):
        service = COMPOSE["services"][name]
        assert "--with-healthcheck" in service["command"]
        assert f"http://127.0.0.1:{served.port}/health" in service["healthcheck"]["test"][-1]
        assert "--limit" not in service["command"], "rollouts would wait for a training"
    container = containers()["worker"]
    assert "--with-healthcheck" in container["command"]
    assert container["livenessProbe"]["httpGet"] == {"path": "/health", "port": served.port}


def test_every_part_on_kubernetes_is_watched_and_bounded() -> None:
    for name, container in containers().items():
        assert "memory" in container["resources"]["limits"], name
        assert "livenessProbe" in container or name in ONCE, name


def test_a_recipe_with_the_work_that_is_shown_goes_to_the_worker_that_is_there(tmp_path: Path) -> None:
    """Both where the stack is brought up and in the README."""
    for place in (INFRA / "kubernetes" / "kustomization.yaml", ROOT / "README.md"):
        (found,) = re.findall(r"work: \{pool: kubernetes,.*?\}", place.read_text())
        (tmp_path / "i.yaml").write_text((ROOT / "flows" / "recipes" / "intent.yaml").read_text() + found + "\n")
        work = recipe.load(tmp_path / "i.yaml").work
        assert ["--pool", work.pool, "--type", work.type] == containers()["worker"]["command"][3:7]
        assert work.image == TEMPLATE["variables"]["properties"]["image"]["default"]


def test_secrets_are_named_and_never_written() -> None:
    for name, service in COMPOSE["services"].items():
        for key, value in service.get("environment", {}).items():
            if SECRET.search(key) or ("://" in value and "@" in value):
                assert re.search(r"\$\{[A-Z_0-9]+:\?\}", value), f"{name}: {key} is refused where it is not set"
    for name, container in containers().items():
        for variable in container.get("env", []):
            if SECRET.search(variable["name"]) and not variable["name"].startswith("PREFECT_INTEGRATIONS"):
                assert "secretKeyRef" in variable.get("valueFrom", {}), f"{name}: {variable['name']}"
