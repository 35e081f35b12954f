"""What `celery -A worker hookline status` shows: the health of the installation, as plain rows."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sqlalchemy import Engine

from shared.domain.health_checks import HealthCheck
from shared.health.snapshot import CheckResult, Health, take_snapshot
from shared.settings import Settings
from shared.storage.schema.migrate import newest_revision
from shared.vault import Vault
from worker.operations.audit import Row


def describe_installation(settings: Settings, engine: Engine) -> Row:
    """Look at the installation once; it answers also while a server is away."""
    health = take_snapshot(settings, engine, Vault.open_at_first_use(settings))
    return {
        "status": str(health.status),
        "version": health.version,
        "schema": {"revision": health.schema, "newest": newest_revision()},
        "checks": list(map(_check, health.checks)),
        "partitions": _partitions(health),
        "deliveries": None if health.queue is None else asdict(health.queue),
        "streams": None if health.memory is None else asdict(health.memory),
        "processes": None if health.processes is None else [_plain(one) for one in health.processes],
        "webhooks": None if health.webhooks is None else [_plain(one) for one in health.webhooks],
        "unreadable_secrets": health.unreadable
        and [{"entity": entity, "name": name} for entity, name in health.unreadable],
        "environment": [_plain(one) for one in health.environment],
    }


def rows_of_checks(answer: Row) -> list[Row]:
    """The checks as a table shows them: what fails first."""
    order = {"failing": 0, "unknown": 1, "ok": 2}
    rows = sorted(answer["checks"], key=lambda one: order[one["status"]])
    return [
        {
            **one,
            "check": one["name"],
            "value": "" if one["value"] is None else f"{one['value']:g} {one['unit']}".rstrip(),
            "threshold": f"{'<' if one['below'] else '>'} {one['threshold']:g}",
            "runbook": "" if one["status"] == "ok" else one["runbook"],
        }
        for one in rows
    ]


def _check(result: CheckResult) -> Row:
    check: HealthCheck = result.check
    return {
        "name": check.name,
        "status": str(result.status),
        "value": result.shown_value,
        "threshold": check.threshold,
        "below": check.below,
        "unit": check.unit,
        "severity": str(check.severity),
        "meaning": check.meaning,
        "detail": result.detail,
        "runbook": check.page,
    }


def _partitions(health: Health) -> list[Row] | None:
    if health.lags is None:
        return None
    return [
        {"partition": number, "entries": lag.entries, "seconds": round(lag.seconds, 3)}
        for number, lag in health.lags.items()
    ]


def _plain(one: Any) -> Row:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(one).items()}
