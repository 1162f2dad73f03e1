"""A device node that is removed: noticed while the descriptor of its lines keeps silent."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from firmware_sim import SimBoard
from hwloop import HardwareError, gpio
from hwloop import board as boards
from hwloop.boards import removal_watch
from hwloop.boards.removal_watch import RemovalWatch


@pytest.fixture
def node(tmp_path: Path) -> Path:
    path = tmp_path / "gpiochip0"
    path.touch()
    return path


def rings(watch: RemovalWatch) -> bool:
    return bool(select.select([watch.fileno()], [], [], 0)[0])


def test_it_rings_when_the_node_is_removed_also_while_somebody_has_it_open(node: Path) -> None:
    watch = RemovalWatch(str(node))
    with node.open("w") as held:
        assert not rings(watch)
        held.write("what is written to it is none of its business")
        held.flush()
        assert not rings(watch)
        node.unlink()
        assert rings(watch)
    watch.drain()
    assert not rings(watch)
    watch.drain()
    watch.close()
    watch.close()
    assert watch.fileno() == -1


def test_where_there_is_no_node_or_no_inotify_there_is_no_alarm(node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert RemovalWatch("").fileno() == -1
    assert RemovalWatch(str(node.with_name("gone"))).fileno() == -1

    class Refuses:
        def inotify_init1(self, flags: int) -> int:
            return -1

    monkeypatch.setattr(removal_watch, "c_library", lambda *, keep_gil: Refuses())
    watch = RemovalWatch(str(node))
    assert watch.fileno() == -1
    watch.drain()
    watch.close()


def test_a_watch_fails_when_its_chip_is_gone_and_not_at_a_false_alarm(node: Path, run: Callable[..., Any]) -> None:
    async def main() -> None:
        async with asyncio.timeout(5):
            async with gpio.watch(12) as watch:
                node.chmod(0o600)  # which rings too
                await asyncio.sleep(0.01)
                board.chip.line(12).drive(1)
                assert (await anext(aiter(watch))).value == 1
                board.lgpio.gpiochip_close(chip.handle)
                node.unlink()
                with pytest.raises(
                    HardwareError, match=r"line 12: .* is gone: its driver was unbound, or it was unplug"
                ):
                    await anext(aiter(watch))
            assert watch.closed

    with SimBoard() as board, boards.using(board):
        chip: Any = board._lines.open(None).chip
        chip.node = str(node)
        run(main())
