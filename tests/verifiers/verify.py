"""Checks requests with `standardwebhooks` and `svix`: JSON on stdin, the verdicts of each library on stdout.

It runs in an environment of its own and imports nothing of Hookline.
"""

# mypy: ignore-errors

from __future__ import annotations

import json
import sys
from typing import Any

import standardwebhooks
import svix.webhooks


def verdict(library: Any, refusal: type[Exception], request: dict[str, Any]) -> bool:
    """Whether the library takes the request."""
    secret = request["secret"]
    try:
        library.Webhook(secret if secret.startswith("whsec_") else secret.encode()).verify(
            request["body"], request["headers"]
        )
    except refusal:
        return False
    return True


requests = json.load(sys.stdin)
json.dump(
    {
        "standardwebhooks": [
            verdict(standardwebhooks.webhooks, standardwebhooks.webhooks.WebhookVerificationError, one)
            for one in requests
        ],
        "svix": [verdict(svix.webhooks, svix.webhooks.WebhookVerificationError, one) for one in requests],
    },
    sys.stdout,
)
