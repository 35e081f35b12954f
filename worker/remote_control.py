"""Remote control of running workers: `celery -A worker control pause_webhook wh_3`, `… inspect webhooks`.

A command reaches every worker, and each carries it out; what it changes is in the database, where the first finds
something to change and the others find it done. So it holds for workers that were not there, and after restarts. Runs
in a worker's main process, beside the pool.

Every `celery` command imports this module, so what the commands work with is imported when one runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery.worker import control as celerys_own
from celery.worker.control import control_command, inspect_command
from kombu.utils.url import maybe_sanitize_url
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from shared.domain.errors import HooklineError, InvalidDefinition
from shared.settings import Settings
from shared.storage.database.engine import open_engine
from shared.storage.database.transactions import read_transaction
from worker.operations.audit import REMOTE, Row
from worker.process.scoreboard import InFlightEntry, Scoreboard

Answer = dict[str, Any]


def register_control(settings: Settings, scoreboard: Scoreboard) -> None:
    """Give workers the commands; in the process of `celery control` they are only known by name."""

    @control_command(args=[("webhook", str)], signature="<id or name>")
    def pause_webhook(_state: Any, webhook: str = "") -> Answer:
        """Let a webhook's deliveries wait, on all workers and after restarts."""
        from worker.operations.webhooks import pause

        return _answered(settings, lambda engine: _said(pause(engine, _meant(webhook), None, by=REMOTE), "paused"))

    @control_command(args=[("webhook", str)], signature="<id or name>")
    def resume_webhook(_state: Any, webhook: str = "") -> Answer:
        """Send to a webhook again that was paused or disabled, or whose circuit is open."""
        from worker.operations.webhooks import resume

        return _answered(settings, lambda engine: _said(resume(engine, _meant(webhook), None, by=REMOTE), "active"))

    @control_command()
    def reload_automations(_state: Any) -> Answer:
        """Reload all automations at the next evaluation."""
        scoreboard.ask_to_reload()
        return {"ok": "automations are reloaded at the next evaluation"}

    @control_command(name="pool_grow", args=[("n", int)], signature="[N=1]")
    def _pool_grow(state: Any, n: int = 1) -> Answer:
        """Grow pool by n processes."""
        return _of_processes(state, "grow") or _celerys("pool_grow")(state, n)

    @control_command(name="pool_shrink", args=[("n", int)], signature="[N=1]")
    def _pool_shrink(state: Any, n: int = 1) -> Answer:
        """Shrink pool by n processes."""
        return _of_processes(state, "shrink") or _celerys("pool_shrink")(state, n)

    @control_command(name="autoscale", args=[("max", int), ("min", int)], signature="[max [min]]")
    def _autoscale(state: Any, max: int | None = None, min: int | None = None) -> Answer:
        """Modify autoscale settings."""
        if not state.consumer.controller.autoscaler:
            return {"error": "this worker was started without --autoscale, which needs --pool prefork"}
        return _celerys("autoscale")(state, max, min)

    @inspect_command(name="stats")
    def _stats(state: Any) -> Any:
        """Request worker statistics/information."""
        return _without_passwords(state.consumer.controller.stats())

    @inspect_command(alias="sending")
    def webhooks(_state: Any) -> Any:
        """Show the requests in flight by webhook, and the webhook's lane."""
        shown = scoreboard.shown()
        try:
            return _described(shown, _names(settings, shown))
        except (HooklineError, SQLAlchemyError):
            return _described(shown, {})  # the numbers are known without the database


def _celerys(command: str) -> Callable[..., Answer]:
    """Celery's own command of a name that is also one of ours."""
    function: Callable[..., Answer] = getattr(celerys_own, command)
    return function


def _of_processes(state: Any, change: str) -> Answer | None:
    """Why the pool can't change its size, if it can't. Celery itself answers with an AttributeError."""
    if hasattr(state.consumer.pool, change):
        return None
    return {
        "error": f"this worker's pool can't {change}: only --pool prefork can. A pool of threads starts as many as it "
        "needs, up to -c N: restart it with another -c"
    }


def _meant(webhook: str) -> str:
    if not webhook:
        raise InvalidDefinition.at(("webhook",), "is required: the id or the name of a webhook, such as wh_3")
    return webhook


def _without_passwords(told: dict[str, Any]) -> dict[str, Any]:
    """Celery leaves out the broker's password, but not where it stands in the URL of a socket or of a second broker."""
    broker = told.get("broker")
    if isinstance(broker, dict):
        broker["hostname"] = maybe_sanitize_url(str(broker.get("hostname")))
        broker["alternates"] = [maybe_sanitize_url(url) for url in broker.get("alternates", ())]
    return told


def _answered(settings: Settings, act: Callable[[Engine], str]) -> Answer:
    engine = open_engine(settings)
    try:
        return {"ok": act(engine)}
    except HooklineError as exc:
        return {"error": str(exc)}
    except SQLAlchemyError as exc:
        return {"error": f"the database can't be used: {str(getattr(exc, 'orig', exc)).partition(chr(10))[0]}"}
    finally:
        engine.dispose()


def _said(row: Row, word: str) -> str:
    return f"{row['entity']}/{row['name']} ({row['id']}) {'is now' if row['changed'] else 'was already'} {word}"


def _names(settings: Settings, shown: list[InFlightEntry]) -> dict[int, Row]:
    if not shown:
        return {}
    from worker.operations.webhooks import names_of

    engine = open_engine(settings)
    try:
        with read_transaction(engine) as connection:
            return names_of(connection, {one.webhook_id for one in shown})
    finally:
        engine.dispose()


def _described(shown: list[InFlightEntry], names: dict[int, Row]) -> list[Row]:
    nameless = {"entity": None, "name": None}
    return [
        {
            **names.get(one.webhook_id, {"id": f"wh_{one.webhook_id}", **nameless}),
            "in_flight": one.in_flight,
            "lane": "slow" if one.slow else "normal",
            "pid": one.pid,
        }
        for one in shown
    ]
