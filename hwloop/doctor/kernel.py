"""The kernel and the processor: real time, clock frequency, power supply, temperature."""

from __future__ import annotations

import platform
import re
import resource
from collections.abc import Iterator

from hwloop.doctor.finding import Finding
from hwloop.doctor.machine import Machine

_HOT = 80.0
"""°C from which a Raspberry Pi lowers its clock frequency."""

_THROTTLED = {
    0: "the supply voltage is too low now",
    1: "the clock frequency is capped now",
    2: "the processor is throttled now",
    3: "the temperature limit is reached now",
    16: "the supply voltage was too low since the start",
    17: "the clock frequency was capped since the start",
    18: "the processor was throttled since the start",
    19: "the temperature limit was reached since the start",
}
"""The bits of `vcgencmd get_throttled` (Raspberry Pi documentation, "vcgencmd")."""


def examine(machine: Machine) -> Iterator[Finding]:
    """Yield the findings about the kernel and the processor."""
    yield from _examine_kernel(machine)
    yield from _examine_limits(machine)
    yield from _examine_processor(machine)


def _examine_kernel(machine: Machine) -> Iterator[Finding]:
    release = platform.release() if machine.running else "unknown"
    realtime = machine.text("/sys/kernel/realtime") == "1"
    kind = "PREEMPT_RT" if realtime else "not PREEMPT_RT"
    config = machine.text(f"/boot/config-{release}")
    ticks = re.search(r"^CONFIG_HZ=(\d+)$", config, re.MULTILINE)
    yield Finding("kernel", "ok", f"Linux {release}, {kind}" + (f", {ticks[1]} Hz" if ticks else ""))
    source = machine.text("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    if source in ("jiffies", "refined-jiffies", "hpet", "acpi_pm"):
        yield Finding(
            "kernel", "warning", f"the clock source is {source}: reading the time is slow or coarse",
            "see dmesg | grep -i clocksource; on virtual machines enable the host's paravirtual clock",
        )  # fmt: skip
    slack = machine.text("/proc/self/timerslack_ns") if machine.running else ""
    if slack.isdigit() and int(slack) > 50_000:
        yield Finding(
            "kernel", "note", f"the timer slack is {int(slack) / 1e3:.0f} µs; hwloop's own timers do not have it",
            "nothing to do for hwloop; time.sleep() in threads may wake late",
        )  # fmt: skip


def _examine_limits(machine: Machine) -> Iterator[Finding]:
    if not machine.running or machine.user.number == 0:
        return
    priority, memory = machine.limit(resource.RLIMIT_RTPRIO), machine.limit(resource.RLIMIT_MEMLOCK)
    if priority >= 1:
        locked = "all of its memory" if memory >= 1 << 40 else f"{memory // 1024} KiB"
        yield Finding("real time", "ok", f"a program may use priorities up to {min(priority, 99)}, and lock {locked}")
    else:
        yield Finding(
            "real time", "note", "a program of this session may not use real-time scheduling (RLIMIT_RTPRIO is 0)",
            "only for realtime=: in a unit LimitRTPRIO=50 and LimitMEMLOCK=infinity; for a login "
            f"echo '{machine.user.name} - rtprio 50' | sudo tee /etc/security/limits.d/hwloop.conf",
        )  # fmt: skip


def _examine_processor(machine: Machine) -> Iterator[Finding]:
    governor = machine.text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if governor and governor != "performance":
        yield Finding(
            "processor", "note", f"the frequency governor is {governor}: a wakeup after a pause starts at a low clock",
            "for the least latency: echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
        )  # fmt: skip
    bits = re.fullmatch(r"throttled=(0x[0-9a-fA-F]+)", machine.output("vcgencmd", "get_throttled") or "")
    flags = int(bits[1], 16) if bits else 0
    for bit, meaning in _THROTTLED.items():
        if flags >> bit & 1:
            remedy = (
                "use the official power supply and a short, thick cable" if bit in (0, 16) else "improve the cooling"
            )
            yield Finding("processor", "problem" if bit in (0, 2) else "warning", meaning, remedy)
    for path in machine.find("/sys/class/hwmon/hwmon[0-9]*/in0_lcrit_alarm"):
        if machine.text(path) == "1" and not flags:
            yield Finding(
                "processor",
                "problem",
                "the supply voltage is too low",
                "use the official power supply and a short cable",
            )
    temperature = machine.text("/sys/class/thermal/thermal_zone0/temp")
    if temperature.isdigit():
        celsius = int(temperature) / 1000
        if celsius >= _HOT:
            yield Finding(
                "processor", "warning", f"{celsius:.0f} °C: the clock is lowered from {_HOT:.0f} °C on", "cool it"
            )
        else:
            yield Finding("processor", "ok", f"{celsius:.0f} °C")
