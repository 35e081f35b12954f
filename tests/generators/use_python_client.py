"""What a user does with the generated client; run by its interpreter, in the folder that has the package `generated`.

It imports nothing of Hookline. Arguments: the URL and a key.
"""

# mypy: ignore-errors

from __future__ import annotations

import importlib
import pkgutil
import sys


def main(url: str, key: str) -> None:
    """Import every module, then publish, create, list and replay."""
    import generated

    names = [module.name for module in pkgutil.walk_packages(generated.__path__, "generated.")]
    for name in names:
        importlib.import_module(name)
    if len(names) < 100:
        raise SystemExit(f"only {len(names)} modules")

    from generated import models
    from generated.api.automations import change_automation, create_automation, list_automations
    from generated.api.deliveries import list_deliveries, replay_deliveries
    from generated.api.events import publish_events
    from generated.client import AuthenticatedClient

    client = AuthenticatedClient(base_url=url, token=key, raise_on_unexpected_status=True)
    metadata = models.ArtifactMetadata.from_dict({"accuracy": 0.93})
    alias = models.AliasEvent(
        specversion="1.0",
        id="generated-1",
        source="/generated",
        type_=models.AliasEventType.ADD_ARTIFACT_ALIAS,
        data=models.AliasData(
            entity="acme",
            project="models",
            collection=models.Collection(name="churn"),
            artifact=models.Artifact(id="a-1", version="v3", metadata=metadata),
            alias="production",
        ),
    )
    metrics = models.RunMetricDataMetrics.from_dict({"loss": 0.9})
    metric = models.RunMetricEvent(
        specversion="1.0",
        id="generated-2",
        source="/generated",
        type_="RUN_METRIC",
        data=models.RunMetricData(entity="acme", project="churn", run=models.Run(id="r-1"), step=1, metrics=metrics),
    )
    assert publish_events.sync(client=client, body=alias).accepted == 1
    assert publish_events.sync(client=client, body=[alias, metric]).accepted == 2

    wanted = models.AutomationBody(
        name="generated",
        event=models.EventType.RUN_METRIC,
        scope=models.Scope(project="churn"),
        conditions=[models.ThresholdCondition(metric="loss", op=models.Op.VALUE_0, threshold=0.5)],
        cooldown=models.Cooldown(per=models.CooldownPer.RUN, period="1h"),
        action=models.NoOpAction(no_op=True),
    )
    created = create_automation.sync("acme", client=client, body=wanted)
    assert isinstance(created, models.AutomationView), created
    assert isinstance(created.conditions[0], models.ThresholdCondition), created
    assert isinstance(created.action, models.NoOpAction), created
    changed = change_automation.sync("acme", created.id, client=client, body=models.AutomationPatch(enabled=False))
    assert changed.enabled is False, changed
    page = list_automations.sync("acme", client=client, name="generated", stats=True)
    assert [one.id for one in page.items] == [created.id]
    assert page.items[0].stats.waiting == 0

    refused = list_deliveries.sync("acme", client=client, webhook="nobody")
    assert isinstance(refused, models.Problem), refused
    assert list_deliveries.sync("acme", client=client, since="1h").items == []
    replayed = replay_deliveries.sync("acme", client=client, body=models.ReplayQuery(event="nothing"))
    assert replayed.replayed == 0, replayed
    print("ok")


if __name__ == "__main__":
    main(*sys.argv[1:])
