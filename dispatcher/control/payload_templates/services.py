"""The services, and what each asks for by its public reference: address, authentication, form and limits of the body.

Must not hold anything that a reference does not say; how each was tried is in `docs/receivers/`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from dispatcher.control.payload_templates import bodies
from dispatcher.control.payload_templates.words import Words
from shared.domain.payloads.content_types import FORM

Body = Callable[[Words], Any]


@dataclass(frozen=True, slots=True)
class PayloadTemplate:
    """A service's request to start from: a webhook without its URL's own parts, and the payload of each event type."""

    name: str
    service: str
    summary: str
    reference: str
    """The service's public reference."""
    webhook: Mapping[str, Any]
    """The webhook's definition. Secrets are named; words in capitals in the URL are to be replaced."""
    body: Body
    secrets: Mapping[str, str] = field(default_factory=dict)
    """What each secret that the definitions name has to be."""
    notes: tuple[str, ...] = ()
    types: str = "json"
    content_type: str | None = None

    def action(self, words: Words) -> dict[str, Any]:
        """The action of an automation on the events of a type."""
        action = {"webhook": self.webhook["name"], "payload_types": self.types, "payload": self.body(words)}
        return action if self.content_type is None else {**action, "content_type": self.content_type}


_GITHUB_HEADERS: Final = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
_WHOLE_URL: Final = "the whole URL: whoever has it may post"

TEMPLATES: Final[Mapping[str, PayloadTemplate]] = MappingProxyType(
    {
        one.name: one
        for one in (
            PayloadTemplate(
                "github-dispatch",
                "GitHub",
                "Start the workflows that listen for repository_dispatch.",
                "https://docs.github.com/en/rest/repos/repos#create-a-repository-dispatch-event",
                {
                    "name": "github",
                    "url": "https://api.github.com/repos/OWNER/REPOSITORY/dispatches",
                    "access_token": "GITHUB_TOKEN",
                    "headers": _GITHUB_HEADERS,
                },
                bodies.github_dispatch,
                {"GITHUB_TOKEN": "a fine-grained token with the repository permission Contents: write"},
                (
                    "event_type must be one of the types that the workflow's repository_dispatch names.",
                    "client_payload may have 10 members, and the body 64 KiB. An object in a member counts once.",
                ),
            ),
            PayloadTemplate(
                "github-workflow",
                "GitHub",
                "Start one workflow by workflow_dispatch, with inputs.",
                "https://docs.github.com/en/rest/actions/workflows#create-a-workflow-dispatch-event",
                {
                    "name": "github-workflow",
                    "url": "https://api.github.com/repos/OWNER/REPOSITORY/actions/workflows/WORKFLOW.yml/dispatches",
                    "access_token": "GITHUB_TOKEN",
                    "headers": _GITHUB_HEADERS,
                },
                bodies.github_workflow,
                {"GITHUB_TOKEN": "a fine-grained token with the repository permission Actions: write"},
                ("The workflow must declare each input; GitHub answers 422 to one that it does not. Values are text.",),
                "text",
            ),
            PayloadTemplate(
                "gitlab-trigger",
                "GitLab",
                "Start a pipeline by a trigger token, with variables.",
                "https://docs.gitlab.com/api/pipeline_triggers/#trigger-a-pipeline-with-a-token",
                {
                    "name": "gitlab",
                    "url": "https://gitlab.com/api/v4/projects/PROJECT_ID/trigger/pipeline",
                    "secrets": ["GITLAB_TRIGGER_TOKEN"],
                },
                bodies.gitlab_trigger,
                {"GITLAB_TRIGGER_TOKEN": "a pipeline trigger token of the project"},
                ("Variables are text, and their names have letters, digits and underscores.",),
                "text",
            ),
            PayloadTemplate(
                "slack-webhook",
                "Slack",
                "Post a message to an incoming webhook.",
                "https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks",
                {"name": "slack", "url_secret": "SLACK_WEBHOOK_URL"},
                bodies.slack_text,
                {"SLACK_WEBHOOK_URL": _WHOLE_URL},
                ("A Slack integration, as the action type, needs no payload and escapes values as mrkdwn.",),
                "text",
            ),
            PayloadTemplate(
                "slack-message",
                "Slack",
                "Post a message by the Web API's chat.postMessage.",
                "https://docs.slack.dev/reference/methods/chat.postMessage",
                {
                    "name": "slack-api",
                    "url": "https://slack.com/api/chat.postMessage",
                    "access_token": "SLACK_BOT_TOKEN",
                    "policy": {"success": {"body": {"ok": True}}},
                },
                bodies.slack_message,
                {"SLACK_BOT_TOKEN": "a bot token (xoxb-…) with the scope chat:write, of a bot that is in the channel"},
                ("Slack answers 200 to failures too: the success rule looks at `ok`.",),
                "text",
            ),
            PayloadTemplate(
                "teams-card",
                "Microsoft Teams",
                "Post an Adaptive Card by a workflow.",
                "https://learn.microsoft.com/en-us/power-automate/teams/teams-app-create",
                {
                    "name": "teams",
                    "url_secret": "TEAMS_WORKFLOW_URL",
                    "policy": {"success": {"status": [200, 202], "body": {"$not": {"$contains": "HTTP error"}}}},
                },
                bodies.teams_card,
                {"TEAMS_WORKFLOW_URL": _WHOLE_URL},
                ("A card may have 28 KiB.", "Old connectors answer 200 with `HTTP error` in the text: a failure."),
                "text",
            ),
            PayloadTemplate(
                "discord",
                "Discord",
                "Post a message to a channel's webhook.",
                "https://docs.discord.com/developers/resources/webhook#execute-webhook",
                {"name": "discord", "url_secret": "DISCORD_WEBHOOK_URL"},
                bodies.discord,
                {"DISCORD_WEBHOOK_URL": _WHOLE_URL},
                ("Discord refuses blank texts of fields, and more than 2,000 characters of content.",),
                "text",
            ),
            PayloadTemplate(
                "pagerduty",
                "PagerDuty",
                "Trigger an alert by the Events API v2.",
                "https://developer.pagerduty.com/docs/events-api-v2/trigger-events/",
                {
                    "name": "pagerduty",
                    "url": "https://events.pagerduty.com/v2/enqueue",
                    "secrets": ["PAGERDUTY_ROUTING_KEY"],
                },
                bodies.pagerduty,
                {"PAGERDUTY_ROUTING_KEY": "the integration key of a service, 32 characters"},
                ("dedup_key is the delivery's id: a repeated attempt makes no second alert.",),
            ),
            PayloadTemplate(
                "opsgenie",
                "Opsgenie",
                "Create an alert.",
                "https://docs.opsgenie.com/docs/alert-api#create-alert",
                {
                    "name": "opsgenie",
                    "url": "https://api.opsgenie.com/v2/alerts",
                    "headers": {"Authorization": "GenieKey ${OPSGENIE_KEY}"},
                    "secrets": ["OPSGENIE_KEY"],
                },
                bodies.opsgenie,
                {"OPSGENIE_KEY": "the key of an API integration"},
                ("In the EU the host is api.eu.opsgenie.com.", "message may have 130 characters; details are text."),
                "text",
            ),
            PayloadTemplate(
                "jenkins",
                "Jenkins",
                "Build a job with parameters.",
                "https://www.jenkins.io/doc/book/using/remote-access-api/",
                {
                    "name": "jenkins",
                    "url": "https://JENKINS/job/JOB/buildWithParameters",
                    "basic": {"user": "USER", "password_secret": "JENKINS_API_TOKEN"},
                },
                bodies.jenkins,
                {"JENKINS_API_TOKEN": "an API token of the user, which needs no crumb"},
                ("The job must be parameterized; parameters that it does not declare are ignored.",),
                "text",
                FORM,
            ),
            PayloadTemplate(
                "airflow",
                "Apache Airflow",
                "Trigger a DAG run (Airflow 3).",
                "https://airflow.apache.org/docs/apache-airflow/stable/stable-rest-api-ref.html",
                {
                    "name": "airflow",
                    "url": "https://AIRFLOW/api/v2/dags/DAG_ID/dagRuns",
                    "access_token": "AIRFLOW_TOKEN",
                    "policy": {"success": {"status": ["2xx", 409]}},
                },
                bodies.airflow,
                {"AIRFLOW_TOKEN": "a JWT of Airflow's /auth/token; renew it before it expires"},
                (
                    "A repeated attempt is answered with 409, since the run has the delivery's id: that is a success.",
                    "Airflow 2: /api/v1/…, `basic` in place of the token, and no logical_date.",
                ),
            ),
            PayloadTemplate(
                "argo-events",
                "Argo Events",
                "Send to an event source of the type webhook.",
                "https://argoproj.github.io/argo-events/eventsources/setup/webhook/",
                {
                    "name": "argo-events",
                    "url": "https://EVENT_SOURCE/ENDPOINT",
                    "access_token": "ARGO_EVENTS_TOKEN",
                },
                bodies.plain_facts,
                {"ARGO_EVENTS_TOKEN": "what the event source's authSecret has"},
                ("Numbers and objects keep their type: sensors can use them in parameters with useRawData.",),
            ),
            PayloadTemplate(
                "cloudevent",
                "CloudEvents",
                "Send a CloudEvent 1.0 in structured mode, to Knative or any other broker.",
                "https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md",
                {"name": "cloudevents", "url": "https://BROKER/PATH"},
                bodies.cloudevent,
                {},
                ("id is the delivery's id, the same on every attempt: a consumer can drop repeats.",),
                "json",
                "application/cloudevents+json",
            ),
        )
    }
)
"""The payload templates, by their names."""
