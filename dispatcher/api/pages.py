"""The pages `/docs` and `/redoc`, which show `/openapi.json`. They load nothing from other servers.

So they work in a network without internet, and no third party learns of their readers. Must not need a key.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import fastapi_offline
from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles

ASSETS = "/docs/assets"
FAVICON = f"{ASSETS}/favicon.png"
OPENAPI = "/openapi.json"
TITLE = "Hookline"

_INLINE_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)

router = APIRouter(include_in_schema=False)


@router.get("/")
async def start(request: Request) -> RedirectResponse:
    """Lead from the bare address to the console or, where it is off, to the pages."""
    return RedirectResponse("/console/" if request.app.state.settings.console else "/docs")


@router.get(OPENAPI)
async def openapi(request: Request) -> Response:
    """The description of REST."""
    return Response(request.app.openapi_text(), media_type="application/json")


@router.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    """Every operation, to look at and to try."""
    root = request.app.state.settings.root_path
    return _confined(
        get_swagger_ui_html(
            openapi_url=f"{root}{OPENAPI}",
            title=TITLE,
            swagger_js_url=f"{root}{ASSETS}/swagger-ui-bundle.js",
            swagger_css_url=f"{root}{ASSETS}/swagger-ui.css",
            swagger_favicon_url=f"{root}{FAVICON}",
            swagger_ui_parameters={"docExpansion": "none", "tryItOutEnabled": True, "persistAuthorization": False},
        )
    )


@router.get("/redoc")
async def redoc(request: Request) -> HTMLResponse:
    """Every operation, to read."""
    root = request.app.state.settings.root_path
    return _confined(
        get_redoc_html(
            openapi_url=f"{root}{OPENAPI}",
            title=TITLE,
            redoc_js_url=f"{root}{ASSETS}/redoc.standalone.js",
            redoc_favicon_url=f"{root}{FAVICON}",
            with_google_fonts=False,
        )
    )


def _confined(page: HTMLResponse) -> HTMLResponse:
    """The page with a policy by which it runs its own scripts, calls this API, and is shown in no other page.

    Both pages write styles into their elements; Redoc searches in a worker that it makes itself.
    """
    hashes = "".join(
        f" 'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'"
        for script in _INLINE_SCRIPT.findall(bytes(page.body))
        if script.strip()
    )
    page.headers["Content-Security-Policy"] = (
        f"default-src 'none'; script-src 'self'{hashes}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; child-src blob:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    )
    return page


def mount_assets(app: FastAPI) -> None:
    """Serve the scripts and styles of the pages, from a package that contains them."""
    app.mount(ASSETS, StaticFiles(directory=Path(fastapi_offline.__file__).parent / "static"))
