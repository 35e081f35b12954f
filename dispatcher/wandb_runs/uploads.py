"""Where the `wandb` client sends a run's files, and the token by which it may: the URL is used without an API key."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Final

from shared.vault import SecretUnreadable, Vault

HEADER: Final = "X-Hookline-Upload"
VALID: Final = timedelta(days=1)
"""How long after it was asked for a file may be sent."""
_TOKEN: Final = re.compile(r"wandb-upload:(\d{1,19}):(\d{1,12})", re.ASCII)


def upload_token(vault: Vault, user_id: int, now: datetime) -> str:
    """A token with which this user may upload files that are dropped, and do nothing else."""
    return vault.encrypt(f"wandb-upload:{user_id}:{int((now + VALID).timestamp())}").decode()


def user_of(vault: Vault, token: str, now: datetime) -> int | None:
    """The user whose token it is; None for anything else, or when its time is over."""
    try:
        match = _TOKEN.fullmatch(vault.decrypt(token.encode()))
    except SecretUnreadable:
        return None
    if match is None or int(match[2]) < now.timestamp():
        return None
    return int(match[1])
