"""The spool: what it keeps, whom a file belongs to, and what a full disk and half a line do to it."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hookline.spool import SpoolFile, SpoolFull, left_behind

LARGE = 1 << 30


def line(number: int) -> bytes:
    return b'{"n":%d}' % number


def read(file: SpoolFile, count: int = 1000) -> tuple[list[bytes], int]:
    return file.unsent(max_events=count, max_bytes=LARGE)


def test_what_was_appended_is_read_in_order_until_it_is_sent(tmp_path: Path) -> None:
    file = SpoolFile.create(tmp_path)
    for number in range(5):
        file.append(line(number), max_bytes=LARGE)
    events, offset = read(file, 3)
    assert events == [line(0), line(1), line(2)]
    assert read(file, 3) == (events, offset), "not sent yet"
    file.note_sent(offset)
    events, offset = read(file)
    assert events == [line(3), line(4)]
    file.note_sent(offset)
    assert file.unsent_bytes == 0 and read(file)[0] == []
    file.append(line(9), max_bytes=LARGE)
    assert read(file)[0] == [line(9)]
    file.close()


def test_a_file_is_bounded_by_what_is_not_sent_yet_and_does_not_grow_for_ever(tmp_path: Path) -> None:
    file = SpoolFile.create(tmp_path)
    for number in range(1000):
        file.append(line(number), max_bytes=200)
        file.note_sent(read(file)[1])
    assert file.path.stat().st_size < 1000
    file.append(b"{" + b"x" * 150 + b"}", max_bytes=200)
    with pytest.raises(SpoolFull):
        file.append(b"{" + b"x" * 150 + b"}", max_bytes=200)
    assert len(read(file)[0]) == 1
    file.close()


def test_a_closed_file_stays_only_if_something_is_unsent(tmp_path: Path) -> None:
    done, kept = SpoolFile.create(tmp_path), SpoolFile.create(tmp_path)
    kept.append(line(1), max_bytes=LARGE)
    done.close()
    kept.close()
    assert [path.name for path in tmp_path.iterdir()] == [kept.path.name]


def test_a_file_has_one_owner(tmp_path: Path) -> None:
    file = SpoolFile.create(tmp_path)
    file.append(line(1), max_bytes=LARGE)
    assert SpoolFile.adopt(file.path) is None
    assert list(left_behind(tmp_path)) == []
    file.close()
    (found,) = left_behind(tmp_path)
    assert read(found)[0] == [line(1)]
    assert list(left_behind(tmp_path)) == []
    found.note_sent(read(found)[1])
    found.close()
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_leaves_all_that_it_appended_and_how_far_it_sent(tmp_path: Path) -> None:
    program = (
        "import os, pathlib, signal, sys\n"
        "from hookline.spool import SpoolFile\n"
        "file = SpoolFile.create(pathlib.Path(sys.argv[1]))\n"
        "for number in range(100): file.append(b'{\"n\":%d}' % number, max_bytes=10**9)\n"
        "file.note_sent(file.unsent(max_events=40, max_bytes=10**9)[1])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    (found,) = left_behind(tmp_path)
    assert read(found)[0] == [line(number) for number in range(40, 100)]
    found.forget()


def test_half_a_line_and_garbage_are_left_out(tmp_path: Path) -> None:
    """As a machine may leave them that lost its power."""
    file = SpoolFile.create(tmp_path)
    file.append(line(1), max_bytes=LARGE)
    file.close()
    with file.path.open("ab") as spoiled:
        spoiled.write(b"\x00" * 50 + b"\n" + line(2) + b"\n" + b'{"n":3')
    (found,) = left_behind(tmp_path)
    events, offset = read(found)
    assert events == [line(1), line(2)]
    found.note_sent(offset)
    assert found.unsent_bytes == 0
    found.close()


@pytest.mark.parametrize(
    "head", [b"", b"hookline", b"hookline-spool 1 x\n", b"hookline-spool 1 99999999999999999999\n", b"\x00" * 99]
)
def test_a_file_with_a_broken_head_is_taken_from_its_start_or_left_alone(tmp_path: Path, head: bytes) -> None:
    path = tmp_path / "0-1-x.events"
    path.write_bytes(head)
    for found in left_behind(tmp_path):
        assert read(found)[0] == []
        found.forget()


def test_a_full_disk_takes_no_half_of_an_event(tmp_path: Path) -> None:
    """A limit on the size of files fails in the middle of a write, as a full disk does."""
    file = SpoolFile.create(tmp_path)
    file.append(line(1), max_bytes=LARGE)
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.end + 50, former[1]))
    try:
        with pytest.raises(SpoolFull):
            file.append(b"{" + b"x" * 500 + b"}", max_bytes=LARGE)
        file.append(line(2), max_bytes=LARGE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
        signal.signal(signal.SIGXFSZ, handler)
    assert read(file)[0] == [line(1), line(2)]
    assert os.path.getsize(file.path) == file.end  # noqa: PTH202
    file.close()
