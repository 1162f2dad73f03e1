"""Install programs as services: each with an environment, a unit, a configuration and a state of its own.

    sudo hwloop service install door.py                  and again after each change
    hwloop service status
    hwloop service logs door --follow
    sudo hwloop service uninstall door

`hwloop service COMMAND --help` describes a command. A new version that does not become ready is replaced by the one
before it, and the status is 1.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from hwloop.cli import Failure, UsageError, say
from hwloop.cli.service_install import add_install_arguments, install
from hwloop.cli.service_report import list_services, show_status
from hwloop.cli.unit import directory
from hwloop.deployment.accounts import SystemAccounts
from hwloop.deployment.commands import CommandError
from hwloop.deployment.environment import EnvironmentBuilder
from hwloop.deployment.files import UnsafePathError
from hwloop.deployment.installation import InstallationError, Services
from hwloop.deployment.interpreter import InterpreterError
from hwloop.deployment.layout import Layout
from hwloop.deployment.own_wheel import OwnWheelError
from hwloop.deployment.quoting import check_name
from hwloop.deployment.script import ProgramError
from hwloop.deployment.systemctl import LiveSystemctl, OfflineSystemctl, Systemctl, SystemctlError

ACTIONS = {
    "install": "install a program as a service, or a new version of it, and start it",
    "status": "show the state of services, and the log of those that have failed",
    "logs": "print the log of a service",
    "restart": "start a service anew, and wait until it is ready",
    "rollback": "go back to the version before the current one",
    "uninstall": "stop a service and remove all of it",
    "list": "list the services",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "hwloop service COMMAND ..."
    parser.set_defaults(rest=[])
    actions = parser.add_subparsers(dest="action", required=True, metavar="COMMAND", title="commands")
    made = {name: actions.add_parser(name, help=text, description=text) for name, text in ACTIONS.items()}
    add_install_arguments(made["install"])
    for name in ("status", "logs", "restart", "rollback", "uninstall"):
        how = "*" if name == "status" else None
        made[name].add_argument("name", metavar="NAME", nargs=how, help="the name of the service")
    for name in ("status", "list"):
        made[name].add_argument(
            "--json", action="store_true", help="print a JSON array with an object for each service"
        )
    made["logs"].add_argument("--follow", action="store_true", help="go on with new lines until interrupted")
    made["logs"].add_argument("--lines", type=_count, default=50, metavar="N", help="print the last N lines (50)")
    made["uninstall"].add_argument(
        "--keep-data", action="store_true", help="leave the configuration and the state of the program"
    )
    for name, each in made.items():
        each.set_defaults(rest=[])
        each.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="tracebacks of all errors")
        if name not in ("logs", "restart"):
            each.add_argument(
                "--root", metavar="DIR", type=directory, default=Path("/"), help="the root directory of an image (/)"
            )


def execute(arguments: argparse.Namespace) -> int:
    try:
        return _FUNCTIONS[arguments.action](arguments)
    except (ProgramError, ValueError) as error:
        raise UsageError(str(error)) from error
    except (
        InstallationError, CommandError, UnsafePathError, InterpreterError, OwnWheelError, SystemctlError
    ) as error:  # fmt: skip
        raise Failure(str(error)) from error
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise Failure(f"{where}{(error.strerror or str(error)).lower()}") from error


def services_of(arguments: argparse.Namespace) -> Services:
    """Return the services of this machine, or those of an image."""
    layout = Layout(getattr(arguments, "root", Path("/")))
    systemctl: Systemctl = OfflineSystemctl(layout)
    if not layout.is_image and os.path.isdir("/run/systemd/system"):
        systemctl = LiveSystemctl()
    return Services(layout, systemctl, SystemAccounts(layout), EnvironmentBuilder(layout), _report)


def _report(text: str) -> None:
    say(f"{text}\n")


def _need_root(arguments: argparse.Namespace) -> None:
    if os.geteuid() != 0 and getattr(arguments, "root", Path("/")) == Path("/"):
        raise Failure(
            f"'{arguments.action}' changes the services of this machine, which needs root: use sudo "
            f"(sudo {sys.argv[0]} service {arguments.action} …)"
        )


def _install(arguments: argparse.Namespace) -> int:
    _need_root(arguments)
    return install(services_of(arguments), arguments)


def _status(arguments: argparse.Namespace) -> int:
    return show_status(services_of(arguments), arguments.name, as_json=arguments.json)


def _list(arguments: argparse.Namespace) -> int:
    return list_services(services_of(arguments), as_json=arguments.json)


def _logs(arguments: argparse.Namespace) -> int:
    return services_of(arguments).show_log(arguments.name, arguments.lines, follow=arguments.follow)


def _restart(arguments: argparse.Namespace) -> int:
    _need_root(arguments)
    services_of(arguments).restart(arguments.name)
    return 0


def _roll_back(arguments: argparse.Namespace) -> int:
    _need_root(arguments)
    services_of(arguments).roll_back(arguments.name)
    return 0


def _uninstall(arguments: argparse.Namespace) -> int:
    _need_root(arguments)
    check_name(arguments.name)
    removed = services_of(arguments).uninstall(arguments.name, keep_data=arguments.keep_data)
    say("".join(f"removed {path}\n" for path in removed))
    return 0


_FUNCTIONS: dict[str, Callable[[argparse.Namespace], int]] = {
    "install": _install,
    "status": _status,
    "logs": _logs,
    "restart": _restart,
    "rollback": _roll_back,
    "uninstall": _uninstall,
    "list": _list,
}


def _count(text: str) -> int:
    """Convert an argument for argparse."""
    if not text.isascii() or not text.isdecimal():
        raise argparse.ArgumentTypeError(f"a number of lines is a whole number, not {text!r}")
    return int(text)
