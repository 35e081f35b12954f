"""Where Hookline is and who publishes: arguments first, then `HOOKLINE_*` variables. Nothing else reads these."""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from hookline.errors import InvalidConfiguration

_KEY = re.compile(r"[\x21-\x7e]{8,512}")
OFF = frozenset({"", "off", "none", "0"})
"""Values of HOOKLINE_SPOOL that mean: keep events in memory only."""


@dataclass(frozen=True)
class Endpoint:
    """A Hookline and the key to publish with."""

    url: str
    """Without a slash at its end."""
    api_key: str = field(repr=False)

    @classmethod
    def of(cls, url: str | None = None, api_key: str | None = None) -> Endpoint:
        """The endpoint by arguments, else by HOOKLINE_URL and HOOKLINE_API_KEY.

        Raises:
            InvalidConfiguration: if one of the two is missing or malformed.
        """
        url = url if url is not None else os.environ.get("HOOKLINE_URL", "")
        if not url:
            raise InvalidConfiguration(
                "HOOKLINE_URL: is not set; it must be a URL such as https://hookline.example.com"
            )
        try:
            parts = urlsplit(url)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            usable = False
        if not usable or parts.username or parts.query or parts.fragment or re.search(r"[\x00-\x20\x7f]", url):
            raise InvalidConfiguration(
                "HOOKLINE_URL: must be a URL such as https://hookline.example.com, without user, query and fragment"
            )
        api_key = api_key if api_key is not None else os.environ.get("HOOKLINE_API_KEY", "")
        if not api_key:
            raise InvalidConfiguration("HOOKLINE_API_KEY: is not set; it must be a key of the Hookline at HOOKLINE_URL")
        if not _KEY.fullmatch(api_key):
            raise InvalidConfiguration("HOOKLINE_API_KEY: must be 8 to 512 ASCII characters without blanks")
        return cls(url.rstrip("/"), api_key)


def is_configured() -> bool:
    """Whether HOOKLINE_URL is set; without it runs and callbacks do nothing."""
    return bool(os.environ.get("HOOKLINE_URL"))


def default_entity() -> str | None:
    """HOOKLINE_ENTITY, or None."""
    return os.environ.get("HOOKLINE_ENTITY") or None


def default_source() -> str:
    """HOOKLINE_SOURCE, or `/python/<host>`."""
    return os.environ.get("HOOKLINE_SOURCE") or f"/python/{socket.gethostname() or 'localhost'}"[:512]


def default_spool() -> Path | None:
    """HOOKLINE_SPOOL, or `~/.hookline/spool`; None when it is `off`, or nobody's home is known."""
    given = os.environ.get("HOOKLINE_SPOOL")
    if given is not None:
        return None if given.strip().lower() in OFF else Path(given).expanduser()
    try:
        return Path.home() / ".hookline" / "spool"
    except RuntimeError:
        return None
