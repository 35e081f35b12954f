"""`GET /v1/health`: whether the installation does what it is there for."""

from __future__ import annotations

from fastapi import APIRouter

from dispatcher.api.authentication import PrincipalDep
from dispatcher.api.resources import ResourcesDep
from dispatcher.control.health import HealthView, describe_health

router = APIRouter(prefix="/v1", tags=["operations"])


@router.get("/health")
def get_health(principal: PrincipalDep, resources: ResourcesDep) -> HealthView:
    """Check the whole installation: evaluation, deliveries, streams, processes and what they run on.

    Each check has its threshold, and the runbook that says what to do. Instance administrators see everything; others
    see whether the parts run and how far behind they are. It is at most two seconds old.
    """
    return describe_health(principal, resources.health.current())
