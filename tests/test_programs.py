"""Programs as people write them, run by `hwloop run`: once, as Python would, on the chosen loop, board and time."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import textwrap
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hwloop.cli import main

ROOT = Path(__file__).parents[1]
Write = Callable[..., str]

HEAD = """
import asyncio, sys
import hwloop
from hwloop import board
async def main(*arguments):
    loop = asyncio.get_running_loop()
    print(type(loop).__name__, board.current().label, *arguments)
    await asyncio.sleep(0.001)
"""
WITH_RUNNER = "with asyncio.Runner() as runner:\n    runner.run(main())"
ENDINGS = {
    "nothing": "",
    "hwloop.run": "hwloop.run(main())",
    "asyncio.run": "asyncio.run(main())",
    "from asyncio import run": "from asyncio import run\nrun(main())",
    "Runner": WITH_RUNNER,
    "Runner with hwloop's factory": WITH_RUNNER.replace("()", "(loop_factory=hwloop.new_event_loop)", 1),
    "Runner with asyncio's loop": WITH_RUNNER.replace("()", "(loop_factory=asyncio.SelectorEventLoop)", 1),
    "Runner with asyncio's factory": WITH_RUNNER.replace("()", "(loop_factory=asyncio.new_event_loop)", 1),
    "a loop of its own": "loop = asyncio.new_event_loop()\nloop.run_until_complete(main())\nloop.close()",
    "the current loop": (
        "loop = asyncio.new_event_loop()\nasyncio.set_event_loop(loop)\n"
        "asyncio.get_event_loop().run_until_complete(main())\nloop.close()"
    ),
    "run_forever": (
        "loop = asyncio.new_event_loop()\nloop.create_task(main()).add_done_callback(lambda _: loop.stop())\n"
        "loop.run_forever()\nloop.close()"
    ),
    "a policy": (
        "import warnings\nwarnings.simplefilter('ignore')\n"
        "asyncio.set_event_loop_policy(hwloop.EventLoopPolicy())\nasyncio.run(main())"
    ),
    "a function": "def start():\n    hwloop.run(main())\nstart()",
    "sys.exit": "def start():\n    asyncio.run(main())\n    return 0\nsys.exit(start())",
    "debug": "asyncio.run(main(), debug=True)",
    "realtime clock": "hwloop.run(main(), clock='real')",
}


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """`write(source, name)` writes a file of a program into the working directory and gives its path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", sys.argv[:])
    monkeypatch.setattr(sys, "path", sys.path[:])
    for name in ("HWLOOP_BOARD", "HWLOOP_SEED", "GPIOZERO_PIN_FACTORY"):
        monkeypatch.delenv(name, raising=False)
    before = set(sys.modules)

    def write(source: str, name: str = "program.py") -> str:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source), encoding="utf-8")
        return name

    yield write
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_event_loop_policy(None)


def hwloop(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hwloop", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        timeout=60,
    )


# Runs, however they are started.


@pytest.mark.parametrize("guard", [False, True], ids=["bare", "guarded"])
@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
def test_a_program_runs_once_on_the_chosen_loop_and_board(write: Write, capsys: Any, ending: str, guard: bool) -> None:
    if guard and ending:
        ending = "if __name__ == '__main__':\n" + textwrap.indent(ending, "    ")
    path = write(HEAD + ending)
    write("label = 'bare'", "bare.toml")
    assert main(["run", path, "--board", "bare.toml"]) == 0
    assert capsys.readouterr().out == "EventLoop bare\n"
    assert main(["run", path, "--board", "bare.toml", "--clock", "virtual"]) == 0
    assert capsys.readouterr().out == "SimLoop bare\n"


def test_a_main_that_is_given_its_arguments_is_called_by_the_program_alone(write: Write, capsys: Any) -> None:
    path = write(HEAD.replace("*arguments", "first, second") + "asyncio.run(main(1, sys.argv[1:]))")
    path = write(Path(path).read_text().replace("*arguments", "first, second"))
    assert main(["run", path, "--board", "sim", "--", "-v"]) == 0
    assert capsys.readouterr().out == "EventLoop simulated board 1 ['-v']\n"


def test_several_runs_have_one_board(write: Write, capsys: Any) -> None:
    path = write("""
        import asyncio, hwloop
        from hwloop import board, gpio
        async def main():
            async with gpio.output(27) as lamp, gpio.watch(17, pull="up") as button:
                await asyncio.sleep(3600 if isinstance(asyncio.get_running_loop(), hwloop.SimLoop) else 0.001)
            return board.current()
        boards = [hwloop.run(main()), asyncio.run(main()), hwloop.run(main()), asyncio.run(main())]
        print(len(set(map(id, boards))), boards[0] is board.current())
        """)
    write("", "bare.toml")
    for options in ([], ["--clock", "virtual"], ["--clock", "virtual", "--seed", "3"]):
        assert main(["run", path, "--board", "bare.toml", *options]) == 0
        assert capsys.readouterr().out == "1 True\n"


def test_runs_in_threads_have_that_board_too(write: Write, capsys: Any) -> None:
    path = write("""
        import asyncio, threading
        from hwloop import board
        async def which():
            return board.current()
        async def main():
            seen = []
            thread = threading.Thread(target=lambda: seen.append(asyncio.run(which())))
            thread.start()
            await asyncio.to_thread(thread.join)
            print(seen[0] is board.current(), (await asyncio.to_thread(board.current)) is board.current())
        asyncio.run(main())
        """)
    assert main(["run", path, "--board", "sim"]) == 0
    assert capsys.readouterr().out == "True True\n"


def test_a_program_may_ask_for_more_than_its_command_line(write: Write, capsys: Any) -> None:
    path = write(HEAD + "hwloop.run(main(), board={'label': 'mine'}, gc='idle', spin=1e-5)\nhwloop.run(main())")
    assert main(["run", path, "--board", "sim"]) == 0
    assert capsys.readouterr().out == "EventLoop mine\nEventLoop simulated board\n"
    path = write(HEAD + "hwloop.run(main(), clock='virtual', seed=4)")
    for options in ([], ["--board", "sim"], ["--clock", "virtual", "--seed", "2"]):
        assert main(["run", path, *options]) == 0
        assert capsys.readouterr().out == "SimLoop simulated board\n"


def test_real_lines_can_not_be_asked_for_on_a_board_that_is_chosen_simulated(write: Write, capsys: Any) -> None:
    path = write(HEAD + "hwloop.run(main(), board='linux')")
    assert main(["run", path, "--board", "sim"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("hwloop run: board 'linux': the program was started on a simulated board; start it without ")


def test_another_coroutine_is_named_and_run_once(write: Write, capsys: Any) -> None:
    path = write(HEAD + "async def other(): print('other')\nif __name__ == '__main__':\n    hwloop.run(main())")
    assert main(["run", f"{path}:other", "--board", "sim"]) == 0
    assert capsys.readouterr().out == "other\n"
    for run in ("asyncio.run(main())", "hwloop.run(main())"):
        path = write(HEAD + run)
        assert main(["run", f"{path}:main", "--board", "sim"]) == 0
        assert capsys.readouterr().out == "EventLoop simulated board\n"


@pytest.mark.parametrize("name", ["other", "nope"])
@pytest.mark.parametrize(
    "run",
    [
        "hwloop.run(main())",
        "sys.exit(asyncio.run(main()))",
        "loop = asyncio.new_event_loop()\ntry: loop.run_until_complete(main())\nfinally: loop.close()",
        "with asyncio.Runner() as runner: runner.run(main())",
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_program_that_runs_itself_when_it_is_loaded_can_not_run_another_coroutine(
    write: Write, capsys: Any, run: str, name: str
) -> None:
    path = write(f"{HEAD}async def other(): print('other')\n{run}\n")
    assert main(["run", f"{path}:{name}", "--board", "sim"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(
        f"hwloop run: {path}: it runs a loop when it is loaded, so {name!r} can't be run instead;"
    )
    gc.collect()


def test_asyncio_is_as_before_afterwards(write: Write) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        before = asyncio.Runner.__init__, asyncio.get_event_loop_policy()
        assert main(["run", write(HEAD + "asyncio.run(main())"), "--board", "sim"]) == 0
        assert (asyncio.Runner.__init__, asyncio.get_event_loop_policy()) == before
    with asyncio.Runner() as runner:
        assert type(runner.get_loop()) is asyncio.SelectorEventLoop


@pytest.mark.parametrize(
    "decides",
    [
        "if len(sys.argv) < 2:\n    print('usage')\nelse:\n    asyncio.run(main())",
        "def run(function): print('usage')\nrun(main)",
    ],
)
def test_a_program_that_decides_not_to_run_is_not_run(write: Write, capsys: Any, decides: str) -> None:
    assert main(["run", write(HEAD + decides)]) == 0
    assert capsys.readouterr().out == "usage\n"


# Programs that Python runs.


@pytest.mark.parametrize("module", [["-m", "house.door"], ["house/door.py"], ["-m", "house"]])
def test_a_module_a_file_of_a_package_and_a_package(write: Write, capsys: Any, module: list[str]) -> None:
    write("print('house')", "house/__init__.py")
    write("place = 'door'", "house/places.py")
    write(
        HEAD + "from .places import place\nprint(place, __name__, __package__, sys.argv[1:])\nasyncio.run(main())",
        "house/door.py",
    )
    write("from house.door import main\nimport asyncio\nasyncio.run(main())", "house/__main__.py")
    assert main(["run", *module, "--board", "sim", "--", "x"]) == 0
    said = capsys.readouterr().out.splitlines()
    if "door" in module[-1]:
        assert said == ["house", "door __main__ house ['x']", "EventLoop simulated board"]
    else:
        assert said[-1] == "EventLoop simulated board"


def test_a_directory_an_archive_and_standard_input(write: Write) -> None:
    program = HEAD + "import helper\nhwloop.run(main(helper.word, __name__, *sys.argv))"
    write(program, "app/__main__.py")
    write("word = 'help'", "app/helper.py")
    with zipfile.ZipFile("app.pyz", "w") as archive:
        archive.write("app/__main__.py", "__main__.py")
        archive.write("app/helper.py", "helper.py")
    for path in ("app", "app.pyz"):
        done = hwloop("run", path, "--board", "sim", "--", "x")
        assert (done.stdout, done.stderr) == (f"EventLoop simulated board help __main__ {path} x\n", "")
    done = subprocess.run(
        [sys.executable, "-m", "hwloop", "run", "-", "--board", "sim"],
        input=HEAD + "hwloop.run(main(sys.argv))",
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("EventLoop simulated board ['-']\n", "")


@pytest.mark.parametrize("imported_before", [False, True])
@pytest.mark.slow
def test_the_program_looks_as_under_python(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, imported_before: bool
) -> None:
    """Also where something at the start of every Python, a debugger for instance, has imported multiprocessing."""
    start = tmp_path / "start"
    start.mkdir()
    (start / "sitecustomize.py").write_text("import multiprocessing" if imported_before else "")
    search = os.pathsep.join([str(start), str(ROOT)])
    monkeypatch.setenv("PYTHONPATH", search)
    path = write("""
        import inspect, multiprocessing, pickle, sys

        class Thing:
            pass

        def work(queue):
            queue.put(Thing())

        if __name__ == "__main__":
            assert isinstance(pickle.loads(pickle.dumps(Thing())), Thing)
            assert "class Thing" in inspect.getsource(Thing)
            spec = __spec__
            queue = multiprocessing.get_context("spawn").SimpleQueue()
            worker = multiprocessing.get_context("spawn").Process(target=work, args=(queue,))
            worker.start()
            print(isinstance(queue.get(), Thing), spec, __package__, __file__, sys.argv)
            worker.join()
        """)
    ours, pythons = (
        hwloop("run", path, PYTHONPATH=search),
        subprocess.run([sys.executable, path], capture_output=True, text=True),
    )
    assert (ours.stdout, ours.stderr) == (pythons.stdout, pythons.stderr) == (pythons.stdout, "")


@pytest.mark.parametrize(
    ("ending", "status", "said"),
    [
        ("sys.exit(asyncio.run(main()))", 0, ""),
        ("asyncio.run(main())\nsys.exit('dry')", 1, "dry\n"),
        ("asyncio.run(main())\nraise SystemExit(4)", 4, ""),
        ("sys.exit(7)", 7, ""),
    ],
)
def test_the_status_is_the_programs(write: Write, capsys: Any, ending: str, status: int, said: str) -> None:
    assert main(["run", write(HEAD + ending), "--board", "sim"]) == status
    assert capsys.readouterr().err == said


def test_a_failure_is_shown_from_the_program_on(write: Write, capsys: Any) -> None:
    path = write("import asyncio\nasync def main():\n    1 / 0\nasyncio.run(main())")
    assert main(["run", path]) == 1
    shown = capsys.readouterr().err.splitlines()
    assert shown[:2] == ["Traceback (most recent call last):", f'  File "{path}", line 4, in <module>']
    assert shown[-1] == "ZeroDivisionError: division by zero"


# Invalid programs.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["board.toml"], "board.toml is a board file, not a program; write: hwloop run PROGRAM.py --board board.toml"),
        (["program"], "program: there is no such program; there is program.py"),
        (["-m", "nothing.here"], "-m nothing.here: there is no such module in sys.path"),
        (["-m", "program.py"], "-m program.py: there is no such module; a file is run without -m: "),
        (["-m", "empty"], "-m empty: a package without a __main__ can't be run; name a module in it"),
        (["empty"], "empty: is a directory without a __main__.py; give the path of a Python file"),
        (["program.py", "--board", "smi"], "unknown board 'smi': use auto, linux, sim, or the path of a board file "),
        (["program.py", "--board", "program.toml"], "board file program.toml: No such file"),
    ],
)
def test_a_wrong_call_says_what_to_write(write: Write, capsys: Any, arguments: list[str], message: str) -> None:
    write("", "board.toml")
    write("", "empty/__init__.py")
    write("1 / 0")
    assert main(["run", *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"hwloop run: {message}")


def test_a_program_without_a_run_and_without_a_main_that_can_be_called(write: Write, capsys: Any) -> None:
    assert main(["run", write("async def main(speed): pass")]) == 2
    assert "'main' needs arguments (speed)" in capsys.readouterr().err
