"""`celery -A worker secrets …`: bring all that is stored encrypted under the newest key.

Declares the command; it imports what it works with when it runs (`worker.commands` says why).
"""

from __future__ import annotations

import click

from worker.commands.output import as_json, complain, opened, operators_group, print_json


@operators_group("secrets")
def secrets() -> None:
    """Hookline: rotate the keys of secrets at rest."""


@secrets.command()
@as_json
def rotate(as_json: bool) -> None:
    """Encrypt every stored secret anew under the first of HOOKLINE_SECRET_KEYS.

    Runs beside a working Hookline and may be repeated. Give every process the new key first: one that lacks it can't
    read what this writes.

    Ends with 0 when the older keys are not needed any more, with 1 when some values can't be read, or are still written
    under an older key.
    """
    from shared.vault import Vault
    from worker.operations.key_rotation import rotate

    with opened() as (settings, engine):
        vault = Vault.open(settings)
        done = rotate(engine, vault)
    if as_json:
        print_json(done.to_json())
    else:
        for line in done.lines():
            click.echo(line)
    for fault in done.faults():
        complain(fault)
    click.get_current_context().exit(0 if done.old_keys_removable else 1)
