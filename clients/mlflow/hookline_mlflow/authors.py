"""Who sent the request that is being served."""

from __future__ import annotations

import sys

from hookline.values import clean_name


def current_author(header: str | None) -> str:
    """The user that the server's `basic-auth` app let in, or whom a proxy names in `header`; "" if nobody is known."""
    flask = sys.modules.get("flask")  # a process that has not imported it serves no request
    if flask is None or not flask.has_request_context():
        return ""
    if header:
        return clean_name(flask.request.headers.get(header) or "")
    authorization = flask.request.authorization
    return clean_name(getattr(authorization, "username", None) or "")
