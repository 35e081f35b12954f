"""What every page for instance administrators has around it."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from dispatcher.console.visitors import Visitor, VisitorDep
from dispatcher.control.access import require_instance_admin


def _administrator(request: Request, visitor: VisitorDep) -> Visitor:
    require_instance_admin(visitor.principal)
    request.state.in_admin = True
    return visitor


AdminDep = Annotated[Visitor, Depends(_administrator)]
"""Somebody who administers the instance; others get the page that refuses."""
