"""What is sent passes the libraries that receivers check it with, in Python and for Node.js, and nothing else does."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from shared.domain.delivery.signing import FormerKey, Signer
from shared.http.client import WebhookClient
from shared.http.request import Request
from shared.settings import load_settings
from tests.integration.receiver import receiving
from tests.verifiers import environments

HERE = Path(__file__).parent
RAW = "0123456789abcdef0123456789abcdef"
WHSEC = "whsec_" + base64.b64encode(RAW.encode()).decode()
OTHER = "whsec_" + base64.b64encode(b"another key of thirty-two bytes!").decode()
BODY = '{"text":"ünïcödé \U0001f680 \\\\u0000","n":1.50}'.encode()
TIMEOUT_SECONDS = 100


def sent(signer: Signer, *, at: datetime | None = None) -> dict[str, Any]:
    """A request as it came to a receiver."""

    async def send(url: str) -> None:
        headers = signer.headers(message_id="dlv_1", timestamp=at or datetime.now(UTC), body=BODY)
        sender = WebhookClient(load_settings(allowed_networks="127.0.0.0/8"))
        try:
            assert (await sender.send(Request(url=url, body=BODY, headers=headers))).status == 200
        finally:
            await sender.aclose()

    with receiving() as receiver:
        asyncio.run(send(receiver.url))
        [request] = receiver.requests
    return {"body": request.body.decode(), "headers": request.headers}


def cases() -> list[tuple[dict[str, Any], bool]]:
    """Requests, each with the secret that a receiver has, and whether it may take it."""
    plain, text = sent(Signer(WHSEC)), sent(Signer(RAW))
    soon = datetime.now(UTC) + timedelta(hours=1)
    both = sent(Signer(WHSEC, former=FormerKey(OTHER, soon)))
    over = sent(Signer(WHSEC, former=FormerKey(OTHER, datetime.now(UTC) - timedelta(seconds=1))))
    old = sent(Signer(WHSEC), at=datetime.now(UTC) - timedelta(hours=1))
    forged = {**plain, "body": plain["body"].replace("1.50", "1.51")}
    other_id = {**plain, "headers": {**plain["headers"], "webhook-id": "dlv_2"}}
    return [
        ({**plain, "secret": WHSEC}, True),
        ({**text, "secret": RAW}, True),
        ({**text, "secret": WHSEC}, True),  # the same key in the standard's form
        ({**both, "secret": WHSEC}, True),
        ({**both, "secret": OTHER}, True),
        ({**over, "secret": WHSEC}, True),
        ({**over, "secret": OTHER}, False),
        ({**plain, "secret": OTHER}, False),
        ({**forged, "secret": WHSEC}, False),
        ({**other_id, "secret": WHSEC}, False),
        ({**old, "secret": WHSEC}, False),
    ]


def verdicts(command: Sequence[object], folder: Path) -> tuple[dict[str, list[bool]], list[bool]]:
    """What each library says of the requests, and what it should say."""
    given = cases()
    done = subprocess.run(
        [str(part) for part in command],
        input=json.dumps([request for request, _ in given]),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, list[bool]] = json.loads(done.stdout)
    return found, [expected for _, expected in given]


@pytest.mark.skipif(not environments.has_python(), reason="make test-verifiers installs the libraries")
def test_the_python_libraries_take_what_is_sent_and_nothing_else(tmp_path: Path) -> None:
    found, expected = verdicts([environments.PYTHON, HERE / "verify.py"], tmp_path)
    assert found == {"standardwebhooks": expected, "svix": expected}


@pytest.mark.skipif(not environments.has_node(), reason="make test-verifiers installs them where there is Node.js")
def test_the_libraries_for_node_take_what_is_sent_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "node_modules").symlink_to(environments.NODE / "node_modules")
    shutil.copy(HERE / "verify.mjs", tmp_path)
    found, expected = verdicts([shutil.which("node"), "verify.mjs"], tmp_path)
    assert found == {"standardwebhooks": expected, "svix": expected}
