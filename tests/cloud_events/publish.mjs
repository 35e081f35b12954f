// Publishes two events by the `cloudevents` package of npm, in each of its modes; prints the answers' statuses.
import { CloudEvent, HTTP } from "cloudevents";

const data = {
  entity: "acme",
  project: "digits",
  collection: { name: "llm" },
  artifact: { id: "a" },
  alias: "prod",
};

for (const [number, write] of [HTTP.binary, HTTP.structured].entries()) {
  const event = new CloudEvent({
    id: `npm-${number}`,
    type: "ADD_ARTIFACT_ALIAS",
    source: "/pl%C3%A4tze/1",
    traceparent: process.argv[2],
    datacontenttype: "application/json",
    data,
  });
  const { headers, body } = write(event);
  const answer = await fetch(`${process.env.HOOKLINE_URL}/v1/events`, {
    method: "POST",
    headers: { ...headers, Authorization: `Bearer ${process.env.HOOKLINE_API_KEY}` },
    body,
  });
  console.log(answer.status, await answer.text());
}
