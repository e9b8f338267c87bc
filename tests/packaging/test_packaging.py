"""What is shipped beside the program holds: configurations, unit, manifests, the containers' files."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from broker.config.toml import configuration as toml

ROOT = Path(__file__).parents[2]
PACKAGING = ROOT / "packaging"
ENVIRONMENT = {"DATABASE_URL": "postgres://postgres@postgres/postgres", "NODE": "rowcast-1"}


@pytest.mark.parametrize(
    "path", sorted(PACKAGING.rglob("*.toml")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_every_configuration_is_one(path: Path, tmp_path: Path) -> None:
    text = path.read_text().replace("file:/etc/rowcast-secrets/admin-token", "file:token")
    (tmp_path / "token").write_text("a token\n")
    (tmp_path / path.name).write_text(text)
    assert toml.load(tmp_path / path.name, ENVIRONMENT).listeners


def test_the_unit_is_hardened() -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    unit = PACKAGING / "systemd" / "rowcast.service"
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", str(unit)]
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    if "unrecognized option" in said.stderr:
        pytest.skip("this systemd is too old to look at a file")
    assert said.returncode == 0, said.stdout[-200:] + said.stderr


def test_stopping_takes_no_longer_than_is_waited_for() -> None:
    """`drain` and `shutdown_grace` end before systemd, Kubernetes and Docker lose patience."""
    manifest = (PACKAGING / "kubernetes" / "statefulset.yaml").read_text()
    config = toml_table(PACKAGING / "kubernetes" / "rowcast.toml", "broker")
    grace_s = int(re.findall(r"terminationGracePeriodSeconds: (\d+)", manifest)[0])
    assert config["drain"] == "2m"
    assert grace_s >= 120 + 5 + 30
    compose = toml_table(PACKAGING / "container" / "compose.toml", "broker")
    assert (compose["drain"], "stop_grace_period: 1m" in (ROOT / "compose.yaml").read_text()) == ("20s", True)


def toml_table(path: Path, name: str) -> dict[str, object]:
    return dict(tomllib.loads(path.read_text())[name])


def test_the_manifests_are_ones_that_kustomize_takes() -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl")
    command = ["kubectl", "kustomize", str(PACKAGING / "kubernetes")]
    made = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if made.returncode and "unknown command" in made.stderr:
        pytest.skip("this kubectl has no kustomize")
    assert made.returncode == 0, made.stderr
    kinds = re.findall(r"^kind: (\w+)$", made.stdout, re.MULTILINE)
    assert sorted(kinds) == ["ConfigMap", "PodDisruptionBudget", "Service", "Service", "StatefulSet"]


def test_three_nodes_are_the_same_with_a_name_each() -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl")
    command = ["kubectl", "kustomize", str(PACKAGING / "kubernetes-nodes")]
    made = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if made.returncode and "unknown command" in made.stderr:
        pytest.skip("this kubectl has no kustomize")
    assert made.returncode == 0, made.stderr
    assert "  replicas: 3\n" in made.stdout
    assert "fieldPath: metadata.name" in made.stdout
    assert "[cluster]" in made.stdout
    cluster = tomllib.loads((PACKAGING / "kubernetes-nodes" / "rowcast.toml").read_text())["cluster"]
    assert (cluster["node"], len(cluster["nats"])) == ("env:NODE", 3)


def test_the_manifests_are_what_kubernetes_defines() -> None:
    """Also a name that is misspelt is found."""
    validate = ROOT / ".venv" / "clients" / "kubernetes-validate" / "bin" / "kubernetes-validate"
    if shutil.which("kubectl") is None or not validate.exists():
        pytest.skip("needs kubectl, and kubernetes-validate of scripts/setup-clients")
    command = ["kubectl", "kustomize", str(PACKAGING / "kubernetes")]
    made = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if made.returncode and "unknown command" in made.stderr:
        pytest.skip("this kubectl has no kustomize")
    for text, status in ((made.stdout, 0), (made.stdout.replace("readinessProbe", "readyProbe"), 1)):
        checked = subprocess.run(
            [validate, "--strict", "/dev/stdin"],
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert checked.returncode == status, checked.stdout + checked.stderr


def test_what_the_container_copies_is_there() -> None:
    text = (ROOT / "Dockerfile").read_text()
    for source in re.findall(r"^COPY (?!--from)(\S+)", text, re.MULTILINE):
        assert (ROOT / source).exists()
    assert "USER 1883:1883" in text


def test_the_maintainer_scripts_are_valid() -> None:
    for script in (PACKAGING / "debian").iterdir():
        checked = subprocess.run(["sh", "-n", script], capture_output=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, b"")
