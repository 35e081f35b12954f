"""`POST /graphql`: reads the request, has it answered, and puts every refusal of it into GraphQL's form.

The `wandb` client shows `errors[].message` of whatever status it gets, and nothing of a problem document.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from contextlib import ExitStack
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from dispatcher.api.addresses import base_url_of
from dispatcher.api.authentication import PrincipalDep
from dispatcher.api.bodies import MAX_BODY_BYTES, decode_json, media_type, read_body
from dispatcher.api.events import refused_rates
from dispatcher.api.problems import Problem
from dispatcher.api.resources import ApiResources, ResourcesDep
from dispatcher.graphql.client_versions import ClientVersion, client_version
from dispatcher.graphql.execution import Answer, answer_to, refused
from dispatcher.graphql.refusals import refusal_of
from shared.domain.events.decoding import check_published
from shared.domain.json_text import write_json
from shared.storage.accounts.users import Principal


class _Route(APIRoute):
    """A route whose refusals, those of authentication included, are GraphQL answers."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answered(request: Request) -> Response:
            try:
                return await handle(request)
            except Exception as exc:
                refusal = refusal_of(exc)
                return _response(refused(refusal.status, refusal.messages), refusal.headers)

        return answered


router = APIRouter(route_class=_Route)


@router.post("/graphql", include_in_schema=False)
async def graphql(request: Request, principal: PrincipalDep, resources: ResourcesDep) -> Response:
    """One GraphQL document."""
    if media_type(request) != "application/json":
        raise Problem(415, "unsupported-media-type", "the body must be application/json")
    threads, user_id = resources.threads.graphql, principal.user_id
    with ExitStack() as held:
        try:
            held.enter_context(threads.places.hold(user_id))
        except Problem:
            await resources.threads.refusals.wait(user_id)
            raise
        body = await read_body(request, MAX_BODY_BYTES)
        client = client_version(request.headers.get("user-agent", ""))
        base_url = base_url_of(request, resources.settings)
        answer = await threads.run(user_id, _answered, resources, principal, body, client, base_url)
    if answer.events:
        # After the commit. Where it fails, the client asks again, and what it asked for is known and published then.
        events = check_published(answer.events)
        with refused_rates():
            await resources.event_rates.take(events)
        await resources.publisher.append(events, [write_json(event) for event in answer.events])
    return _response(answer)


def _answered(
    resources: ApiResources, principal: Principal, body: bytes, client: ClientVersion, base_url: str
) -> Answer:
    # Decoded here and not before: what waits takes no more memory than it came with.
    return answer_to(resources, principal, decode_json(body), client, base_url)


def _response(answer: Answer, headers: Mapping[str, str] | None = None) -> Response:
    return Response(write_json(answer.body), answer.status, headers, "application/json")
