"""The private server: a program of this test takes its place."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import wafer
from wafer.client.command import find_binary


def program(folder: Path, code: str) -> str:
    """Makes a program that stands for `wafer`."""
    path = folder / "fake-wafer"
    path.write_text(f"#!{sys.executable} -IS\n" + textwrap.dedent(code))
    path.chmod(0o755)
    return str(path)


SERVES = """
    import os, signal, sys, time
    open(os.path.join(sys.argv[2], "pid"), "w").write(str(os.getpid()))
    open(os.path.join(sys.argv[2], "arguments"), "w").write(" ".join(sys.argv[3:]))
    print("a warning", file=sys.stderr, flush=True)
    print("serving project `p` on http://127.0.0.1:9", file=sys.stderr, flush=True)
    signal.pause()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "wafer.toml").write_text("")
    return tmp_path


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def pid_of(folder: Path) -> int:
    return int((folder / "pid").read_text() or 0)


def ends(pid: int) -> bool:
    """Waits until a process has ended."""
    for _ in range(600):
        if not is_running(pid):
            return True
        time.sleep(0.05)
    return False


def test_server_listens_on_loopback_and_ends_with_its_project(folder: Path) -> None:
    with wafer.open(folder, binary=program(folder, SERVES), clock="2024-01-01T00:00:00Z,0") as project:
        pid = pid_of(folder)
        assert is_running(pid)
        assert project.url == "http://127.0.0.1:9" and project.folder == folder
        assert project.log == ["a warning"]
        arguments = (folder / "arguments").read_text()
        assert arguments == "serve --listen 127.0.0.1:0 --clock=2024-01-01T00:00:00Z,0"
    assert ends(pid)


def test_server_ends_when_an_exception_leaves_the_block(folder: Path) -> None:
    with pytest.raises(RuntimeError), wafer.open(folder, binary=program(folder, SERVES)):
        pid = pid_of(folder)
        raise RuntimeError
    assert ends(pid)


@pytest.mark.parametrize("end", ["sys.exit(3)", "os._exit(0)", "os.kill(os.getpid(), 9)"])
def test_server_ends_however_its_process_does(folder: Path, tree: Path, end: str) -> None:
    code = f"""
import os, sys
sys.path.insert(0, {str(tree)!r})
import wafer
project = wafer.open({str(folder)!r}, binary={program(folder, SERVES)!r})
{end}
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    assert ends(pid_of(folder))


def test_forked_process_leaves_the_server_alone(folder: Path) -> None:
    project = wafer.open(folder, binary=program(folder, SERVES))
    child = os.fork()
    if child == 0:
        project.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert is_running(pid_of(folder))
    project.close()
    assert ends(pid_of(folder))


def test_server_that_does_not_start_says_why(folder: Path) -> None:
    fails = """
        import sys
        print("warning: x", file=sys.stderr)
        sys.exit("error: cannot listen; name another address\\n  caused by: no")
    """
    with pytest.raises(wafer.CommandFailed) as raised:
        wafer.open(folder, binary=program(folder, fails))
    assert raised.value.message.startswith("cannot listen; name another address")
    assert (raised.value.hint, raised.value.status) == ("name another address", 1)


def test_server_that_never_listens_is_stopped(folder: Path) -> None:
    silent = SERVES.replace("serving project", "nothing of")
    with pytest.raises(wafer.TimedOut, match="timeouts.start"):
        wafer.open(folder, binary=program(folder, silent), timeouts=wafer.Timeouts(start=3))
    pid = folder / "pid"
    assert not pid.exists() or ends(pid_of(folder))


def test_server_that_ignores_its_signal_is_killed(folder: Path) -> None:
    stubborn = SERVES.replace("signal.pause()", "signal.signal(15, signal.SIG_IGN)\n    time.sleep(600)")
    stubborn = stubborn.replace('    print("serving', '    signal.signal(15, signal.SIG_IGN)\n    print("serving')
    project = wafer.open(folder, binary=program(folder, stubborn), timeouts=wafer.Timeouts(stop=0.5))
    project.close()
    assert ends(pid_of(folder))


def test_server_that_has_ended_by_itself_is_told(folder: Path) -> None:
    with wafer.open(folder, binary=program(folder, SERVES)) as project:
        os.kill(pid_of(folder), signal.SIGKILL)
        assert ends(pid_of(folder))
        for _ in range(200):
            try:
                project.views()
            except wafer.Unreachable as error:
                if "has ended" in str(error):
                    return
            time.sleep(0.05)
    pytest.fail("the end of the server was not noticed")


def test_folder_without_a_project_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(wafer.Invalid, match="has no wafer.toml"):
        wafer.open(tmp_path)


def test_program_is_found_by_argument_variable_and_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Path(program(tmp_path, ""))
    monkeypatch.delenv("WAFER_BINARY", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_binary(own) == str(own)
    with pytest.raises(wafer.NotFound, match="WAFER_BINARY"):
        find_binary()
    named = own.rename(tmp_path / "wafer")
    assert find_binary() == str(named)
    monkeypatch.setenv("WAFER_BINARY", str(tmp_path / "missing"))
    with pytest.raises(wafer.NotFound, match="missing"):
        find_binary()


def test_commands_tell_their_progress_and_their_errors(folder: Path) -> None:
    commands = """
        import json, os, sys
        if "serve" in sys.argv:
            print("serving project `p` on http://127.0.0.1:9", file=sys.stderr, flush=True)
            import signal
            signal.pause()
        print("2024-01-01T00:00:00Z  INFO wafer::output: p: reading", file=sys.stderr)
        print("rejected line 3: no", file=sys.stderr)
        if "bad" in sys.argv:
            sys.exit("error: there is no pipeline `bad`; known are p\\n  caused by: it")
        print(json.dumps({"arguments": sys.argv[3:]}))
    """
    with wafer.open(folder, binary=program(folder, commands)) as project:
        lines: list[str] = []
        ran = project.run("p", start="2024-01-01", progress=lines.append)
        assert ran.arguments == ["--output", "json", "run", "--from=2024-01-01", "--", "p"]
        assert lines == ["p: reading", "rejected line 3: no"]
        with pytest.raises(wafer.CommandFailed) as raised:
            project.run("bad", progress=lines.append)
        assert raised.value.message == "there is no pipeline `bad`; known are p\n  caused by: it"
        assert raised.value.hint == "known are p"
