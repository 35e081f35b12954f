"""What keeps a process from working on a database."""

from __future__ import annotations

from shared.domain.errors import HooklineError


class SchemaTooOld(HooklineError):
    """The database lacks migrations that this version's code needs; run `hookline init` with this version."""
