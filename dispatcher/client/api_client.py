"""The HTTP side of the `hookline` commands: Hookline's own REST API, called synchronously.

Must not read files or print; a command does. An answer that is not 2xx becomes `Refused`, whose `errors` are the API's
own (RFC 9457 problem details); an API that can't be reached becomes `Unreachable`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

import httpx
import orjson
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_exponential, wait_random

from shared.config.certificate_rules import apply_rules
from shared.config.setting_types import InvalidSetting
from shared.domain.delivery.requested_waits import parse_retry_after
from shared.domain.errors import FieldError, HooklineError
from shared.domain.json_text import read_json
from shared.version import __version__

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Sequence

    from tenacity import RetryCallState

    from shared.settings import Settings

BATCH_TYPE = "application/cloudevents-batch+json"
TIMEOUT = httpx.Timeout(30.0, connect=5.0)
"""A batch is answered within milliseconds; an API that is busy or starts anew may take seconds."""
# A manifest is one transaction of up to thousands of definitions, which waits for the edits before it.
APPLY_TIMEOUT = httpx.Timeout(300.0, connect=5.0)
BUSY_STATUSES = frozenset({429, 502, 503, 504})
RETRY_AFTER_CAP_SECONDS = 60.0
"""The longest `Retry-After` that is obeyed. A proxy may ask for hours, too long for a person at a terminal."""
GIVE_UP_SECONDS = 300.0
"""How long a batch is tried again: as long as an upgrade of a site usually takes."""
EXCERPT_CHARS = 200
BACKOFF = wait_exponential(multiplier=0.5, max=15) + wait_random(0, 0.5)


KEY_EXPIRES = "Hookline-Key-Expires"


class Unreachable(HooklineError):
    """The API can't be reached, or is too busy to answer; `retry_after_seconds` is its `Retry-After`, if any."""

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


NOT_FOUND = 404


class Refused(HooklineError):
    """The API said no; nothing of the request was done. `errors` may be empty: then the message is all there is."""

    def __init__(self, message: str, errors: tuple[FieldError, ...] = (), *, status: int | None = None) -> None:
        super().__init__(message)
        self.errors = errors
        self.status = status
        """The HTTP status, where there is one."""


class Client:
    """One connection to the API at `HOOKLINE_URL`, with the key in `HOOKLINE_API_KEY`; a context manager.

    `on_retry` is called before a request is retried, with the reason and the seconds until then; `on_expiry` once, if
    the key ends within two weeks, with the time.

    Raises:
        InvalidSetting: when one of the two is not usable.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        on_retry: Callable[[str, float], None] = lambda _reason, _seconds: None,
        on_expiry: Callable[[str], None] = lambda _when: None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        if settings.api_key is None:
            raise InvalidSetting("HOOKLINE_API_KEY: is not set; it must be an API key of the Hookline at HOOKLINE_URL")
        self._on_retry = on_retry
        self._on_expiry: Callable[[str], None] | None = on_expiry
        self._http = httpx.Client(
            base_url=_base_url(settings.url),
            headers={
                "Authorization": f"Bearer {settings.api_key.get_secret_value()}",
                "User-Agent": f"hookline/{__version__}",
            },
            timeout=TIMEOUT,
            transport=transport,
            verify=_tls_context(),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._http.close()

    def publish(self, events: Sequence[bytes]) -> int:
        """Publish events, each in structured JSON, as one batch that is taken whole or refused whole; how many were.

        Tried again while the API is unreachable or busy, for up to five minutes; an event that arrives twice is
        evaluated once (`source` and `id`).

        Raises:
            Refused: with `errors` whose `loc` begins with the event's index in `events`.
            Unreachable: after the last try.
        """
        body = b"[" + b",".join(events) + b"]"
        retrying = Retrying(
            retry=retry_if_exception_type(Unreachable),
            wait=_wait_seconds,
            stop=stop_after_delay(GIVE_UP_SECONDS),
            before_sleep=self._tell,
            reraise=True,
        )
        answer = retrying(self._ask, "POST", "/v1/events", content=body, headers={"Content-Type": BATCH_TYPE})
        return int(answer["accepted"])

    def apply(self, entity: str, document: bytes, *, dry_run: bool) -> list[dict[str, Any]]:
        """Apply a JSON document to the entity's webhooks and automations; returns each change made, or to be made.

        Raises:
            Refused, Unreachable: and nothing was changed, unless the connection broke after the request.
        """
        answer = self._ask(
            "POST",
            f"{_entity_path(entity)}/apply",
            content=document,
            headers={"Content-Type": "application/json"},
            params={"dry_run": "true"} if dry_run else {},
            timeout=APPLY_TIMEOUT,
        )
        changes: list[dict[str, Any]] = answer["changes"]
        return changes

    def export(self, entity: str, *, projects: bool = False) -> dict[str, Any]:
        """The entity's definitions in the form that `apply` takes. Raises Refused, Unreachable."""
        return self._ask("GET", f"{_entity_path(entity)}/export", params={"projects": "true"} if projects else {})

    def entity(self, name: str) -> dict[str, Any] | None:
        """An entity with its quotas; None where there is none for this key. Raises Refused, Unreachable."""
        try:
            return self._ask("GET", _entity_path(name))
        except Refused as exc:
            if exc.status == NOT_FOUND:
                return None
            raise

    def put_entity(self, name: str, *, kind: Any, parent: Any) -> None:
        """Create an entity, or change it; for instance administrators. Raises Refused, Unreachable."""
        self._ask("PUT", _entity_path(name), json={"kind": kind, "parent": parent})

    def change_quotas(self, name: str, quotas: Any) -> None:
        """Set limits of an entity; for instance administrators. Raises Refused, Unreachable."""
        self._ask("PATCH", _entity_path(name), json={"quotas": quotas})

    def entities(self) -> Iterator[str]:
        """The names of the entities that the key can see. Raises Refused, Unreachable."""
        cursor: dict[str, str] = {}
        while True:
            page = self._ask("GET", "/v1/entities", params=cursor)
            yield from (entity["name"] for entity in page["items"])
            if not page.get("next"):
                return
            cursor = {"cursor": page["next"]}

    def sources(self, entity: str) -> Iterator[dict[str, Any]]:
        """The entity's sources. Raises Refused, Unreachable."""
        cursor: dict[str, str] = {}
        while True:
            page = self._ask("GET", f"{_entity_path(entity)}/sources", params=cursor)
            yield from page["items"]
            if not page.get("next"):
                return
            cursor = {"cursor": page["next"]}

    def source(self, entity: str, name: str) -> dict[str, Any]:
        """The entity's source of this name. Raises Refused, Unreachable."""
        return self._ask("GET", f"{_entity_path(entity)}/sources/by-name/{quote(name, safe='')}")

    def source_requests(self, entity: str, source_id: str, *, limit: int) -> list[dict[str, Any]]:
        """The last requests to a source, newest first. Raises Refused, Unreachable."""
        path = f"{_entity_path(entity)}/sources/{quote(source_id, safe='')}/requests"
        requests: list[dict[str, Any]] = self._ask("GET", path, params={"limit": limit})["items"]
        return requests

    def try_source(self, entity: str, source_id: str, *, headers: dict[str, str], body: str) -> dict[str, Any]:
        """What would become of a request to a source; nothing is published. Raises Refused, Unreachable."""
        path = f"{_entity_path(entity)}/sources/{quote(source_id, safe='')}/test"
        return self._ask("POST", path, json={"headers": headers, "body": body})

    def _ask(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        try:
            response = self._http.request(method, path, **request)
        except httpx.TransportError as exc:
            reason = str(exc) or type(exc).__name__
            raise Unreachable(f"no answer from {self._http.base_url}: {reason}") from exc
        if self._on_expiry is not None and (when := response.headers.get(KEY_EXPIRES)):
            self._on_expiry(when)
            self._on_expiry = None
        if response.status_code in BUSY_STATUSES:
            raise Unreachable(
                f"{self._http.base_url} answered {response.status_code}: {_detail(response)}",
                retry_after_seconds=_retry_after_seconds(response),
            )
        if not response.is_success:
            refusal = f"{response.status_code}: {_detail(response)}"
            raise Refused(refusal, tuple(_errors(response)), status=response.status_code)
        answer = _json(response)
        if not isinstance(answer, dict):
            raise Refused(f"{self._http.base_url} does not answer like Hookline: {response.text[:EXCERPT_CHARS]}")
        return answer

    def _tell(self, state: RetryCallState) -> None:
        self._on_retry(str(_failure(state)), state.upcoming_sleep)


def _base_url(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as exc:
        raise InvalidSetting(f"HOOKLINE_URL: {exc}") from exc
    if url.scheme not in ("http", "https") or not url.host:
        raise InvalidSetting("HOOKLINE_URL: must be a URL such as http://127.0.0.1:8080")
    return url


def _tls_context() -> ssl.SSLContext:
    context = httpx.create_ssl_context()
    apply_rules(context)
    return context


def _entity_path(entity: str) -> str:
    return f"/v1/entities/{quote(entity, safe='')}"


def _failure(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _wait_seconds(state: RetryCallState) -> float:
    failure = _failure(state)
    asked = failure.retry_after_seconds if isinstance(failure, Unreachable) else None
    return BACKOFF(state) if asked is None else min(asked, RETRY_AFTER_CAP_SECONDS)


def _retry_after_seconds(response: httpx.Response) -> float | None:
    header = response.headers.get("Retry-After")
    return None if header is None else parse_retry_after(header, datetime.now(UTC))


def _json(response: httpx.Response) -> Any:
    try:
        return read_json(response.content)
    except orjson.JSONDecodeError:
        return None


def _detail(response: httpx.Response) -> str:
    """The detail of a problem document, or the beginning of an answer that is none."""
    problem = _json(response)
    if isinstance(problem, dict):
        return str(problem.get("detail") or problem.get("title") or response.reason_phrase)
    return " ".join(response.text[:EXCERPT_CHARS].split()) or response.reason_phrase


def _errors(response: httpx.Response) -> Iterator[FieldError]:
    problem = _json(response)
    errors = problem.get("errors") if isinstance(problem, dict) else None
    for error in errors or ():
        yield FieldError(tuple(error["loc"]), str(error["msg"]))
