"""One target, fuzzed in this process for a time: `python -m tests.fuzz.session NAME --seconds N --folder F`.

Under atheris, inputs that reach new code are kept and changed further; where atheris is not installed, hypothesis makes
inputs from random bytes. `python -m tests.fuzz` starts a process like this for each target. Exits 0 when nothing was
found; what was found is in `F/crashes`.
"""

from __future__ import annotations

import argparse
import faulthandler
import hashlib
import random
import sys
import time
import traceback
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings

from tests.fuzz import targets
from tests.fuzz.mutation import mutated
from tests.fuzz.target import Target

INSTRUMENTED = ["shared", "dispatcher", "worker", "yaml", "graphql", "email", "httpx"]
MAX_INPUT_BYTES = 1 << 14
HANG_SECONDS = 60
MEMORY_MEBIBYTES = 2048
ENTROPY_BYTES = 1 << 12
FOUND = 77
"""The exit status for a finding, which is also libFuzzer's."""


def main() -> int:
    """Fuzz one target."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.session", description=__doc__)
    parser.add_argument("name", choices=targets.NAMES)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--folder", type=Path, required=True, help="where the corpus and what is found are kept")
    parser.add_argument("--seed", type=int, default=0, help="0: another one each time")
    options = parser.parse_args()
    faulthandler.enable()
    seed = options.seed or random.SystemRandom().randint(1, 2**31 - 1)
    (options.folder / "corpus").mkdir(parents=True, exist_ok=True)
    (options.folder / "crashes").mkdir(exist_ok=True)
    run = _guided if has_atheris() else _random
    return run(options.name, options.folder, options.seconds, seed)


def has_atheris() -> bool:
    """Whether coverage can guide."""
    return find_spec("atheris") is not None


def _guided(name: str, folder: Path, seconds: int, seed: int) -> int:
    """libFuzzer's loop; it ends the process itself."""
    atheris: Any = __import__("atheris")
    with atheris.instrument_imports(include=INSTRUMENTED):
        target = targets.load(name)
    fresh, rng = _fresh_inputs(target), random.Random(seed)

    def mutate(data: bytes, max_size: int, step: int) -> bytes:
        """Mostly a change to the value; now and then one to the bytes, or something new."""
        rng.seed(step)
        kind = rng.random()
        if kind < 0.02:
            changed = fresh(rng)
        elif kind < 0.75 and target.is_json:
            changed = mutated(data, target.words, rng)
        else:
            changed = atheris.Mutate(data, min(max_size, len(data) + 64))
        return bytes(changed[:max_size]) or b"0"

    arguments = [
        sys.argv[0],
        f"-max_total_time={seconds}",
        f"-max_len={MAX_INPUT_BYTES}",
        f"-timeout={HANG_SECONDS}",
        f"-rss_limit_mb={MEMORY_MEBIBYTES}",
        f"-artifact_prefix={folder / 'crashes'}/",
        f"-dict={_dictionary(target, folder)}",
        f"-seed={seed}",
        "-print_final_stats=1",
        "-verbosity=1",
        str(folder / "corpus"),
        str(targets.CORPUS / name),
    ]
    atheris.Setup(arguments, target.check, custom_mutator=mutate)
    atheris.Fuzz()
    return 0


def _dictionary(target: Target, folder: Path) -> Path:
    """The target's words in libFuzzer's form, for changes to bytes."""
    path = folder / "words.dict"
    lines = ("".join(f"\\x{byte:02x}" for byte in word.encode()) for word in target.words if word)
    path.write_text("".join(f'"{line}"\n' for line in lines))
    return path


def _fresh_inputs(target: Target) -> Callable[[random.Random], bytes]:
    """Draws inputs that hypothesis makes."""
    drawn: list[bytes] = [b""]

    @settings(database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(target.inputs)
    def draw(data: bytes) -> None:
        drawn[0] = data

    def fresh(rng: random.Random) -> bytes:
        draw.hypothesis.fuzz_one_input(rng.randbytes(ENTROPY_BYTES))  # type: ignore[attr-defined]
        return drawn[0]

    return fresh


def _random(name: str, folder: Path, seconds: int, seed: int) -> int:
    """Without coverage: the seeds, then what hypothesis makes of random bytes, and changes to that."""
    target = targets.load(name)
    fresh, rng = _fresh_inputs(target), random.Random(seed)
    inputs = [path.read_bytes() for path in targets.seeds(name)]
    deadline, tried = time.monotonic() + seconds, 0
    while tried < len(inputs) or time.monotonic() < deadline:
        data = inputs[tried] if tried < len(inputs) else _next(target, fresh, inputs, rng)
        tried += 1
        try:
            target.check(data)
        except Exception:
            traceback.print_exc()
            path = folder / "crashes" / f"crash-{hashlib.sha1(data, usedforsecurity=False).hexdigest()}"
            path.write_bytes(data)
            return FOUND
    print(f"stat::number_of_executed_units: {tried}", file=sys.stderr)
    return 0


def _next(target: Target, fresh: Callable[[random.Random], bytes], inputs: list[bytes], rng: random.Random) -> bytes:
    kind = rng.random()
    if kind < 0.5 or not inputs:
        return fresh(rng)
    data = rng.choice(inputs)
    if target.is_json and kind < 0.9:
        return mutated(data, target.words, rng)
    at = rng.randint(0, len(data))
    return data[:at] + rng.choice(target.words or ("",)).encode() + data[at + rng.randint(0, 3) :]


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.exit(status)
