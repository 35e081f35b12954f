"""What commands say on standard error."""

from __future__ import annotations

import click

from shared.domain.visible_text import visible_line


def complain(fault: object) -> None:
    """Say in one line what is wrong."""
    click.echo(visible_line(f"hookline: {' '.join(str(fault).split())}"), err=True)
