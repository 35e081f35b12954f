"""Why a process can't listen on an address, in words."""

from __future__ import annotations

import os
import socket


def why_not_listening(host: str, port: int, exc: Exception) -> str:
    """One line that names the address and the reason. The exception is an OSError or a UnicodeError."""
    return f"can't listen on {host}:{port}: {_reason(exc)}"


def _reason(exc: Exception) -> str:
    if not isinstance(exc, OSError):
        return "this can't be the name of a host"
    if isinstance(exc, socket.gaierror):  # whose numbers `os.strerror` does not know
        return exc.strerror or "the host is not known"
    return os.strerror(exc.errno or 0)
