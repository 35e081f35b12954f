"""The script for testing an endpoint: what it sends is what is meant, whatever the payload and URL hold."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dispatcher.console.webhook_script import webhook_script

CURL = """#!/bin/sh
printf '%s\\n' "$@" > "$RECORD/arguments"
cat > "$RECORD/body"
"""


@pytest.mark.parametrize(
    ("url", "payload"),
    [
        ("https://ci.example.com/hooks/deploy", {"model": "llm:v3"}),
        (
            "https://x.example/$(touch pwned)?a='b'&c=\"d\"`id`",
            {"q": "it's $(touch pwned) `id` \\ \" \n ${HOME}", "é": "\u202e"},
        ),
        ("--output=/tmp/x", {}),
    ],
    ids=["plain", "hostile", "option"],
)
def test_the_script_sends_what_is_meant(tmp_path: Path, url: str, payload: dict[str, Any]) -> None:
    bash = shutil.which("bash")
    if bash is None or shutil.which("openssl") is None:
        pytest.skip("there is no bash, or no openssl")
    stub = tmp_path / "curl"
    stub.write_text(CURL)
    stub.chmod(0o700)
    script = webhook_script(url, payload, "application/cloudevents+json")
    script = script.replace("ACCESS_TOKEN=''", "ACCESS_TOKEN='tok en'", 1)
    script = script.replace("SECRET=''", "SECRET='sig ning'", 1)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "RECORD": str(tmp_path), "LC_ALL": "C.UTF-8"}
    subprocess.run([bash, "-c", script], check=True, cwd=tmp_path, env=environment, timeout=60)
    body = (tmp_path / "body").read_bytes()
    assert json.loads(body) == payload
    signature = base64.b64encode(hmac.digest(b"sig ning", body, hashlib.sha256)).decode()
    arguments = (tmp_path / "arguments").read_text()
    assert f"X-Wandb-Signature: {signature}\n" in arguments and "Authorization: Bearer tok en\n" in arguments
    assert "Content-Type: application/cloudevents+json\n" in arguments
    assert arguments.endswith(f"--\n{url}\n")
    assert not (tmp_path / "pwned").exists()
