"""Definitions as YAML: all of them as they are, and changing them as a whole, after a look at what would change.

What is applied is what was looked at: if the same text would change something else by then, it is shown again instead.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import yaml
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import RedirectResponse

from dispatcher.api.bodies import MAX_MANIFEST_BYTES
from dispatcher.api.resources import ApiResources
from dispatcher.client.yaml_documents import read_values, write_documents
from dispatcher.console.entities import EntityDep, EntityVisit
from dispatcher.console.forms import Form, read_form
from dispatcher.console.rendering import query, render
from dispatcher.console.visitors import ResourcesDep, VisitorDep
from dispatcher.console.yaml_places import Places
from dispatcher.control import manifest_export, manifests
from dispatcher.control.errors import Conflict, Forbidden
from dispatcher.control.manifests import Change
from shared.domain.errors import InvalidDefinition
from shared.domain.visible_text import shortened
from shared.storage.database.transactions import read_transaction, write_transaction

router = APIRouter(prefix="/e/{entity}/settings/manifest")
MAX_SHOWN_CHANGES = 500
MAX_VALUE_CHARS = 2000


async def _large_form(request: Request, _visitor: VisitorDep) -> Form:
    return await read_form(request, MAX_MANIFEST_BYTES)


LargeFormDep = Annotated[Form, Depends(_large_form)]


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a manifest, and in which line; None where there is none."""

    line: int | None
    message: str


@dataclass(frozen=True, slots=True)
class Diff:
    """What a manifest would change."""

    changes: list[Change]
    counts: dict[str, int]
    digest: str
    """Tells whether it is the same as one that was looked at before."""


class _Unreadable(Exception):
    """The text is no manifest; the faults say why."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__(faults)
        self.faults = faults


@router.get("")
async def manifest_page(
    request: Request,
    visit: EntityDep,
    resources: ResourcesDep,
    created: int = 0,
    updated: int = 0,
    deleted: int = 0,
) -> Response:
    """The definitions as YAML, and a field for others."""
    applied = {"created": created, "updated": updated, "deleted": deleted}
    return await _page(request, visit, resources, applied=applied if any(applied.values()) else None)


@router.get("/export")
async def export(visit: EntityDep, resources: ResourcesDep) -> Response:
    """The definitions as a file of YAML."""
    text = await resources.threads.manifests.run(visit.principal.user_id, lambda: _export(resources, visit))
    disposition = f'attachment; filename="{visit.entity}.yaml"'
    return Response(text, media_type="application/yaml", headers={"Content-Disposition": disposition})


def _export(resources: ApiResources, visit: EntityVisit) -> str:
    with read_transaction(resources.engine) as connection:
        exported = manifest_export.export(connection, visit.principal, visit.entity)
    return write_documents([{"entity": visit.entity, **exported}])


@router.post("")
async def change(request: Request, visit: EntityDep, resources: ResourcesDep, form: LargeFormDep) -> Response:
    """Show what a manifest would change, or apply it after that was looked at."""
    text = form.text("manifest")
    try:
        places, body = _read(text)
        seen = form.text("digest") if form.has("apply") else ""
        diff, done = await resources.threads.manifests.run(
            visit.principal.user_id, lambda: _apply(resources, visit, body, seen)
        )
    except _Unreadable as exc:
        return await _page(request, visit, resources, text=text, faults=exc.faults)
    except InvalidDefinition as exc:
        faults = [Fault(places.line(error.loc), str(error)) for error in exc.errors]
        return await _page(request, visit, resources, text=text, faults=faults)
    except (Conflict, Forbidden) as exc:
        faults = [Fault(None, str(error)) for error in exc.errors] or [Fault(None, str(exc))]
        return await _page(request, visit, resources, text=text, faults=faults)
    if done:
        return RedirectResponse(f"{visit.frame.path}/settings/manifest{query(diff.counts)}", 303)
    return await _page(request, visit, resources, text=text, diff=diff, again=form.has("apply"))


def _read(text: str) -> tuple[Places, Any]:
    """The one document of a text, and where its members are. Raises _Unreadable."""
    try:
        bodies = [body for body in read_values(text.encode("utf-8", "replace"), max_bytes=MAX_MANIFEST_BYTES) if body]
        places = Places(text)
        # As JSON, since that is what manifests are made of: of too long a number Python writes none.
        body = json.loads(json.dumps(bodies[0])) if bodies else {}
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        raise _Unreadable(Fault(mark.line + 1 if mark else None, str(exc.problem))) from None
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        raise _Unreadable(Fault(None, " ".join(str(exc).split()))) from None
    if not isinstance(body, dict) or not body:
        raise _Unreadable(Fault(None, "write the members webhooks, slack or automations, each with a list"))
    if len(bodies) > 1:
        raise _Unreadable(Fault(None, "must be one document: those of other entities are applied on their own pages"))
    return places, body


def _apply(resources: ApiResources, visit: EntityVisit, body: Any, seen: str) -> tuple[Diff, bool]:
    """What the manifest changes, and whether it is done: only if that is what was seen."""
    with write_transaction(resources.engine) as connection:

        def apply(*, dry_run: bool) -> list[Change]:
            return manifests.apply(
                connection, visit.principal, visit.entity, body, checks=resources.checks, dry_run=dry_run
            )

        diff = _diff(apply(dry_run=True))
        if seen != diff.digest:
            return diff, False
        apply(dry_run=False)
        return diff, True


def _diff(changes: Sequence[Change]) -> Diff:
    shown = [change for change in changes if change.change != "unchanged"]
    text = json.dumps([change.model_dump(mode="json") for change in shown], sort_keys=True)
    counts = Counter(str(change.change) for change in changes)
    return Diff(shown, dict(counts), hashlib.sha256(text.encode()).hexdigest())


async def _page(
    request: Request,
    visit: EntityVisit,
    resources: ApiResources,
    *,
    text: str = "",
    faults: Sequence[Fault] = (),
    diff: Diff | None = None,
    again: bool = False,
    applied: dict[str, int] | None = None,
) -> Response:
    now = await resources.threads.manifests.run(visit.principal.user_id, lambda: _export(resources, visit))
    return render(
        request,
        "manifest.html",
        status=422 if faults else 200,
        now_text=now,
        text=text,
        faults=[*faults][:MAX_SHOWN_CHANGES],
        diff=diff,
        again=again,
        applied=applied,
        shown=[] if diff is None else [(change, _values(change)) for change in diff.changes[:MAX_SHOWN_CHANGES]],
    )


def _values(change: Change) -> list[tuple[str, str, str]]:
    """Each member that an update changes, with what it was and what it becomes."""
    before, after = change.before or {}, change.after or {}
    return [(member, _short(before.get(member)), _short(after.get(member))) for member in change.detail]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, indent=2) if isinstance(value, dict | list) else json.dumps(value)
    return shortened(text, MAX_VALUE_CHARS)
