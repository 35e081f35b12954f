"""Where a client found the API, so that what it is told to ask next leads there too."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.requests import Request

from shared.settings import Settings


def base_url_of(request: Request, settings: Settings) -> str:
    """The scheme, host and port that the client asked, with the prefix of a proxy: `https://host:port/hookline`.

    Where the host is that of HOOKLINE_PUBLIC_URL, so is the scheme: a proxy may not pass on that it adds TLS.
    """
    host = request.headers.get("host", "")
    public = urlsplit(settings.public_url or "")
    scheme = public.scheme if host and public.netloc.lower() == host.lower() else request.url.scheme
    return f"{scheme}://{host}{settings.root_path}"
