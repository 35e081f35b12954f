"""The demo's parts that need no service: its plan, its commands' endings, and what it prints without a terminal."""

from __future__ import annotations

import base64
import subprocess
import sys

import pytest
import yaml

from examples.board import Board
from examples.demo import Plan, make_plan
from examples.receiver import Received
from examples.service import DemoFailed, HistoryRow, finish


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan()


def test_only_the_receivers_address_changes_in_the_applied_manifest(plan: Plan) -> None:
    applied = yaml.safe_load(plan.manifest_text(4711))
    assert [webhook["url"] for webhook in applied["webhooks"]] == [
        "http://127.0.0.1:4711/deploy",
        "http://127.0.0.1:4711/team",
    ]
    for webhook, original in zip(applied["webhooks"], plan.manifest["webhooks"], strict=True):
        webhook["url"] = original["url"]
    assert applied == plan.manifest


def test_every_named_secret_has_a_value_and_signing_secrets_their_form(plan: Plan) -> None:
    assert set(plan.secrets) == {"DEPLOY_KEY", "PIPELINE_TOKEN", "PIPELINE_SIGNING_SECRET", "TEAM_SIGNING_SECRET"}
    for name, value in plan.secrets.items():
        assert value.startswith("whsec_") == name.endswith("SIGNING_SECRET")
    assert len(base64.b64decode(plan.secrets["TEAM_SIGNING_SECRET"].removeprefix("whsec_"))) == 32


def test_each_endpoint_demands_what_its_webhook_sends(plan: Plan) -> None:
    deploy, team = plan.endpoints()
    assert deploy.access_token == plan.secrets["PIPELINE_TOKEN"]
    assert deploy.signing_secret == plan.secrets["PIPELINE_SIGNING_SECRET"]
    assert (team.access_token, team.signing_secret) == (None, plan.secrets["TEAM_SIGNING_SECRET"])
    assert (deploy.fail_first, team.fail_first) == (0, 2)


@pytest.mark.parametrize(
    ("code", "seconds", "said"),
    [
        ("print('what is wrong'); raise SystemExit(3)", 30, r"hookline apply ended with 3:\nwhat is wrong"),
        ("import time; time.sleep(60)", 0.01, "hookline apply took longer than 0.01 s"),
    ],
)
def test_a_command_that_fails_ends_the_demo_with_its_output(code: str, seconds: float, said: str) -> None:
    command = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    with pytest.raises(DemoFailed, match=said):
        finish(command, "apply", deadline_seconds=seconds)
    assert command.poll() is not None


def test_without_a_terminal_it_prints_counts_once_each_and_no_secret(
    plan: Plan, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for forcing in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(forcing, raising=False)
    secret = plan.secrets["DEPLOY_KEY"]
    body = {"automation": "run-finished", "event": "e1", "hold": secret}
    failed = Received("d1", "/deploy", 1, b"", body, (), 500)
    sent = Received("d1", "/deploy", 2, b"", body, (), 200)
    rows = [HistoryRow("d2", "build-image", "deploy-hook", "e2", "skipped", "cooldown", 0)]
    board = Board(plan.manifest["automations"], plan.expected, plan.secrets)
    with board:
        board.show([], [])
        board.show([failed, sent], rows)
        board.show([failed, sent], rows)
    board.account([failed, sent], rows)
    board.say(f"said {secret}")
    printed = capsys.readouterr().out
    assert printed.count("0 arrived,   0 skipped") == 1
    assert printed.count("1 arrived,   1 skipped") == 1
    assert '{"hold": "***DEPLOY_KEY***"}' in printed
    assert "build-image: 1 skipped, cooldown (one per collection in 24h)" in printed
    assert "run-finished on e1: arrived on attempt 2" in printed
    assert "switched-off: as expected" in printed
    assert "deploy-on-production: but should have" in printed
    assert secret not in printed
