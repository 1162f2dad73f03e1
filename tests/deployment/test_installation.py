"""Installing, upgrading, going back and removing services, step by step, on a machine below a test's directory."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest
from machine import FAILED, UP, Machine

from hwloop.deployment.commands import CommandError
from hwloop.deployment.files import UnsafePathError
from hwloop.deployment.installation import InstallationError
from hwloop.deployment.systemctl import State


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    root = tmp_path / "machine"
    root.mkdir()
    return Machine(root)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "door.py"
    path.write_text("async def main(): pass\n")
    return path


def change(program: Path) -> None:
    program.write_text(program.read_text() + "# changed\n")


def state(machine: Machine) -> dict[str, tuple[int, ...]]:
    """Return what changes if a file is written or replaced. Reading it changes the time of access."""
    found = ((path, (machine.root / path).lstat()) for path in machine.files())
    return {path: (each.st_ino, each.st_mode, each.st_uid, each.st_gid, each.st_ctime_ns) for path, each in found}


def test_a_service_has_an_environment_a_release_a_unit_and_a_configuration(machine: Machine, program: Path) -> None:
    assert machine.services.install(machine.order(program))
    places = machine.layout.service("door")
    release = machine.services.current("door")
    assert release is not None
    assert release.ready
    assert (places.release(1) / "program/door.py").read_text() == program.read_text()
    assert places.current.readlink() == Path("release-1")
    home = "/opt/hwloop/services/door"
    command = f"{home}/environment-{release.environment}/bin/hwloop run {home}/release-1/program/door.py"
    assert f"ExecStart={command}\n" in machine.unit()
    assert (places.configuration / "environment").stat().st_mode & 0o777 == 0o600
    assert machine.systemctl.calls == ["reload", "enable hwloop-door.service", "restart hwloop-door.service"]
    assert machine.accounts.present == ["group gpio", "user hwloop"]
    assert machine.said[-1].startswith("door: ready after ")


def test_a_second_installation_of_the_same_changes_nothing(machine: Machine, program: Path) -> None:
    machine.services.install(machine.order(program))
    before = state(machine)
    calls = list(machine.systemctl.calls)
    assert not machine.services.install(machine.order(program))
    assert state(machine) == before
    assert machine.systemctl.calls == calls
    assert len(machine.builder.built) == 1


def test_a_changed_program_gets_a_release_and_keeps_its_environment(machine: Machine, program: Path) -> None:
    machine.services.install(machine.order(program))
    change(program)
    machine.services.install(machine.order(program))
    assert len(machine.builder.built) == 1
    assert "release-2/program/door.py" in machine.unit()
    assert machine.layout.service("door").release(1).is_dir()  # to go back to
    change(program)
    machine.services.install(machine.order(program))
    assert not machine.layout.service("door").release(1).exists()


@pytest.mark.parametrize("changes", [{"requirements": ("smbus2",)}, {"hwloop": b"2"}])
def test_other_packages_get_an_environment_beside_the_one_in_use(
    machine: Machine, program: Path, changes: dict[str, object]
) -> None:
    machine.services.install(machine.order(program))
    machine.services.install(machine.order(program, **changes))  # type: ignore[arg-type]
    environments = sorted(machine.layout.service("door").home.glob("environment-*"))
    assert len(environments) == len(machine.builder.built) == 2
    machine.services.install(machine.order(program, **{**changes, "realtime": 40}))  # type: ignore[arg-type]
    assert len(list(machine.layout.service("door").home.glob("environment-*"))) == 1  # the first one serves nobody now


@pytest.mark.parametrize(
    ("outcome", "later", "reason"),
    [
        (FAILED, None, "ended with status 1"),
        (State(active="failed", result="timeout"), None, "did not become ready in time"),
        (State(active="failed", result="watchdog"), None, "gave no sign of life"),
        (State(active="failed", result="signal", code="2", status=9), None, "was killed by signal 9"),
        (State(active="activating", result="exit-code", code="1", status=203), None, "could not be executed"),
        (
            State(active="failed", result="exit-code", code="1", status=216),
            None,
            "could not be started: its user or one",
        ),
        (UP, FAILED, "ended with status 1"),
        (State(active="deactivating"), FAILED, "ended with status 1"),
        (UP, UP._replace(restarts=1), "ended soon after it was ready"),
    ],
)
def test_a_version_that_does_not_become_ready_is_replaced_by_the_one_before_it(
    machine: Machine, program: Path, outcome: State, later: State | None, reason: str
) -> None:
    machine.services.install(machine.order(program))
    before = machine.unit(), machine.services.current("door")
    change(program)
    machine.systemctl.outcomes = [outcome]
    machine.systemctl.later = later
    with pytest.raises(InstallationError) as caught:
        machine.services.install(machine.order(program, requirements=("smbus2",)))
    assert f"door: the new version {reason}" in str(caught.value)
    assert "    ValueError: no sensor" in str(caught.value)
    assert "went back to the version before it: release 1 runs again" in str(caught.value)
    assert (machine.unit(), machine.services.current("door")) == before
    assert machine.systemctl.calls[-4:] == [  # and no stop, with which kept outputs would end
        "restart hwloop-door.service",
        "reload",
        "enable hwloop-door.service",
        "restart hwloop-door.service",
    ]
    assert not machine.layout.service("door").release(2).exists()
    assert len(list(machine.layout.service("door").home.glob("environment-*"))) == 1


KEEPING = "from hwloop import gpio\nasync def main():\n    async with gpio.output(27, keep=True): pass\n"


def test_a_program_that_keeps_outputs_has_a_guardian(machine: Machine, program: Path) -> None:
    program.write_text(KEEPING)
    machine.services.install(machine.order(program))
    places = machine.layout.service("door")
    assert "hwloop guard --listen %t/hwloop-guard/door/socket\n" in places.guardian.read_text()
    for line in ("Wants=hwloop-guard@door.service", "Environment=HWLOOP_GUARD_SOCKET=%t/hwloop-guard/door/socket"):
        assert f"{line}\n" in machine.unit()
    assert not [each for each in machine.systemctl.calls if "guard" in each]  # systemd starts it with the service
    change(program)
    machine.services.install(machine.order(program))
    assert machine.systemctl.calls[-1] == "restart hwloop-door.service"  # the guardian holds the lines meanwhile
    machine.services.install(machine.order(program, requirements=("smbus2",)))
    assert machine.systemctl.calls[-1] == "restart_running hwloop-guard@door.service"  # its code is another one
    program.write_text(KEEPING.replace("keep=True", "keep=False"))
    machine.services.install(machine.order(program))
    assert not places.guardian.exists()
    machine.services.install(machine.order(program, guarded=True))
    assert places.guardian.exists()
    assert "/etc/systemd/system/hwloop-guard@door.service" in machine.services.uninstall("door")


def test_a_first_version_that_does_not_become_ready_is_stopped_and_can_be_corrected(
    machine: Machine, program: Path
) -> None:
    machine.systemctl.outcomes = [FAILED]
    with pytest.raises(InstallationError, match="it is installed, but stopped; correct the program"):
        machine.services.install(machine.order(program))
    assert machine.systemctl.calls[-1] == "stop hwloop-door.service"
    change(program)
    machine.systemctl.outcomes = [FAILED]
    with pytest.raises(InstallationError, match="it is installed, but stopped"):  # nothing good to go back to
        machine.services.install(machine.order(program))
    change(program)
    assert machine.services.install(machine.order(program))
    assert machine.services.current("door").number == 3  # type: ignore[union-attr]
    assert not machine.layout.service("door").release(1).exists()


def test_an_interrupted_start_leaves_the_version_before_it_running(machine: Machine, program: Path) -> None:
    machine.services.install(machine.order(program))
    before = machine.unit()
    change(program)
    machine.systemctl.outcomes = [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        machine.services.install(machine.order(program))
    assert machine.unit() == before
    assert machine.systemctl.calls[-1] == "restart hwloop-door.service"
    assert machine.services.current("door").number == 1  # type: ignore[union-attr]


def test_a_failed_environment_leaves_everything_as_it_was(machine: Machine, program: Path) -> None:
    machine.services.install(machine.order(program))
    before, calls = machine.files(), list(machine.systemctl.calls)
    machine.builder.fails = CommandError("pip failed")
    with pytest.raises(CommandError):
        machine.services.install(machine.order(program, requirements=("nothing-like-it",)))
    assert machine.files() == before
    assert machine.systemctl.calls == calls


def test_a_first_environment_that_fails_leaves_nothing(machine: Machine, program: Path) -> None:
    machine.builder.fails = CommandError("pip failed")
    with pytest.raises(CommandError):
        machine.services.install(machine.order(program))
    assert not machine.layout.service("door").home.exists()


def test_an_environment_that_a_power_cut_has_left_half_made_is_made_anew(machine: Machine, program: Path) -> None:
    order = machine.order(program)
    half = machine.layout.service("door").environment(order.plan.key)
    machine.services.install(order)
    (half / "environment.json").unlink()
    machine.builder.build = _replacing(machine.builder.build)  # type: ignore[method-assign]
    assert machine.services.install(machine.order(program))
    assert (half / "environment.json").exists()


def _replacing(build):  # type: ignore[no-untyped-def]
    """Return a builder that first removes what is there, as the real one does."""
    import shutil

    def replaced(plan, directory):  # type: ignore[no-untyped-def]
        shutil.rmtree(directory)
        return build(plan, directory)

    return replaced


def test_a_unit_that_somebody_edited_is_put_back(machine: Machine, program: Path) -> None:
    machine.services.install(machine.order(program))
    text = machine.unit()
    machine.layout.service("door").unit.write_text(text.replace("User=hwloop", "User=root"))
    assert machine.services.install(machine.order(program))
    assert machine.unit() == text
    assert len(machine.builder.built) == 1


def test_the_administrators_variables_and_drop_ins_stay(machine: Machine, program: Path) -> None:
    machine.services.install(machine.order(program))
    places = machine.layout.service("door")
    (places.configuration / "environment").write_text("HWLOOP_BOARD=sim\n")
    drop_in = places.drop_ins[0] / "override.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[Service]\n")
    change(program)
    machine.services.install(machine.order(program))
    assert (places.configuration / "environment").read_text() == "HWLOOP_BOARD=sim\n"
    assert drop_in.exists()


def test_an_uninstalled_service_leaves_nothing(machine: Machine, program: Path) -> None:
    (machine.root / "etc/systemd/system").mkdir(parents=True)
    (machine.root / "var/lib").mkdir(parents=True)
    (machine.root / "opt").mkdir()
    before = machine.files()
    machine.services.install(machine.order(program))
    change(program)
    machine.services.install(machine.order(program))
    places = machine.layout.service("door")
    for path in (places.private_state, *places.runtime, *places.drop_ins):
        path.mkdir(parents=True)
        (path / "file").write_text("")
    places.state.parent.mkdir()
    places.state.symlink_to("../private/hwloop/door")
    removed = machine.services.uninstall("door")
    leftovers = {"run", "var/lib/private"}  # those of the test
    assert [each for each in machine.files() if each not in leftovers] == before
    assert {"/etc/systemd/system/hwloop-door.service", "/var/lib/private/hwloop/door", "user hwloop"} <= set(removed)
    assert machine.systemctl.calls[-4:] == [
        "stop hwloop-door.service",
        "stop hwloop-guard@door.service",
        "disable hwloop-door.service",
        "reload",
    ]
    with pytest.raises(InstallationError, match="there is no service door; installed are: none"):
        machine.services.uninstall("door")


def test_the_data_of_a_service_can_be_kept_and_removed_later(machine: Machine, program: Path) -> None:
    machine.services.install(machine.order(program))
    places = machine.layout.service("door")
    places.state.mkdir(parents=True)
    machine.services.uninstall("door", keep_data=True)
    assert places.configuration.is_dir()
    assert places.state.is_dir()
    assert machine.accounts.present  # the files are still theirs
    accounts = ["group gpio", "user hwloop"]
    assert machine.services.uninstall("door") == ["/etc/hwloop/door", "/var/lib/hwloop/door", *accounts]


def test_one_of_two_services_can_go(machine: Machine, program: Path) -> None:
    machine.services.install(machine.order(program))
    machine.services.install(machine.order(program, name="gate"))
    assert machine.services.names() == ["door", "gate"]
    machine.services.uninstall("door")
    assert machine.services.names() == ["gate"]
    assert machine.accounts.present
    assert "ExecStart" in machine.unit("gate")


def test_a_unit_of_somebody_else_is_not_replaced(machine: Machine, program: Path) -> None:
    unit = machine.layout.service("door").unit
    unit.parent.mkdir(parents=True)
    unit.write_text("[Service]\n")
    with pytest.raises(InstallationError, match="exists already and was not made by hwloop"):
        machine.services.install(machine.order(program))
    assert unit.read_text() == "[Service]\n"


def test_going_back_on_demand(machine: Machine, program: Path) -> None:
    machine.services.install(machine.order(program))
    with pytest.raises(InstallationError, match="no earlier version"):
        machine.services.roll_back("door")
    before = machine.unit()
    change(program)
    machine.services.install(machine.order(program))
    machine.services.roll_back("door")
    assert machine.unit() == before
    assert machine.systemctl.calls[-1] == "restart hwloop-door.service"
    with pytest.raises(InstallationError, match="no earlier version"):
        machine.services.roll_back("door")


def test_going_back_passes_over_a_version_that_was_never_ready(machine: Machine, program: Path) -> None:
    machine.services.install(machine.order(program))
    change(program)
    machine.services.install(machine.order(program, start=False))  # release 1 goes on running
    change(program)
    machine.systemctl.outcomes = [FAILED]
    with pytest.raises(InstallationError, match="went back to the version before it: release 1 runs again"):
        machine.services.install(machine.order(program))
    change(program)
    machine.services.install(machine.order(program, start=False))
    change(program)
    machine.services.install(machine.order(program))
    machine.services.roll_back("door")
    assert "release-1/program" in machine.unit()


def test_the_version_of_an_image_can_be_gone_back_to_once_it_has_been_running(machine: Machine, program: Path) -> None:
    machine.systemctl.running = False
    machine.services.install(machine.order(program))
    machine.systemctl.running, machine.systemctl.now = True, UP
    change(program)
    machine.systemctl.outcomes = [FAILED]
    with pytest.raises(InstallationError, match="release 1 runs again"):
        machine.services.install(machine.order(program))


def test_a_version_that_fails_when_it_is_gone_back_to_says_so(machine: Machine, program: Path) -> None:
    machine.services.install(machine.order(program))
    change(program)
    machine.services.install(machine.order(program))
    machine.systemctl.outcomes = [FAILED]
    with pytest.raises(InstallationError, match="door ended with status 1"):
        machine.services.roll_back("door")


def test_a_restart_waits_until_the_service_is_ready(machine: Machine, program: Path) -> None:
    machine.services.install(machine.order(program, start=False))
    assert "restart hwloop-door.service" not in machine.systemctl.calls
    machine.systemctl.outcomes = [FAILED]
    with pytest.raises(InstallationError, match="door ended with status 1; its last lines:\n    Traceback …\n"):
        machine.services.restart("door")
    machine.services.restart("door")
    assert machine.services.current("door").ready  # type: ignore[union-attr]
    with pytest.raises(InstallationError, match="there is no service gate; installed are: door"):
        machine.services.restart("gate")


def test_a_script_may_run_to_its_end(machine: Machine, program: Path) -> None:
    machine.systemctl.outcomes = [State(active="inactive", result="success")]
    machine.services.install(machine.order(program))
    assert machine.said[-1] == "door: has run to its end"


def test_without_systemd_a_service_starts_at_the_next_boot(machine: Machine, program: Path) -> None:
    machine.systemctl.running = False
    machine.services.install(machine.order(program))
    assert machine.systemctl.calls == ["reload", "enable hwloop-door.service"]
    assert machine.said[-1] == "door: installed; it starts at the next boot, as systemd does not run here"
    with pytest.raises(InstallationError, match="systemd does not run here"):
        machine.services.restart("door")


def test_two_installations_do_not_mix(machine: Machine, program: Path) -> None:
    machine.services.install(machine.order(program))
    with open(machine.layout.services / ".lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(InstallationError, match="another hwloop service command is at work"):
            machine.services.uninstall("door")


# Hostile surroundings.


def test_the_umask_of_the_shell_plays_no_part(machine: Machine, program: Path) -> None:
    before = os.umask(0o077)
    try:
        machine.services.install(machine.order(program))
    finally:
        os.umask(before)
    hidden = [path for path in machine.files() if not (machine.root / path).lstat().st_mode & 0o004]
    assert [path for path in hidden if "environment-" not in path] == [  # the environment is the builder's
        "etc/hwloop/door/environment",
        "opt/hwloop/services/.lock",
    ]
    before = os.umask(0)
    try:
        change(program)
        machine.services.install(machine.order(program))
    finally:
        os.umask(before)
    assert not [
        path
        for path in machine.files()
        if not (machine.root / path).is_symlink() and (machine.root / path).lstat().st_mode & 0o022
    ]


@pytest.mark.parametrize("place", ["opt", "etc/hwloop", "etc/systemd/system"])
def test_nothing_is_written_where_others_could_replace_it(machine: Machine, program: Path, place: str) -> None:
    directory = machine.root / place
    directory.mkdir(parents=True)
    directory.chmod(0o777)
    before = machine.files()
    with pytest.raises(UnsafePathError, match=r"others than its owner may write .*: sudo chmod go-w"):
        machine.services.install(machine.order(program))
    assert not any(directory.iterdir())
    assert place != "opt" or machine.files() == before


@pytest.mark.parametrize("place", ["opt/hwloop", "etc/hwloop/door", "etc/systemd"])
def test_a_link_that_leads_out_of_an_image_is_not_followed(
    machine: Machine, program: Path, place: str, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = machine.root / place
    link.parent.mkdir(parents=True)
    link.symlink_to(elsewhere)
    with pytest.raises(UnsafePathError, match="leads out of"):
        machine.services.install(machine.order(program))
    assert not any(elsewhere.iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of other users")
def test_a_directory_of_another_user_is_not_trusted(machine: Machine, program: Path) -> None:
    directory = machine.root / "opt/hwloop"
    directory.mkdir(parents=True)
    os.chown(directory, 12345, -1)
    with pytest.raises(UnsafePathError, match="belongs to user 12345"):
        machine.services.install(machine.order(program))


def test_removing_a_state_does_not_follow_the_links_in_it(machine: Machine, program: Path, tmp_path: Path) -> None:
    machine.services.install(machine.order(program))
    treasure = tmp_path / "treasure"
    treasure.mkdir()
    (treasure / "file").write_text("kept")
    state = machine.layout.service("door").state
    state.mkdir(parents=True)
    (state / "link").symlink_to(treasure)
    machine.services.uninstall("door")
    assert (treasure / "file").read_text() == "kept"


def test_uninstalling_does_not_follow_a_link_out_of_an_image(machine: Machine, program: Path, tmp_path: Path) -> None:
    machine.services.install(machine.order(program))
    state, treasure = machine.layout.service("door").state, tmp_path / "treasure"
    (treasure / "door").mkdir(parents=True)
    state.parent.parent.mkdir(parents=True, exist_ok=True)
    state.parent.symlink_to(treasure)
    with pytest.raises(UnsafePathError, match="leads out of"):
        machine.services.uninstall("door")
    assert (treasure / "door").is_dir()
    assert machine.systemctl.calls[-1] != "stop hwloop-door.service"  # it still runs, and is still installed
    assert machine.services.names() == ["door"]
