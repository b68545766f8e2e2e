"""Child processes: answers, errors, crashes and limits; nothing of the working folder is executed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from pentatonic.child_process import (
    ChildFailure,
    ChildPool,
    ChildProcess,
    Message,
    _Watchdog,
    run_in_child,
    safe_path,
)
from pentatonic.cli import make_app, run
from pentatonic.errors import FormatError, InputError

CHILD = """
import os, signal, subprocess, sys, time
from pathlib import Path
from pentatonic.child_process import Message, run_in_child
from pentatonic.errors import FormatError, InputError

class OwnError(InputError):
    pass

def echo(request):
    print("printed")
    os.write(1, b"written")
    return Message([os.getpid(), request.value], request.data[::-1])

def count(request):
    for number in range(request.value):
        yield Message(number, bytes(number))

def act(request):
    word, value = request.value
    if word == "format":
        raise FormatError("strange", path=Path("a.abc"), line=3)
    if word == "own":
        raise OwnError("odd")
    if word == "bug":
        print("first\\n", file=sys.stderr)
        raise KeyError("x")
    if word == "end":
        os._exit(value)
    if word == "signal":
        os.kill(os.getpid(), value)
    if word == "sleep":
        time.sleep(60)
    if word == "family":
        child = subprocess.Popen(["sleep", "60"])
        Path(value).write_text(str(child.pid))
        time.sleep(60)
    if word == "memory":
        bytearray(value)
    if word == "where":
        return Message([os.getcwd(), os.listdir(), sys.flags.safe_path, sys.path])
    if word == "nested":
        return run_in_child("child_functions:echo", Message("inner"), seconds=9)
    if word == "read":
        return Message(sys.stdin.read())
    return Message("alive")
"""


@pytest.fixture
def functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the functions above importable, here and in children."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "child_functions.py").write_text(CHILD)
    monkeypatch.syspath_prepend(folder)


@pytest.fixture
def child(functions: None):
    with ChildProcess("child_functions:act", seconds=30) as process:
        yield process


def ends(pid: int, seconds: float = 10) -> bool:
    """Whether a process ends soon."""
    for _ in range(round(seconds / 0.05)):
        if not is_running(pid):
            return True
        time.sleep(0.05)
    return False


def is_running(pid: int) -> bool:
    """Whether there is such a process that has not ended."""
    status = Path(f"/proc/{pid}/stat")
    if status.parent.parent.joinpath("self").exists():
        return status.exists() and status.read_text().rpartition(")")[2].split()[0] not in "ZX"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_one_process_answers_many_requests(functions: None) -> None:
    data = bytes(range(256)) * 1000 + b"\n"
    with ChildProcess("child_functions:echo", seconds=30) as echo:
        answers = [echo.ask(Message({"ä\n": [1, None]}, data)) for _ in range(3)]
        assert [answer.value for answer in answers] == 3 * [[echo.pid, {"ä\n": [1, None]}]]
        assert answers[0].data == data[::-1] and echo.pid != os.getpid()
        pid = echo.pid
    assert echo.pid is None and pid is not None and ends(pid)
    with pytest.raises(ChildFailure, match="was closed"):
        echo.ask(Message())


def test_answers_come_one_by_one(functions: None) -> None:
    with ChildProcess("child_functions:count", seconds=30) as count:
        assert [(each.value, each.data) for each in count.stream(Message(3))] == [
            (0, b""),
            (1, b"\0"),
            (2, b"\0\0"),
        ]
        assert list(count.stream(Message(0))) == []
        pid = count.pid
        answers = count.stream(Message(100_000))
        assert next(answers).value == 0
        answers.close()  # the rest must not be taken for the answer to the next request
        assert [each.value for each in count.stream(Message(2))] == [0, 1]
        assert count.pid != pid


def test_errors_are_those_that_the_function_raises(child: ChildProcess) -> None:
    with pytest.raises(FormatError) as caught:
        child.ask(Message(["format", None]))
    assert str(caught.value) == "a.abc:3: strange"
    assert (caught.value.reason, caught.value.line) == ("strange", 3)
    pid = child.pid
    with pytest.raises(InputError, match=r"^odd$") as own:
        child.ask(Message(["own", None]))
    assert type(own.value) is InputError
    assert child.ask(Message(["", None])).value == "alive" and child.pid == pid


@pytest.mark.parametrize(
    ("request_value", "said"),
    [
        (["bug", None], r"^ended with status 1: KeyError: 'x'$"),
        (["end", 0], r"^ended with status 0$"),
        (["end", 9], r"^ended with status 9$"),
        (["signal", signal.SIGSEGV], r"^crashed \(SIGSEGV\)$"),
    ],
)
def test_a_crash_costs_one_request(child: ChildProcess, request_value: list, said: str) -> None:
    assert child.ask(Message(["", None])).value == "alive"
    with pytest.raises(ChildFailure, match=said) as caught:
        child.ask(Message(request_value))
    assert not caught.value.timed_out
    assert child.ask(Message(["", None])).value == "alive"


def test_an_idle_process_that_was_killed_is_replaced(child: ChildProcess) -> None:
    child.ask(Message(["", None]))
    pid = child.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert ends(pid)
    assert child.ask(Message(["", None])).value == "alive" and child.pid != pid


def test_a_function_that_does_not_exist_is_named() -> None:
    with pytest.raises(ChildFailure, match=r"status 1: .*'os:nothing' is not the name of a function"):
        run_in_child("os:nothing", Message(), seconds=30)


def test_what_hangs_is_stopped_with_what_it_started(tmp_path: Path, functions: None) -> None:
    pid_file = tmp_path / "pid"
    with ChildProcess("child_functions:act", seconds=5) as hanging:
        with pytest.raises(ChildFailure, match=r"^was stopped after 5 s$") as caught:
            hanging.ask(Message(["family", str(pid_file)]))
        assert caught.value.timed_out
        assert ends(int(pid_file.read_text()))
        assert hanging.ask(Message(["", None])).value == "alive"


def test_one_thread_watches_over_many_requests() -> None:
    late = threading.Event()
    before = threading.active_count()
    watchdog = _Watchdog(late.set)
    for _ in range(20):
        with watchdog.time_limit(0.05):
            pass
    assert threading.active_count() == before + 1
    assert not late.wait(0.2) and not watchdog.expired  # nothing is in work
    with watchdog.time_limit(60):
        pass
    with watchdog.time_limit(0.05):  # earlier than the thread was to wake
        assert late.wait(30)
    assert watchdog.expired


def test_a_watchdog_that_is_stopped_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    watchdog = _Watchdog(lambda: None)
    with watchdog.time_limit(60):
        (thread,) = set(threading.enumerate()) - before
    watchdog.stop()
    thread.join(30)
    assert not thread.is_alive() and not watchdog.expired


def test_closing_from_another_thread_ends_a_request(child: ChildProcess) -> None:
    child.ask(Message(["", None]))
    closing = threading.Timer(0.2, child.close)
    closing.start()
    started = time.monotonic()
    with pytest.raises(ChildFailure):
        child.ask(Message(["sleep", None]))
    closing.join()
    assert time.monotonic() - started < 30


def test_closing_before_a_request_is_sent_ends_it(
    child: ChildProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    child.ask(Message(["", None]))
    started = child._start

    def closed_meanwhile() -> Any:
        running = started()
        child.close()  # as another thread does
        return running

    monkeypatch.setattr(child, "_start", closed_meanwhile)
    with pytest.raises(ChildFailure, match="was closed"):
        child.ask(Message(["sleep", None]))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the system does not limit memory")
def test_memory_is_limited(functions: None) -> None:
    for size, said in ((1 << 20, None), (1 << 30, "MemoryError")):
        request = Message(["memory", size])
        if said is None:
            assert run_in_child("child_functions:act", request, seconds=30, memory_bytes=512 << 20)
        else:
            with pytest.raises(ChildFailure, match=said):
                run_in_child("child_functions:act", request, seconds=30, memory_bytes=512 << 20)


def test_a_child_works_in_an_empty_folder_and_reads_no_input(
    child: ChildProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # as `python -c` and `python -m` do
    monkeypatch.syspath_prepend("")
    folder, files, safe, path = child.ask(Message(["where", None])).value
    assert files == [] and safe is True and Path(folder) != Path.cwd()
    assert str(tmp_path) not in path and "" not in path and str(tmp_path / "modules") in path
    assert child.ask(Message(["read", None])).value == ""
    child.close()
    assert not Path(folder).exists()


def test_modules_of_the_working_folder_are_not_imported(
    tmp_path: Path, functions: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    for name in ("json", "pentatonic", "encodings", "subprocess", "child_functions", "sitecustomize"):
        (here / f"{name}.py").write_text(f"open({str(tmp_path / 'planted')!r}, 'w')\n")
    monkeypatch.chdir(here)
    monkeypatch.setenv("PYTHONPATH", "")
    assert run_in_child("child_functions:act", Message(["", None]), seconds=30).value == "alive"
    assert not (tmp_path / "planted").exists()


def test_a_child_calls_functions_in_its_own_process(child: ChildProcess) -> None:
    assert child.ask(Message(["nested", None])).value == [child.pid, "inner"]


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="the system has no alarms")
def test_a_child_ends_without_its_parent(
    tmp_path: Path, functions: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a parent that is killed, an idle child ends soon, and a busy one after its time limit."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    program = f"""
import os, signal, sys, threading, time
sys.path.insert(0, {str(tmp_path / "modules")!r})
from pentatonic import child_process
busy, idle = (child_process.ChildProcess("child_functions:act", seconds=5) for _ in range(2))
idle.ask(child_process.Message(["", None]))
request = child_process.Message(["family", {str(tmp_path / "pid")!r}])
threading.Thread(target=busy.ask, args=[request], daemon=True).start()
while not os.path.exists({str(tmp_path / "pid")!r}):
    time.sleep(0.01)
print(busy.pid, idle.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], stdout=subprocess.PIPE, text=True, timeout=60
    )
    busy, idle = map(int, done.stdout.split())
    assert ends(idle)
    assert ends(busy, 30)
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)  # what the busy one started
    assert len(list((tmp_path / "temporary").iterdir())) == 1  # that of the busy one


def test_threads_share_a_pool(functions: None) -> None:
    with ChildPool("child_functions:echo", 2, seconds=30) as pool, ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda number: pool.answers(Message(number))[0].value, range(20)))
    assert [value for _, value in found] == list(range(20))
    assert 1 <= len({pid for pid, _ in found}) <= 2


def test_pools_of_command_lines_ignore_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`multiprocessing` starts `python -c`, which takes modules from the working folder."""
    here = tmp_path / "here"
    here.mkdir()
    for name in ("multiprocessing", "encodings"):
        (here / f"{name}.py").write_text(f"open({str(tmp_path / 'planted')!r}, 'w')\nraise ImportError\n")
    monkeypatch.chdir(here)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    found: list[int] = []
    app = make_app("test", "A command line.")

    @app.command()
    def work() -> None:
        with get_context("spawn").Pool(1) as pool:
            found.extend(pool.map(abs, [-1]))

    with pytest.raises(SystemExit) as exit:
        run(app, ["work"])
    assert not exit.value.code and found == [1]
    assert not (tmp_path / "planted").exists()
    assert "PYTHONSAFEPATH" not in os.environ


def test_the_environment_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONSAFEPATH", "0")
    with pytest.raises(KeyError), safe_path():
        assert os.environ["PYTHONSAFEPATH"] == "1"
        raise KeyError
    assert os.environ["PYTHONSAFEPATH"] == "0"


POOL = """
import os, signal, sys
from pentatonic.child_process import process_pool, python_environment
import subprocess
if __name__ == "__main__":
    with process_pool(1) as pool:
        print(pool.submit(os.getcwd).result() == os.getcwd(), pool.submit(signal.getsignal, signal.SIGINT).result())
    print(subprocess.run([sys.executable, "-P", "-c", "import beside"], env=python_environment(sys.argv[1])).returncode)
"""


def test_pools_and_commands_of_tools_ignore_the_working_folder(tmp_path: Path) -> None:
    here, beside, tool = tmp_path / "here", tmp_path / "modules", tmp_path / "tool.py"
    here.mkdir()
    beside.mkdir()
    for name in ("multiprocessing", "encodings", "signal", "beside"):
        (here / f"{name}.py").write_text(f"open({str(tmp_path / 'planted')!r}, 'w')\nraise ImportError\n")
    (beside / "beside.py").touch()
    tool.write_text(POOL)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    done = subprocess.run(
        [sys.executable, str(tool), str(beside)],
        cwd=here,
        env=environment | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if Path(path) != here)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.splitlines() == ["True 1", "0"], done.stderr
    assert not (tmp_path / "planted").exists()


POOL_THAT_IS_KILLED = """
import os
from pentatonic.child_process import process_pool
if __name__ == "__main__":
    with process_pool(2) as pool:
        workers = {pool.submit(os.getpid).result() for _ in range(20)}
        print(*workers, flush=True)
        input()
"""


def test_the_workers_of_a_killed_program_end(tmp_path: Path) -> None:
    script = tmp_path / "pool.py"
    script.write_text(POOL_THAT_IS_KILLED)
    program = subprocess.Popen(
        [sys.executable, "-P", str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert program.stdout is not None
    workers = [int(word) for word in program.stdout.readline().split()]
    assert workers
    program.kill()
    program.wait()
    end = time.monotonic() + 60
    try:
        while any(map(is_running, workers)):
            assert time.monotonic() < end, "a worker waits for calls that never come"
            time.sleep(0.05)
    finally:
        for worker in filter(is_running, workers):
            os.kill(worker, signal.SIGKILL)
        program.communicate()
