"""Where the browser finds the console."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.requests import Request

from shared.settings import Settings

ROOT = "/console"


def origin_of(request: Request, settings: Settings) -> str:
    """The scheme, host and port that the browser asked: `https://host:port`."""
    if settings.public_url is not None:
        parts = urlsplit(settings.public_url)
        return f"{parts.scheme}://{parts.netloc}".lower()
    return f"{request.url.scheme}://{request.headers.get('host', '')}".lower()


def is_own(request: Request, settings: Settings) -> bool:
    """Whether a page of the console had the browser send this, or its reader typed the address."""
    if (site := request.headers.get("sec-fetch-site")) is not None:
        return site in ("same-origin", "none")
    return request.headers.get("origin", "").lower() == origin_of(request, settings)


def local_path(path: str) -> str:
    """A path of the console to go on to; its first page instead of anything else."""
    fits = path.startswith(f"{ROOT}/") and "//" not in path.partition("?")[0] and "\\" not in path
    return path if fits and path.isprintable() and path.isascii() else f"{ROOT}/"
