"""Follows docs/runbooks/: every query, statement and command in them is tried on running parts."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping

from sqlalchemy import text

from shared.storage.database.engine import open_engine
from shared.storage.database.transactions import read_transaction
from tests.integration.forked import Command, outcomes
from tests.integration.processes import ROOT
from tests.monitoring.prometheus import Prometheus
from tests.monitoring.scene import Scene

PAGES = {page.stem: page.read_text() for page in sorted((ROOT / "docs" / "runbooks").glob("Hookline*.md"))}
ELSEWHERE = {"systemctl", "kubectl"}
"""Programs that ask a supervisor, which these parts have none of."""
MAY_SAY_NO = {"celery -A worker hookline status": "", "celery -A worker deliveries replay": "nothing to replay"}
"""What may end with 1, and what it says then: that something is wrong, or that there is nothing to do."""
STARTS_WORKERS = "celery -A worker worker"


def blocks(kind: str) -> Iterator[tuple[str, str]]:
    """Each fenced block of a kind, after its page's name, with continued lines joined."""
    for name, page in PAGES.items():
        for indent, block in re.findall(rf"^( *)```{kind}\n(.*?)^ *```", page, re.MULTILINE | re.DOTALL):
            lines = (line.removeprefix(indent) for line in re.sub(r"\\\n\s*", " ", block).splitlines())
            yield name, "\n".join(lines)


def commands() -> set[str]:
    """Every command line, in blocks and in the prose."""
    lines = {line for _, block in blocks("bash") for line in block.splitlines() if line}
    lines |= {code for page in PAGES.values() for code in re.findall(r"`(celery -A worker [^`]+)`", page)}
    return {line for line in lines if not line.startswith(STARTS_WORKERS) and line.split()[0] not in ELSEWHERE}


def faults_of_queries(server: Prometheus) -> list[str]:
    """What Prometheus does not take; most also have data, and all are held against the metrics' names elsewhere."""
    return [
        f"{name}: {line}: {exc}"
        for name, block in blocks("promql")
        for line in block.splitlines()
        if (exc := _raised(server, line))
    ]


def _raised(server: Prometheus, query: str) -> str:
    try:
        server.now(query)
    except AssertionError as exc:
        return str(exc)
    return ""


def faults_of_statements(running: Scene) -> list[str]:
    """What PostgreSQL does not take. Each is rolled back."""
    engine = open_engine(running.settings)
    faults = []
    for name, block in blocks("sql"):
        try:
            with read_transaction(engine) as connection:
                connection.execute(text(block.rstrip().rstrip(";"))).all()
        except Exception as exc:
            faults.append(f"{name}: {block}: {exc}")
    engine.dispose()
    return faults


def faults_of_commands(running: Scene, put_in: Mapping[str, str]) -> list[str]:
    """What does not end with 0, when placeholders are replaced by what is there."""
    lines = sorted(commands())
    for placeholder, value in put_in.items():
        lines = [line.replace(placeholder, value) for line in lines]
    ours = [line for line in lines if line.startswith("celery ")]
    commands_of_ours = [Command(shlex.split(line)) for line in ours]
    ended = outcomes(commands_of_ours, running.environment(), imports=["worker.celery"])
    done = dict(zip(ours, ended, strict=True))
    for line in lines:
        if line not in done and all(shutil.which(program) for program in _programs(line)):
            done[line] = _shell(line, running)
    return [
        f"{line}: ended with {code}: {said}"
        for line, (code, said) in done.items()
        if code and not (code == 1 and any(line.startswith(one) and text in said for one, text in MAY_SAY_NO.items()))
    ]


def _programs(line: str) -> list[str]:
    return [word for word in ("curl", "redis-cli") if word in line]


def _shell(line: str, running: Scene) -> tuple[int, str]:
    """Run by a shell, with a curl that takes 4xx and 5xx for a fault."""
    environment = {**running.environment(), "NO_PROXY": "*"}
    script = f'set -eu\ncurl() {{ command curl --fail-with-body "$@"; }}\n{line}'
    done = subprocess.run(["/bin/bash", "-c", script], env=environment, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr
