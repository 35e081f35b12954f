"""The pages against the project: links lead somewhere, named files are there, commands and settings exist."""

from __future__ import annotations

import re
import shlex
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest
from celery.bin.celery import celery
from celery.worker.control import Panel

from dispatcher.cli import main
from shared.settings import ENV_PREFIX, Settings
from tests.faults.__main__ import COLUMNS
from tests.faults.drills import DRILLS
from tests.faults.hosts import CUTS
from worker.process.scoreboard import Scoreboard
from worker.remote_control import register_control

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "examples").glob("*.md"), *ROOT.glob("clients/*/*.md")]
    + [path for folder in (DOCS, ROOT / "deploy") for path in folder.rglob("*.md")]
)
OF_THE_PROJECT = r"(?:clients|deploy|dispatcher|docs|examples|requirements|shared|tests|worker)/[\w./@-]*"
FENCE = re.compile(r"^( *)(```|~~~)(\w*)\n(.*?)^\1\2 *$", re.MULTILINE | re.DOTALL)
# Where a shell would look for a command's name: first, after settings, a folder, `--`, or what joins commands.
COMMAND = re.compile(
    r"(?:^ *|[|;&(] *|/bin/|-- |[A-Z_]+=\S* |exec \S+ )((?:celery -A worker|hookline) [^|;&<>)\n]*)", re.MULTILINE
)
NOT_SETTINGS = {
    "HOOKLINE_NAME",  # a placeholder
    *("HOOKLINE_IMAGE", "HOOKLINE_PUBLISH"),  # the compose file's own
    *(
        "HOOKLINE_ENTITY",
        "HOOKLINE_SOURCE",
        "HOOKLINE_SPOOL",
        "HOOKLINE_CONFIG_KEYS",
        "HOOKLINE_OUTBOX_URL",
    ),  # of the Python client
    *(
        "HOOKLINE_MLFLOW_AUTHOR_HEADER",
        "HOOKLINE_MLFLOW_CLIENT",
        "HOOKLINE_MLFLOW_ENTITIES",
        "HOOKLINE_MLFLOW_MAX_WAITING",
        "HOOKLINE_MLFLOW_METRICS",
        "HOOKLINE_MLFLOW_REGISTRY",
        "HOOKLINE_MLFLOW_RELAY",
        "HOOKLINE_MLFLOW_STAGES",
        "HOOKLINE_MLFLOW",  # how they begin
    ),  # of the plugin of MLflow
}


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


every_page = pytest.mark.parametrize("page", PAGES, ids=named)


@every_page
def test_no_page_has_what_a_merge_left(page: Path) -> None:
    assert re.findall(r"^(?:<{7} .*|={7}|>{7} .*)$", page.read_text(), re.MULTILINE) == []


@cache
def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", page.read_text())


@cache
def blocks(page: Path) -> tuple[str, ...]:
    """A page's fenced blocks of shell commands, each command on one line."""
    found = FENCE.findall(page.read_text())
    return tuple(re.sub(r"\\\n\s*", " ", text) for _, _, kind, text in found if kind in {"", "bash", "sh"})


def inline_code(page: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", prose(page))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as the usual renderers make them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """The files and anchors that a page links to in the project."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if not re.match(r"[a-z]+:", target):
            path, _, anchor = target.partition("#")
            yield (page.parent / path).resolve() if path else page, anchor


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    for path, anchor in links(page):
        assert path.exists(), f"{path} does not exist"
        if anchor:
            assert anchor in anchors(path), f"{named(path)} has no heading for #{anchor}"


def test_every_page_is_reached_from_the_overview() -> None:
    reached: set[Path] = set()
    waiting = [DOCS / "README.md"]
    while waiting:
        page = waiting.pop()
        if page not in reached and page.suffix == ".md":
            reached.add(page)
            waiting += [path for path, _ in links(page)]
    assert [named(page) for page in PAGES if page not in reached] == []


@every_page
def test_files_that_are_named_exist(page: Path) -> None:
    tests = {path.name for path in (ROOT / "tests").rglob("*.py")}
    for code in inline_code(page):
        if re.fullmatch(OF_THE_PROJECT, code):
            assert (ROOT / code).exists(), code
        if re.fullmatch(r"test_\w+\.py", code):
            assert code in tests, code


def test_files_that_deploy_names_exist() -> None:
    no_text = {".png", ".json", ".pyc"}
    files = [path for path in (ROOT / "deploy").rglob("*") if path.is_file() and path.suffix not in no_text]
    for path in files:
        for word in re.findall(r"(?<![\w./-])/?(?:opt/hookline/)?((?:docs|deploy)/[\w./@-]*\w)", path.read_text()):
            assert (ROOT / word).exists(), f"{named(path)} names {word}"


@every_page
def test_settings_and_metrics_exist(page: Path) -> None:
    text = page.read_text()
    settings = {f"{ENV_PREFIX}{name.upper()}" for name in Settings.model_fields} | NOT_SETTINGS
    assert set(re.findall(r"\bHOOKLINE_[A-Z0-9_]*[A-Z0-9]", text)) - settings == set()
    known = set(re.findall(r"`(hookline_\w+)`", (DOCS / "metrics.md").read_text()))
    used = re.findall(r"(?:^|[`(\s])(hookline_[a-z_]+)(?=[`{\[)\s]|$)", text, re.MULTILINE)
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in used} - known == set()


BROUGHT_BY_OTHERS = {"celery -A worker flower"}
"""Commands of packages that are not among the requirements."""


@every_page
def test_commands_exist(page: Path) -> None:
    for line in (line for block in blocks(page) for line in block.splitlines()):
        for text in COMMAND.findall(line):
            _check(shlex.split(text, comments=True), whole=True)
    for code in inline_code(page):
        if code in BROUGHT_BY_OTHERS:
            continue
        if code.startswith(("celery -A worker ", "hookline ")) and "ready on" not in code:
            one_of_several = re.sub(r"\b([a-z]+)(?:/[a-z]+)+\b", r"\1", code)
            words = shlex.split(re.sub(r"[][]", " ", one_of_several))
            _check([*words, "FILE"] if words[-1] == "-f" else words, whole=False)


@every_page
def test_make_targets_and_modules_exist(page: Path) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    said = "\n".join([*blocks(page), *inline_code(page)])
    assert set(re.findall(r"^make ([a-z-]+)", said, re.MULTILINE)) <= set(targets)
    for module in re.findall(r"python -m ((?:tests|examples|dispatcher|deploy)(?:\.\w+)*)", said):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module


def test_drills_that_the_page_on_reliability_names_exist() -> None:
    text = (DOCS / "reliability.md").read_text()
    named = {name.partition("…")[0].strip() for name in re.findall(r"(?<!\*)\*([^*\n]+)\*(?!\*)", text)}
    rows = set(re.findall(r"^\| ([^|]+?) \| \d+ \|.* s \|$", text, re.MULTILINE))
    drills = {*DRILLS, *CUTS}
    assert rows and rows <= drills
    assert {name for name in named - set(COLUMNS) if not any(one.startswith(name) for one in drills)} == set()


def test_a_command_that_is_not_there_is_found_out() -> None:
    for wrong in (
        "hookline serve",
        "hookline up --wrokers 2",
        "hookline publish",
        "celery -A worker webhooks halt wh_1",
        "celery -A worker webhooks show",
        "celery -A worker streams lag --max-minutes 3",
        "celery -A worker control stop_webhook wh_1",
        "celery -A worker inspect pause_webhook",
    ):
        with pytest.raises(AssertionError):
            _check(wrong.split(), whole=True)


def _check(words: list[str], *, whole: bool) -> None:
    """AssertionError unless the words are a command with options that it has and, where `whole`, all that it needs."""
    command: click.Command = celery if words[0] == "celery" else main
    context, rest = None, words[1:]
    while True:
        context = click.Context(command, parent=context, info_name=command.name, **command.context_settings)
        try:
            with warnings.catch_warnings():  # one of Celery's has an option twice
                warnings.simplefilter("ignore", UserWarning)
                given, rest, _ = command.make_parser(context).parse_args(rest)
            if not isinstance(command, click.Group):
                break
            if not rest:
                assert command.no_args_is_help or not whole, f"{words}: a command is missing"
                return
            name, found, rest = command.resolve_command(context, rest)
        except click.UsageError as exc:
            raise AssertionError(f"{words}: {exc.format_message()}") from exc
        assert found is not None, f"{words}: no {name}"
        command = found
    missing = [one.name for one in command.params if one.required and not _is_given(given.get(one.name or ""))]
    assert not (whole and missing), f"{words}: {missing}"
    assert not rest or context.allow_extra_args, f"{words}: {rest} is too much"
    if command.name in {"control", "inspect"}:
        register_control(Settings(), Scoreboard())  # as a worker does; its module would change how this process counts
        known = {name for name, info in Panel.meta.items() if info.type == command.name}
        assert given["command"] in known, f"{words}: no remote {given['command']}"


def _is_given(value: object) -> bool:
    return isinstance(value, (str, tuple, list)) and bool(value)


def test_the_tests_that_the_security_page_names_exist() -> None:
    text = (DOCS / "security.md").read_text()
    named_tests = re.findall(r"(tests/[\w/]+\.py)::(\w+)", text)
    assert len(named_tests) > 10
    for path, test in named_tests:
        assert re.search(rf"^(?:async )?def {test}\(", (ROOT / path).read_text(), re.MULTILINE), f"{path}::{test}"
    rows = [line for line in text.splitlines() if line.startswith("| ") and "tests/" in line]
    assert all(" tests/" in row.rsplit("|", 2)[1] for row in rows), "each row says what shows it"
