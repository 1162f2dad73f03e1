"""`hwloop service status` and `list`: the state of services, for people and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from hwloop.cli import Failure, say
from hwloop.deployment.installation import Services
from hwloop.deployment.quoting import unit_name
from hwloop.deployment.starting import describe_end
from hwloop.deployment.systemctl import State

_SHOWN = 8
"""The last lines of the log of a service that does not run."""


def list_services(services: Services, *, as_json: bool) -> int:
    """Print a line for each service."""
    found = [_facts(services, name) for name in services.names()]
    if as_json:
        say(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
        return 0
    if not found:
        say("no services; to install one: sudo hwloop service install PROGRAM\n")
        return 0
    rows: list[tuple[str, ...]] = [("NAME", "STATE", "PROGRAM", "RELEASE", "PYTHON", "HWLOOP")]
    keys = ("name", "active", "program", "number", "python", "hwloop")
    rows += [tuple(_word(each[key]) for key in keys) for each in found]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        say("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() + "\n")
    return 0


def show_status(services: Services, names: Sequence[str], *, as_json: bool) -> int:
    """Print the state of some services, by default of all, and return 1 if one of them does not run."""
    known = services.names()
    for name in names:
        if name not in known:
            raise Failure(f"there is no service {name}; installed are: {', '.join(known) or 'none'}")
    chosen = list(names) or known
    if as_json:
        say(json.dumps([_facts(services, name) for name in chosen], indent=2, ensure_ascii=False) + "\n")
    elif not chosen:
        say("no services; to install one: sudo hwloop service install PROGRAM\n")
    down = 0
    for name in chosen:
        state = services.state(name)
        down += state.active not in ("active", "reloading", "unknown")
        if not as_json:
            _show(services, name, state)
    return int(down > 0)


def _word(value: object) -> str:
    return "installed" if value == "unknown" else str(value)  # where no systemd runs


def _facts(services: Services, name: str) -> dict[str, Any]:
    release, state = services.current(name), services.state(name)
    facts = {"name": name, "unit": unit_name(name), **state._asdict()}
    return facts | (asdict(release) if release is not None else {})


def _show(services: Services, name: str, state: State) -> None:
    release = services.current(name)
    assert release is not None, "the services that are listed are installed"
    since = f" since {state.since}" if state.since and state.active == "active" else ""
    notes = [f"{state.memory / 2**20:.1f} MB"] if state.memory else []
    if state.restarts:
        notes.append(f"restarted {state.restarts} time{'s' if state.restarts > 1 else ''} by systemd")
    shown = f" ({', '.join(notes)})" if notes else ""
    say(f"{name}: {_word(state.active)}{since}{shown}\n")
    if state.text:
        say(f"    {state.text}\n")
    say(
        f"    {release.program}, release {release.number} of {release.installed}, Python {release.python}, "
        f"hwloop {release.hwloop}\n"
    )
    if services.python_is_gone(name):
        say("    its Python has been removed from this system; install the program again\n")
    if state.active in ("active", "reloading", "unknown", "inactive"):
        return
    say(f"    it {describe_end(state)}; its last lines:\n")
    for line in services.log(name, _SHOWN):
        say(f"        {line}\n")
    say(f"    all of them: hwloop service logs {name}; to start it again: sudo hwloop service restart {name}\n")
