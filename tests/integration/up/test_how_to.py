"""docs/how-to: every command of each page is run, in order, on `hookline up`, and says what the page shows."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.receiver import Answer, Received, Receiver, receiving
from tests.integration.up.test_up import Up, up

PAGES = {page.stem: page.read_text() for page in sorted((Path(__file__).parents[3] / "docs" / "how-to").glob("*.md"))}
BLOCK = re.compile(r"^( *)```(bash|text)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
KEY = "hlk-how-to-0123456789abcdefghij"
MARK = "@@ end of block @@"
SECONDS = 110
MISSING = [program for program in ("bash", "curl", "jq") if shutil.which(program) is None]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"not here: {', '.join(MISSING)}"),
    pytest.mark.timeout(240),
]


@dataclass(frozen=True, slots=True)
class Step:
    """A block of commands, and the lines that the page shows of what it prints."""

    commands: str
    shown: tuple[str, ...] = ()


def steps(name: str) -> list[Step]:
    """The blocks of a page, in order."""
    found: list[Step] = []
    for indent, kind, text in BLOCK.findall(PAGES[name]):
        lines = [line.removeprefix(indent) for line in text.splitlines()]
        if kind == "bash":
            found.append(Step("\n".join(lines)))
        else:
            found[-1] = Step(found[-1].commands, tuple(lines))
    return found


def answer(request: Received) -> Answer:
    """As Slack and GitHub do."""
    return Answer(204, body=b"") if request.path.endswith("/dispatches") else Answer()


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Up, Receiver]]:
    """A running one that may send to the receiver, with the key of the pages."""
    folder = tmp_path_factory.mktemp("how-to")
    with pytest.MonkeyPatch.context() as patched, receiving() as receiver:
        receiver.answer = answer
        settings = {"ALLOWED_NETWORKS": "127.0.0.0/8", "ALLOW_HTTP": "true", "ADMIN_API_KEY": KEY}
        with up(folder, settings) as running:
            patched.setenv("NO_PROXY", "*")
            yield running, receiver


def put_in(commands: str, url: str, receiver: str) -> str:
    """The commands with what stands for the reader's own things."""
    for placeholder, value in {
        "http://127.0.0.1:8080": url,
        "hlk-…": KEY,
        "https://hooks.slack.com/services/…": f"{receiver}/slack",
        "github_pat_…": "github_pat_123",
        "https://api.github.com": receiver,
        "https://hooks.example.com": receiver,
    }.items():
        commands = commands.replace(placeholder, value)
    assert "…" not in commands, "a placeholder that the test does not know"
    return commands


@pytest.mark.parametrize("page", [name for name in PAGES if name != "README"])
def test_the_commands_of_a_page_do_what_it_says(page: str, installation: tuple[Up, Receiver], tmp_path: Path) -> None:
    running, receiver = installation
    wanted = [*steps("README"), *steps(page)]
    assert len(wanted) > 1
    script = "\n".join(f"{step.commands}\necho '{MARK}'" for step in wanted)
    done = subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", put_in(script, running.url, receiver.url)],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "NO_PROXY": "*"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    printed = done.stdout.split(MARK)
    assert done.returncode == 0, (printed[-1], done.stderr[-3000:])
    for step, said in zip(wanted, printed, strict=False):
        for line in step.shown:
            assert line in said, f"{step.commands}\nprinted\n{said}\n{done.stderr[-1000:]}"


def test_every_page_is_listed() -> None:
    listed = set(re.findall(r"\]\(([a-z-]+)\.md\)", PAGES["README"]))
    assert listed == PAGES.keys() - {"README"}


def test_slack_and_github_get_what_the_pages_promise(installation: tuple[Up, Receiver]) -> None:
    """Runs after the pages: it looks at what they made the installation send."""
    _running, receiver = installation
    bodies = [one.body.decode() for one in receiver.requests]
    if not any("churn" in body for body in bodies):
        pytest.skip("the pages were not run in this process")
    assert any("val_loss 0.28 → 0.9 (+221 %, limit +50 %)" in body for body in bodies)
    assert any('"accuracy":0.9312' in body for body in bodies)
