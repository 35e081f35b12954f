"""How operators get in: the first admin key, their commands on a host, names that runbooks use, and links to them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.files import DEPLOY, ROOT, rendered

CTL = DEPLOY / "systemd" / "hookline-ctl"


def hooks() -> list[dict[str, Any]]:
    """What helm makes before an install, in its order."""
    made = [one for one in rendered() if "helm.sh/hook" in one["metadata"].get("annotations", {})]
    return sorted(made, key=lambda one: int(one["metadata"]["annotations"]["helm.sh/hook-weight"]))


def test_the_migration_finds_its_account_and_its_way_out() -> None:
    account, policy, job = hooks()
    assert [account["kind"], policy["kind"], job["kind"]] == ["ServiceAccount", "NetworkPolicy", "Job"]
    pod = job["spec"]["template"]
    assert pod["spec"]["serviceAccountName"] == account["metadata"]["name"]
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    [everywhere] = [
        one for one in rendered() if one["kind"] == "NetworkPolicy" and one["metadata"]["name"] == "release-hookline"
    ]
    assert policy["spec"]["egress"] == everywhere["spec"]["egress"] != []


def test_an_account_of_ones_own_is_used_by_the_migration() -> None:
    objects = rendered("serviceAccount.create=false", "serviceAccount.name=mine")
    assert not [one for one in objects if one["kind"] == "ServiceAccount"]
    [job] = [one for one in objects if one["kind"] == "Job"]
    assert job["spec"]["template"]["spec"]["serviceAccountName"] == "mine"


def test_no_key_is_printed_into_a_log_that_is_deleted() -> None:
    job = hooks()[-1]
    [container] = job["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["migrate", "--require-admin-key"]


def init(folder: Path, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("HOOKLINE_")}
    own |= {"HOOKLINE_DATABASE_URL": f"sqlite:///{folder}/hookline.db", "HOOKLINE_DATA_DIR": str(folder), **variables}
    command = [sys.executable, "-m", "dispatcher.cli", "init", *options]
    return subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, timeout=120, check=False)


def test_the_first_start_takes_a_key_or_says_which_setting_it_misses(tmp_path: Path) -> None:
    refused = init(tmp_path, "--require-admin-key")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("hookline: HOOKLINE_ADMIN_API_KEY: is required where nobody administers")
    taken = init(tmp_path, "--require-admin-key", HOOKLINE_ADMIN_API_KEY="hlk-0123456789abcdefghijklmnopq")
    assert taken.returncode == 0
    assert "hlk-" not in taken.stdout + taken.stderr
    again = init(tmp_path, "--require-admin-key")
    assert again.returncode == 0
    assert again.stdout.startswith("already initialised: schema ")


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["webhooks", "list"], ["/opt/x/bin/celery", "-A", "worker", "webhooks", "list"]),
        (["run", "hookline", "diff", "-f", "a b.yaml"], ["/opt/x/bin/hookline", "diff", "-f", "a b.yaml"]),
    ],
)
def test_a_wrapper_runs_commands_as_the_service(tmp_path: Path, words: list[str], command: list[str]) -> None:
    recorder = tmp_path / "systemd-run"
    recorder.write_text('#!/bin/sh\nfor one in "$@"; do printf "%s\\n" "$one"; done\nexit 7\n')
    recorder.chmod(0o755)
    settings = tmp_path / "hookline.env"
    settings.touch()
    own = {"PATH": f"{tmp_path}:/usr/bin:/bin", "CTL_PREFIX": "/opt/x", "CTL_SETTINGS": str(settings)}
    done = subprocess.run(
        [str(CTL), *words], env=own, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    given = done.stdout.splitlines()
    assert done.returncode == 7
    assert given[-len(command) :] == command
    assert {"--pipe", "--wait", "--uid=hookline", f"--property=EnvironmentFile={settings}"} <= set(given)


def test_a_wrapper_says_what_it_misses(tmp_path: Path) -> None:
    own = {"PATH": "/usr/bin:/bin", "CTL_SETTINGS": str(tmp_path / "none")}
    for words, told in (([], "hookline-ctl COMMAND"), (["streams", "lag"], "can't read")):
        done = subprocess.run([str(CTL), *words], env=own, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert told in done.stderr


def test_targets_have_the_names_that_runbooks_use() -> None:
    [monitor] = [one for one in rendered("monitoring.podMonitor.enabled=true") if one["kind"] == "PodMonitor"]
    for endpoint in monitor["spec"]["podMetricsEndpoints"]:
        first, second = endpoint["relabelings"]
        assert first == {"targetLabel": "job", "replacement": "hookline-worker"}
        assert (second["regex"], second["replacement"], second["targetLabel"]) == (
            "(api|dispatcher)",
            "hookline-$1",
            "job",
        )
    scraped = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    assert {one["job_name"] for one in scraped} == {"hookline-api", "hookline-dispatcher", "hookline-worker"}
    workers = next(one for one in scraped if one["job_name"] == "hookline-worker")
    assert len(workers["static_configs"][0]["targets"]) == 2


def test_links_to_runbooks_can_be_made_whole() -> None:
    def urls(*values: str) -> set[str]:
        objects = rendered("monitoring.prometheusRule.enabled=true", *values)
        [rule] = [one for one in objects if one["kind"] == "PrometheusRule"]
        rules = [each for group in rule["spec"]["groups"] for each in group["rules"] if "alert" in each]
        return {each["annotations"]["runbook_url"].rpartition("/")[0] for each in rules}

    assert urls() == {"docs/runbooks"}
    assert urls("monitoring.prometheusRule.runbookUrl=https://git.example.com/r/") == {"https://git.example.com/r"}


def test_the_console_is_reached_through_the_ingress() -> None:
    [ingress] = [one for one in rendered("ingress.enabled=true") if one["kind"] == "Ingress"]
    paths = {path["path"] for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]}
    assert {"/v1", "/graphql", "/console"} <= paths
