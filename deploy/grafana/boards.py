"""The dashboards: rows of panels, each a title, a kind, a unit, and queries with their legends.

Gauges of the dispatcher are taken by `max`, because every dispatcher exposes the same; counters are summed.
"""

from __future__ import annotations

from deploy.grafana.panels import RATE, Dashboard, Panel, late, of_workers, quantiles, rate, stat
from deploy.grafana.saturation_boards import NIGHT, SATURATION

FAILED_BY_WEBHOOK = rate("hookline_webhook_attempts_total", "webhook, outcome", '{outcome!="2xx"}')
FLOW = Panel(
    "Events and deliveries",
    (
        (rate("hookline_events_published_total"), "published over HTTP"),
        (rate("hookline_events_evaluated_total"), "evaluated"),
        (rate("hookline_firings_total"), "firings"),
        (rate("hookline_deliveries_total", where='{outcome="delivered"}'), "delivered"),
    ),
    unit="ops",
)
OUTCOMES = Panel("Attempts by outcome", ((rate("hookline_attempts_total", "outcome"), "{{outcome}}"),), unit="reqps")
ENDED = Panel("Finished deliveries", ((rate("hookline_deliveries_total", "outcome"), "{{outcome}}"),), unit="ops")
LAG = Panel(
    "Evaluation lag",
    (
        ("sum(max by (partition) (hookline_evaluation_lag_entries))", "entries"),
        ("max(hookline_evaluation_lag_seconds)", "oldest, seconds"),
    ),
)
QUEUE = Panel(
    "Waiting deliveries",
    (
        ("max(hookline_deliveries_pending)", "pending"),
        ("max(hookline_deliveries_due)", "due"),
        ("max(hookline_deliveries_held)", "held"),
    ),
)
END_TO_END = Panel("Event to acknowledged delivery", quantiles("hookline_event_to_delivery_seconds"), unit="s")
DURATION = Panel("Duration of requests", quantiles("hookline_attempt_duration_seconds"), unit="s")
ATTEMPT_DELAY = Panel(
    "From due to sent, healthy endpoints",
    quantiles("hookline_attempt_delay_seconds"),
    unit="s",
    says="Objective: 99% in 10 s.",
)
EVALUATION_DELAY = Panel(
    "From received to evaluated",
    quantiles("hookline_evaluation_delay_seconds"),
    unit="s",
    says="Objective: 99.9% in 5 s.",
)
OWN_FAULTS = Panel(
    "Attempts that failed inside Hookline, by instance",
    ((of_workers("hookline_attempts_total", '{outcome="internal"}'), "{{instance}}"),),
    unit="reqps",
    says="No endpoint is to blame for these: a host ran out of a resource, or the code has a fault.",
)

DASHBOARDS = (
    Dashboard(
        "overview",
        "Hookline: overview",
        (
            (
                4,
                (
                    stat("Events evaluated", rate("hookline_events_evaluated_total"), "ops"),
                    stat("Delivered", rate("hookline_deliveries_total", where='{outcome="delivered"}'), "ops"),
                    stat("Evaluated too late", late("hookline_evaluation_delay_seconds", "5.0"), "percentunit"),
                    stat("Attempted too late", late("hookline_attempt_delay_seconds", "10.0"), "percentunit"),
                    stat("Oldest due", "max(hookline_oldest_due_seconds)", "s"),
                    stat("Dead letters kept", "max(hookline_deliveries_dead)"),
                ),
            ),
            (8, (FLOW, OUTCOMES)),
            (8, (LAG, QUEUE)),
            (8, (END_TO_END, ENDED)),
            (
                8,
                (
                    Panel(
                        "Memory of the streams' server",
                        (
                            ("max(hookline_stream_memory_bytes)", "used"),
                            ("max(hookline_stream_memory_bound_bytes)", "bound"),
                        ),
                        unit="bytes",
                    ),
                    Panel(
                        "Events refused",
                        ((rate("hookline_events_refused_total", "reason"), "{{reason}}"),),
                        unit="ops",
                    ),
                ),
            ),
        ),
    ),
    Dashboard(
        "webhooks",
        "Hookline: webhooks",
        (
            (
                4,
                (
                    stat("Circuits open", "max(hookline_webhook_circuit_open)"),
                    stat("Disabled", "max(hookline_webhooks_disabled)"),
                    stat("Held", "max(hookline_deliveries_held)"),
                    stat("Dead letters kept", "max(hookline_deliveries_dead)"),
                ),
            ),
            (8, (OUTCOMES, ENDED)),
            (8, (DURATION, ATTEMPT_DELAY)),
            (
                8,
                (
                    Panel(
                        "Requests by webhook",
                        ((f"topk(10, {rate('hookline_webhook_attempts_total', 'webhook')})", "{{webhook}}"),),
                        unit="reqps",
                        says="Needs HOOKLINE_METRICS_PER_WEBHOOK=1.",
                    ),
                    Panel(
                        "Failed requests by webhook",
                        (
                            (
                                f"topk(10, {FAILED_BY_WEBHOOK})",
                                "{{webhook}} {{outcome}}",
                            ),
                        ),
                        unit="reqps",
                        says="Needs HOOKLINE_METRICS_PER_WEBHOOK=1.",
                    ),
                ),
            ),
            (
                8,
                (
                    Panel(
                        "Circuits opened, webhooks disabled",
                        (
                            (f"sum(increase(hookline_webhook_circuit_openings_total[{RATE}]))", "circuits opened"),
                            (f"sum(increase(hookline_webhooks_disabled_automatically_total[{RATE}]))", "disabled"),
                            (f"sum(increase(hookline_secrets_unreadable_total[{RATE}]))", "secrets unreadable"),
                            (f"sum(increase(hookline_webhooks_unusable_total[{RATE}]))", "webhooks unusable"),
                        ),
                    ),
                    QUEUE,
                ),
            ),
        ),
    ),
    Dashboard(
        "automations",
        "Hookline: automations",
        (
            (
                4,
                (
                    stat("Automations loaded", "max(hookline_automations_loaded)"),
                    stat("Events evaluated", rate("hookline_events_evaluated_total"), "ops"),
                    stat("Firings", rate("hookline_firings_total"), "ops"),
                    stat("Skipped", rate("hookline_firings_skipped_total"), "ops"),
                ),
            ),
            (
                8,
                (
                    Panel(
                        "Events evaluated by type",
                        ((rate("hookline_events_evaluated_total", "type"), "{{type}}"),),
                        unit="ops",
                    ),
                    Panel(
                        "Firings by event type and action",
                        ((rate("hookline_firings_total", "event_type, action"), "{{event_type}} {{action}}"),),
                        unit="ops",
                    ),
                ),
            ),
            (
                8,
                (
                    Panel(
                        "Firings held back",
                        ((rate("hookline_firings_skipped_total", "reason"), "{{reason}}"),),
                        unit="ops",
                        says="Cooldowns, rate limits, disabled webhooks.",
                    ),
                    Panel(
                        "Samples ignored, poison entries",
                        (
                            (rate("hookline_samples_ignored_total"), "samples ignored"),
                            (rate("hookline_poison_entries_total"), "poison entries"),
                        ),
                        unit="ops",
                    ),
                ),
            ),
            (
                8,
                (
                    EVALUATION_DELAY,
                    Panel("Reload of edited automations", quantiles("hookline_reload_seconds"), unit="s"),
                ),
            ),
        ),
    ),
    Dashboard(
        "workers",
        "Hookline: workers",
        (
            (
                4,
                (
                    stat("Workers on evaluate", 'sum(hookline_workers{queue="evaluate"})'),
                    stat("Workers on deliver", 'sum(hookline_workers{queue="deliver"})'),
                    stat("Workers on deliver_slow", 'sum(hookline_workers{queue="deliver_slow"})'),
                    stat("Since the last sweep", "time() - max(hookline_pump_last_sweep_timestamp_seconds)", "s"),
                    stat("Processes up", 'sum(up{job=~"hookline.*"})'),
                ),
            ),
            (
                8,
                (
                    Panel(
                        "Events evaluated by instance",
                        ((of_workers("hookline_events_evaluated_total", queue="evaluate"), "{{instance}}"),),
                        unit="ops",
                    ),
                    Panel(
                        "Attempts by instance",
                        ((of_workers("hookline_attempts_total"), "{{instance}}"),),
                        unit="reqps",
                    ),
                ),
            ),
            (
                8,
                (
                    Panel(
                        "Lag by partition",
                        (("max by (partition) (hookline_evaluation_lag_entries)", "{{partition}}"),),
                    ),
                    Panel("Workers by queue", (("sum by (queue) (hookline_workers)", "{{queue}}"),)),
                ),
            ),
            (8, (EVALUATION_DELAY, ATTEMPT_DELAY)),
            (8, (DURATION, OWN_FAULTS)),
            (8, (Panel("Versions", (("count by (version) (hookline_build_info)", "{{version}}"),)),)),
        ),
    ),
    NIGHT,
    SATURATION,
)
