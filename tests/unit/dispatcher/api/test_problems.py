"""Problem documents: what a client reads does not depend on the Python that Hookline runs on."""

from __future__ import annotations

import orjson
import pytest
from starlette.exceptions import HTTPException

from dispatcher.api.problems import answer, problem_of


@pytest.mark.parametrize(
    ("status", "kind", "title"),
    [
        (404, "not-found", "Not Found"),
        (413, "request-entity-too-large", "Request Entity Too Large"),
        (422, "unprocessable-entity", "Unprocessable Entity"),
    ],
)
def test_a_title_is_the_same_on_each_python(status: int, kind: str, title: str) -> None:
    body = orjson.loads(bytes(answer(problem_of(HTTPException(status))).body))
    assert (body["status"], body["type"], body["title"]) == (status, f"urn:hookline:problem:{kind}", title)
