"""Publishes two events by the `cloudevents` package, in each of its modes; prints the answers' statuses.

It runs in an environment that has nothing but the package, of its first or second major version.
"""

import http.client
import os
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

ATTRIBUTES = {"type": "ADD_ARTIFACT_ALIAS", "source": sys.argv[2], "traceparent": sys.argv[1]}
DATA = {
    "entity": "acme",
    "project": "digits",
    "collection": {"name": "llm"},
    "artifact": {"id": "a"},
    "alias": "prod",
}


def messages() -> Iterator[Any]:
    """Headers and body of each event."""
    try:
        from cloudevents.core.bindings import http as binding
        from cloudevents.core.v1.event import CloudEvent
    except ImportError:
        from cloudevents.http import CloudEvent, to_binary, to_structured

        for number, write in enumerate((to_binary, to_structured)):
            yield write(CloudEvent({**ATTRIBUTES, "id": f"one-{number}"}, DATA))
        return
    for number, write in enumerate((binding.to_binary_event, binding.to_structured_event)):
        attributes = {**ATTRIBUTES, "id": f"two-{number}", "specversion": "1.0", "datacontenttype": "application/json"}
        message = write(CloudEvent(attributes, DATA))
        yield message.headers, message.body


for headers, body in messages():
    authorized = {**headers, "Authorization": f"Bearer {os.environ['HOOKLINE_API_KEY']}"}
    data = body.encode() if isinstance(body, str) else body
    url = urlsplit(os.environ["HOOKLINE_URL"])
    connection = http.client.HTTPConnection(url.hostname or "", url.port)
    connection.request("POST", "/v1/events", data, authorized)
    answer = connection.getresponse()
    print(answer.status, answer.read().decode())
