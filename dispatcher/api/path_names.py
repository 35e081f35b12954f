"""Names in paths: a project or collection may have `/` in its name, which a path has as `%2F`.

Servers decode a path before it is routed, and then one name looks like two parts. So what was written as `%2F` gets
through the routing as a character that no name has, and becomes `/` again in the parameters that are names.
"""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import unquote

from pydantic import AfterValidator
from starlette.types import ASGIApp, Receive, Scope, Send

_STAND_IN = "\x1f"
_WRITTEN_STAND_IN = re.compile(rb"%1f", re.IGNORECASE)
_WRITTEN_SLASH = re.compile(rb"%2f", re.IGNORECASE)

PathName = Annotated[str, AfterValidator(lambda text: text.replace(_STAND_IN, "/"))]
"""A path parameter that is a name, with each `/` that was written as `%2F`."""


class EncodedSlashes:
    """Lets routes match paths in which `%2F` is no separator."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        raw = scope.get("raw_path") or b""
        if b"%" in raw and (_WRITTEN_SLASH.search(raw) or _WRITTEN_STAND_IN.search(raw)):
            # The stand-in itself, where somebody sends it, becomes another character that no name has.
            path = _WRITTEN_SLASH.sub(b"%1F", _WRITTEN_STAND_IN.sub(b"%1E", raw))
            scope = {**scope, "path": unquote(path.decode("latin-1"))}
        await self._app(scope, receive, send)
