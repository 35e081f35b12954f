"""deploy/ before the tools that will read it: helm, Kubernetes' own schemas, hadolint, docker compose, systemd."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import jsonschema_rs
import pytest
import yaml

from tests.deploy.files import CHART, DEPLOY, KUBERNETES_OWN, ROOT, SCHEMAS, rendered, said, tool

EVERYTHING = (
    "ingress.enabled=true",
    "ingress.tlsSecret=tls",
    "ingress.className=nginx",
    "api.autoscaling.enabled=true",
    "monitoring.podMonitor.enabled=true",
    "monitoring.prometheusRule.enabled=true",
    "imagePullSecrets[0].name=pull",
    "settings.HOOKLINE_PARTITIONS=32",
    "networkPolicy.metricsFrom[0].namespaceSelector.matchLabels.name=monitoring",
)
VARIANTS = {
    "as it comes": (),
    "everything, keda": (*EVERYTHING, "workerAutoscaling.kind=keda"),
    "everything, hpa": (*EVERYTHING, "workerAutoscaling.kind=hpa"),
    "bare": ("networkPolicy.enabled=false", "podDisruptionBudget.enabled=false", "serviceAccount.create=false"),
}


@pytest.fixture(params=VARIANTS, ids=str)
def objects(request: pytest.FixtureRequest) -> tuple[dict[str, Any], ...]:
    return rendered(*VARIANTS[request.param])


def kubernetes(name: str) -> jsonschema_rs.Draft7Validator:
    """The validator of one kind."""
    if not SCHEMAS.is_dir():
        pytest.skip("no Kubernetes schemas here: `make deploy-tools` brings them")
    schema, shared = (json.loads((SCHEMAS / f"{one}.json").read_text()) for one in (name, "_definitions"))
    registry = jsonschema_rs.Registry([(urljoin(schema["$id"], "_definitions.json"), shared)])
    return jsonschema_rs.Draft7Validator(schema, registry=registry)


def of_kind(objects: tuple[dict[str, Any], ...], *kinds: str) -> list[dict[str, Any]]:
    return [one for one in objects if one["kind"] in kinds]


def pods(objects: tuple[dict[str, Any], ...]) -> list[dict[str, Any]]:
    return [one["spec"]["template"] for one in of_kind(objects, "Deployment", "Job")]


def test_helm_lint_finds_nothing() -> None:
    said(tool("helm"), "lint", "--strict", str(CHART))


def test_kubernetes_knows_every_field(objects: tuple[dict[str, Any], ...]) -> None:
    """Against the API's strict schemas, which refuse a misspelt or misplaced field."""
    checked = 0
    for one in objects:
        if one["apiVersion"] not in KUBERNETES_OWN:
            continue
        group, _, version = one["apiVersion"].rpartition("/")
        name = "-".join(filter(None, (one["kind"].lower(), group.partition(".")[0], version)))
        faults = kubernetes(name).iter_errors(one)
        assert not [f"{one['kind']} {fault.instance_path}: {fault.message}" for fault in faults]
        checked += 1
    assert checked >= 7


def test_the_schemas_refuse_what_is_wrong() -> None:
    schema = kubernetes("deployment-apps-v1")
    good = of_kind(rendered(), "Deployment")[0]
    bad = {**good, "spec": {**good["spec"], "replica": 1}}
    assert schema.is_valid(good)
    assert not schema.is_valid(bad)


def test_pods_are_confined(objects: tuple[dict[str, Any], ...]) -> None:
    for pod in pods(objects):
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["automountServiceAccountToken"] is False
        for container in spec["containers"]:
            confined = container["securityContext"]
            assert confined["readOnlyRootFilesystem"] is True
            assert confined["allowPrivilegeEscalation"] is False
            assert confined["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["requests"] and container["resources"]["limits"]["memory"]


def test_no_key_or_url_stands_in_the_clear(objects: tuple[dict[str, Any], ...]) -> None:
    for pod in pods(objects):
        for variable in pod["spec"]["containers"][0]["env"]:
            if variable["name"].endswith(("_URL", "_KEYS", "_KEY")):
                assert "value" not in variable
                assert variable["valueFrom"]["secretKeyRef"]["name"] == "hookline"


def test_selectors_find_their_pods_and_no_others(objects: tuple[dict[str, Any], ...]) -> None:
    labels = [pod["metadata"]["labels"] for pod in pods(objects)]

    def found(selector: dict[str, str]) -> int:
        return sum(selector.items() <= one.items() for one in labels)

    for deployment in of_kind(objects, "Deployment"):
        assert found(deployment["spec"]["selector"]["matchLabels"]) == 1
    for budget in of_kind(objects, "PodDisruptionBudget"):
        assert found(budget["spec"]["selector"]["matchLabels"]) == 1
    for service in of_kind(objects, "Service"):
        assert found(service["spec"]["selector"]) == 1


def test_autoscalers_name_deployments(objects: tuple[dict[str, Any], ...]) -> None:
    names = {one["metadata"]["name"]: one for one in of_kind(objects, "Deployment")}
    for scaler in of_kind(objects, "HorizontalPodAutoscaler", "ScaledObject"):
        target = names[scaler["spec"]["scaleTargetRef"]["name"]]
        assert "replicas" not in target["spec"], "an upgrade would undo what the autoscaler did"


def test_workers_are_scaled_on_what_waits() -> None:
    for kind, variant in (("ScaledObject", "everything, keda"), ("HorizontalPodAutoscaler", "everything, hpa")):
        scalers = [one for one in of_kind(rendered(*VARIANTS[variant]), kind) if "-worker-" in one["metadata"]["name"]]
        assert len(scalers) == 2
        text = json.dumps(scalers)
        assert "hookline_deliveries_due" in text and "hookline_evaluation_lag_entries" in text
    triggers = [one["spec"]["triggers"][0] for one in of_kind(rendered(*VARIANTS["everything, keda"]), "ScaledObject")]
    assert all('namespace="hookline"' in trigger["metadata"]["query"] for trigger in triggers)
    assert all(isinstance(trigger["metadata"]["threshold"], str) for trigger in triggers)


def test_the_chart_carries_every_rule_as_it_is() -> None:
    files = [yaml.safe_load((DEPLOY / "prometheus" / f"{name}.yml").read_text()) for name in ("rules", "alerts")]
    (rule,) = of_kind(rendered(*VARIANTS["everything, keda"]), "PrometheusRule")
    assert rule["spec"]["groups"] == [group for file in files for group in file["groups"]]


def test_a_digest_wins_over_the_tag() -> None:
    digest = f"sha256:{'0123456789abcdef' * 4}"
    images = {pod["spec"]["containers"][0]["image"] for pod in pods(rendered(f"image.digest={digest}", "image.tag=x"))}
    assert images == {f"hookline@{digest}"}


def test_the_migration_comes_before_the_new_pods() -> None:
    (job,) = of_kind(rendered(), "Job")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert job["spec"]["template"]["spec"]["serviceAccountName"] == "release-hookline-migrate", (
        "the chart's is made later"
    )


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("existingSecret=", "existingSecret"),
        ("image.digest=sha256:0123", "digest"),
        ("image.digest=latest", "digest"),
        ("settings.HOOKLINE_SECRET_KEYS=x", "HOOKLINE_SECRET_KEYS"),
        ("settings.PARTITIONS=4", "PARTITIONS"),
        ("workers.deliver.queues[0]=delivery", "queues"),
        ("workerAutoscaling.kind=keba", "kind"),
    ],
)
def test_wrong_values_are_refused(value: str, complaint: str) -> None:
    done = subprocess.run(
        [tool("helm"), "template", "x", str(CHART), "--set", value], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert complaint in done.stderr


def test_hadolint_finds_nothing() -> None:
    said(tool("hadolint"), str(DEPLOY / "image" / "Dockerfile"))


def test_compose_takes_the_file(tmp_path: Path) -> None:
    lines = (DEPLOY / "compose" / "env.example").read_text().splitlines()
    (tmp_path / "env").write_text("".join(f"{line}filled\n" if line.endswith("=") else f"{line}\n" for line in lines))
    compose = str(DEPLOY / "compose" / "compose.yaml")
    command = (tool("docker-compose"), "-f", compose, "--env-file", str(tmp_path / "env"), "config", "--format", "json")
    services = json.loads(said(*command))["services"]
    assert services["dispatcher"]["deploy"]["replicas"] == 2
    assert services["api"]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
    assert services["worker-deliver"]["build"]["context"] == str(ROOT)


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    analyze = tool("systemd-analyze")
    for unit in (DEPLOY / "systemd").glob("hookline*"):
        text = unit.read_text()
        for program in ("hookline", "celery"):
            text = text.replace(f"/opt/hookline/bin/{program}", str(shutil.which("true")))
        (tmp_path / unit.name.replace("@.", "@1.")).write_text(text)
        (tmp_path / unit.name).write_text(text)
    units = [
        str(path) for path in tmp_path.iterdir() if path.suffix in {".service", ".socket"} and "@." not in path.name
    ]
    done = subprocess.run([analyze, "verify", "--man=no", *units], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_adapter_serves_what_the_autoscalers_ask_for() -> None:
    """With KEDA and with HPA a pool scales on the same figure."""
    pools = yaml.safe_load((CHART / "values.yaml").read_text())["workers"].values()
    wanted = {
        one["autoscaling"]["externalMetric"]: one["autoscaling"]["query"] for one in pools if "autoscaling" in one
    }
    rules = yaml.safe_load((CHART / "files" / "adapter-rules.yml").read_text())["rules"]["external"]
    namespace = 'namespace="{{ .Release.Namespace }}"'
    served = {rule["name"]["as"]: rule["metricsQuery"].replace("<<.LabelMatchers>>", namespace) for rule in rules}
    assert served == wanted
    assert all(rule["seriesQuery"].startswith(f"{rule['name']['as']}{{") for rule in rules)
