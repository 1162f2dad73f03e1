"""I2C, SPI and serial ports: whether they are there, enabled in config.txt, free, and usable."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Iterator, Sequence

from hwloop.doctor.access import examine_access
from hwloop.doctor.boot_config import BootConfig
from hwloop.doctor.finding import Finding
from hwloop.doctor.machine import Machine
from hwloop.serial_ports import PortInfo, list_ports
from hwloop.sources.serial.finding import PortMatch

_PORTS = ("/dev/ttyAMA[0-9]*", "/dev/ttyS[0-9]*", "/dev/ttyUSB[0-9]*", "/dev/ttyACM[0-9]*")


def examine(machine: Machine, *, is_pi: bool, has_rp1: bool) -> Iterator[Finding]:
    """Yield the findings about I2C, SPI and serial ports. With `has_rp1` the header is on the RP1 chip."""
    config = BootConfig(machine)
    yield from _examine_bus(
        machine, "i2c", machine.find("/dev/i2c-[0-9]*"), is_pi=is_pi,
        enabled=config.is_on("dtparam=i2c_arm", "dtparam=i2c", "dtparam=i2c1"),
        how=f"sudo raspi-config nonint do_i2c 0, or write dtparam=i2c_arm=on into {_config(config)} and restart",
        module="i2c-dev", package="smbus2",
    )  # fmt: skip
    yield from _examine_bus(
        machine, "spi", machine.find("/dev/spidev[0-9]*"), is_pi=is_pi,
        enabled=config.is_on("dtparam=spi"),
        how=f"sudo raspi-config nonint do_spi 0, or write dtparam=spi=on into {_config(config)} and restart",
        module="spi-bcm2835 and spidev", package="spidev",
    )  # fmt: skip
    yield from _examine_serial(machine, config, is_pi=is_pi, has_rp1=has_rp1)


def _config(config: BootConfig) -> str:
    return config.path or "/boot/firmware/config.txt"


def _examine_bus(
    machine: Machine,
    topic: str,
    nodes: Sequence[str],
    *,
    is_pi: bool,
    enabled: bool,
    how: str,
    module: str,
    package: str,
) -> Iterator[Finding]:
    if nodes:
        yield Finding(topic, "ok", f"there are {', '.join(nodes)}")
        yield from examine_access(machine, topic, nodes)
        if not machine.version(package):
            yield Finding(topic, "note", f"the package {package} is not installed", f"pip install {package}")
    elif enabled:
        yield Finding(
            topic, "problem", f"{topic.upper()} is enabled in config.txt, but there is no device node",
            f"sudo reboot if it was enabled just now; else load its driver: sudo modprobe {module.split(' ')[-1]}",
        )  # fmt: skip
    elif is_pi:
        yield Finding(topic, "note", f"{topic.upper()} is not enabled", how)


def _examine_serial(machine: Machine, config: BootConfig, *, is_pi: bool, has_rp1: bool) -> Iterator[Finding]:
    # /dev/ttyS* of a PC exist without hardware behind them; root owns them, and the doctor should not mention them.
    patterns = _PORTS if is_pi else _PORTS[2:]
    ports = [port for pattern in patterns for port in machine.find(pattern)]
    linked = machine.link("/dev/serial0")
    # With RP1, serial0 is the connector between the HDMI sockets, unless `uart0_console` moves it.
    header = linked if not has_rp1 else "ttyAMA0" if "/dev/ttyAMA0" in ports else ""
    setting = "dtparam=uart0=on" if has_rp1 else "enable_uart=1"
    if ports:
        named = [_named(port, linked, header) for port in ports]
        yield Finding("serial", "ok", f"there are {', '.join(named)}")
        yield from examine_access(machine, "serial", ports)
    yield from _examine_adapters(machine)
    if is_pi and not header:
        yield Finding(
            "serial", "note", "the header's serial port is not enabled",
            f"sudo raspi-config nonint do_serial_hw 0, or write {setting} into {_config(config)} and restart",
        )  # fmt: skip
    if is_pi and header == "ttyS0":
        yield Finding(
            "serial", "note",
            "serial0 is the mini UART, which has no parity, and whose bit rate follows the clock of the processor",
            f"write dtoverlay=disable-bt into {_config(config)} for the full UART, if Bluetooth is not needed",
        )  # fmt: skip
    consoles = {"ttyAMA0", *(["serial0"] if linked == header else []), *([] if has_rp1 else ["serial0", "ttyS0"])}
    console = _console(config.command_line, consoles)
    if is_pi and console:
        yield Finding(
            "serial", "warning",
            f"the kernel's console is on {console}: a device there receives its messages, and a login prompt answers",
            f"sudo raspi-config nonint do_serial_cons 1, or remove console={console} from {config.command_line_path}",
        )  # fmt: skip


def _named(port: str, linked: str, header: str) -> str:
    """Return a port with what else it is: serial0, the header's, both or neither."""
    name = os.path.basename(port)
    also = [*(["serial0"] if name == linked else []), *(["on the header"] if name == header else [])]
    return f"{port} ({', '.join(also)})" if also else port


def _examine_adapters(machine: Machine) -> Iterator[Finding]:
    """Yield the adapters on USB, with names that don't depend on the order in which they were plugged in."""
    found = [port for port in list_ports(machine.path("/sys"), machine.path("/dev")) if port.vendor is not None]
    for port in found:
        path = f"/dev/{os.path.basename(port.path)}"
        alike = [other for other in found if (other.vendor, other.product) == (port.vendor, port.product)]
        match = PortMatch(port.vendor, port.product)
        for name in ("serial_number", "interface", "location"):
            if len(alike) > 1 and _tells_apart(alike, name):
                match = dataclasses.replace(match, **{name: getattr(port, name)})
                break
        shown = f"{path} is {port.description or 'an adapter'} ({port.serial_number or 'no serial number'})"
        yield Finding("serial", "ok", f"{shown}; under any name it is {match}")


def _tells_apart(ports: Sequence[PortInfo], name: str) -> bool:
    values = {getattr(port, name) for port in ports}
    return len(values) == len(ports) and None not in values


def _console(command_line: str, names: Collection[str]) -> str:
    """Return the "serial0,115200" of a command line, if the console is on a port with one of these names."""
    for word in command_line.split():
        name, _, value = word.partition("=")
        if name == "console" and value.partition(",")[0] in names:
            return value
    return ""
