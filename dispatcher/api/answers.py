"""Large answers, written where they are made. FastAPI would write them on the event loop, where everybody waits."""

from __future__ import annotations

from fastapi import Response
from pydantic import BaseModel


def json_answer(view: BaseModel, *, exclude_unset: bool = False) -> Response:
    """A view as JSON. It is for handlers' threads; the route names the view as its `response_model`."""
    return Response(view.model_dump_json(exclude_unset=exclude_unset), media_type="application/json")
