"""The files by which a program finds out on which Raspberry Pi it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from firmware_sim import SimBoard, imports
from firmware_sim.raspberry_pi import model


@pytest.mark.parametrize(
    ("revision", "name", "compatible", "chip"),
    [  # names as the firmware of these boards gives them
        (0xC03111, "Raspberry Pi 4 Model B Rev 1.1", "raspberrypi,4-model-b", "bcm2711"),
        (0xA020D3, "Raspberry Pi 3 Model B Plus Rev 1.3", "raspberrypi,3-model-b-plus", "bcm2837"),
        (0xC04170, "Raspberry Pi 5 Model B Rev 1.0", "raspberrypi,5-model-b", "bcm2712"),
        (0x9000C1, "Raspberry Pi Zero W Rev 1.1", "raspberrypi,model-zero-w", "bcm2835"),
        (0x902120, "Raspberry Pi Zero 2 W Rev 1.0", "raspberrypi,model-zero-2-w", "bcm2837"),
        (0xA01041, "Raspberry Pi 2 Model B Rev 1.1", "raspberrypi,2-model-b", "bcm2836"),
        (0xC03130, "Raspberry Pi 400 Rev 1.0", "raspberrypi,400", "bcm2711"),
        (0x000E, "Raspberry Pi Model B Rev 1.2", "raspberrypi,model-b", "bcm2835"),
        (0xFFFF, "Raspberry Pi Rev 1.0", "raspberrypi,model-b", "bcm2835"),
    ],
)
def test_a_revision_code_names_a_model(revision: int, name: str, compatible: str, chip: str) -> None:
    found = model(revision)
    assert (found.name, found.compatible, found.chip) == (name, (compatible, f"brcm,{chip}"), chip)


def test_a_program_reads_the_device_tree_and_cpuinfo_of_the_boards_pi() -> None:
    cpus = Path("/proc/cpuinfo").read_text()
    with SimBoard({"revision": "c04170"}) as board, imports.led_to(board):
        assert board.chip.label == "pinctrl-rp1"
        tree = Path("/proc/device-tree")
        assert (tree / "model").read_text() == "Raspberry Pi 5 Model B Rev 1.0\0"
        assert (tree / "compatible").read_bytes() == b"raspberrypi,5-model-b\0brcm,bcm2712\0"
        assert (tree / "system/linux,revision").read_bytes() == b"\0\xc0\x41\x70"
        assert (Path("/sys/firmware/devicetree/base") / "model").exists()
        text = Path("/proc/cpuinfo").read_text()
        assert "Revision\t: c04170\n" in text
        assert text.count("processor\t:") == 4
        with pytest.raises(PermissionError):
            Path("/proc/cpuinfo").write_text("")
    assert Path("/proc/cpuinfo").read_text() == cpus
