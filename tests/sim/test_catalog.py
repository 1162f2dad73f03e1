"""The catalog of parts: every type is described completely, and its snippet makes a board."""

from __future__ import annotations

import ast
import dataclasses
import tomllib
from pathlib import Path

import pytest

from firmware_sim import SimBoard
from firmware_sim.catalog import describe, names, part_type
from firmware_sim.device import Connections, Device
from firmware_sim.errors import WiringError
from firmware_sim.limits import within
from firmware_sim.wiring import DEVICES


@dataclasses.dataclass
class Heater(Device):
    """A heater behind a relay.

    It gets warm.

    Parameters:
        line: the line of
            its relay.
        watts: its power.
    """

    line: int
    watts: float = within(0, 3000, "watts", default=500.0)
    lines: list[int] = dataclasses.field(default_factory=lambda: [1, 2])
    warm: bool = dataclasses.field(default=False, init=False)

    wiring = "IN to the line"
    example = """
        gpio.output(17)
        """

    def attach(self, board: Connections) -> None:
        pass


def test_a_part_is_described_by_its_class() -> None:
    heater = describe("heater", Heater)
    assert (heater.family, heater.summary) == ("lines", "A heater behind a relay.")
    line, watts, lines = heater.keys
    assert line == ("line", "a whole number", dataclasses.MISSING, "", "the line of its relay.")
    assert line.required
    assert watts == ("watts", "a number", 500.0, "watts", "its power.")
    assert not watts.required
    assert lines.default == [1, 2]
    assert (heater.wiring, heater.example) == ("IN to the line", "gpio.output(17)")
    assert heater.snippet == '[[device]]\ntype = "heater"\nline = 17'


def test_a_part_without_words_is_described_all_the_same() -> None:
    @dataclasses.dataclass
    class Bare(Device):
        def attach(self, board: Connections) -> None:
            pass

    bare = describe("bare", Bare)
    assert (bare.family, bare.summary, bare.keys, bare.wiring) == ("other", "", (), "")


def test_the_types_are_listed_by_name() -> None:
    assert list(DEVICES) == sorted(DEVICES)
    assert names().items() >= DEVICES.items()


@pytest.mark.parametrize("name", DEVICES)
def test_every_part_says_how_it_is_wired_and_used(name: str) -> None:
    part = part_type(name)
    assert part.summary.endswith(".")
    assert part.wiring
    assert "\n" not in part.wiring
    assert 1 <= len(part.example.splitlines()) <= 3
    compile(part.example, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    assert part.keys
    unexplained = [key.name for key in part.keys if not key.meaning]
    assert not unexplained


@pytest.mark.parametrize("name", DEVICES)
def test_every_snippet_makes_a_board(name: str) -> None:
    with SimBoard(tomllib.loads(part_type(name).snippet)) as board:
        assert board.devices


def test_a_class_that_can_not_be_described_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "odd_parts.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom firmware_sim import Device\n"
        "@dataclass\nclass Odd(Device):\n    line: Nowhere\n    def attach(self, board): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(WiringError, match="parts: odd_parts:Odd can't be described: NameError: name 'Nowhere'"):
        part_type("odd_parts:Odd")
