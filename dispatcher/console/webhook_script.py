"""A shell script that sends a webhook's endpoint a request like ours, for people who look for a fault there. Pure."""

from __future__ import annotations

import json
import shlex
from typing import Any

from shared.domain.payloads.content_types import JSON

_SCRIPT = """\
#!/usr/bin/env bash
# Sends one request as the webhook does. Give ACCESS_TOKEN and SECRET your own values, or leave them blank.
ACCESS_TOKEN=''
SECRET=''
PAYLOAD={payload}
API_ENDPOINT={endpoint}

headers=(-H {content_type})
if [ -n "$ACCESS_TOKEN" ]; then
  headers+=(-H "Authorization: Bearer $ACCESS_TOKEN")
fi
if [ -n "$SECRET" ]; then
  signature=$(printf '%s' "$PAYLOAD" | openssl dgst -sha256 -hmac "$SECRET" -binary | openssl base64 -A)
  headers+=(-H "X-Wandb-Signature: $signature")
fi
printf '%s' "$PAYLOAD" | curl -sS -i -X POST "${{headers[@]}}" --data-binary @- -- "$API_ENDPOINT"
"""


def webhook_script(url: str, payload: Any, content_type: str = JSON) -> str:
    """`webhook_test.sh` for an endpoint: its four variables, the signature by openssl, and the request by curl.

    What stands in it is quoted for the shell. Values of secrets are not in it; a payload and a URL name them.

    Args:
        content_type: one whose bodies are JSON.
    """
    return _SCRIPT.format(
        payload=shlex.quote(json.dumps(payload, ensure_ascii=False)),
        endpoint=shlex.quote(url),
        content_type=shlex.quote(f"Content-Type: {content_type}"),
    )
