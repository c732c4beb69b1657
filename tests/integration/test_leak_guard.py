"""The leak guard of tests/conftest.py names what a test leaves behind, and leaves clean tests alone."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).resolve().parents[1] / "conftest.py"

LEAKS = {
    "thread": """
        import threading
        threading.Thread(target=threading.Event().wait, name="stray", daemon=True).start()
    """,
    "child": """
        import subprocess
        subprocess.Popen(["sleep", "77"]).returncode = 0
    """,
    "orphan": """
        import subprocess
        subprocess.run(["sh", "-c", "sleep 78 >/dev/null 2>&1 &"], check=True)
    """,
    "forkserver": """
        import multiprocessing
        multiprocessing.set_forkserver_preload([])
        from multiprocessing import forkserver
        forkserver.ensure_running()
    """,
    "forked": """
        import os, time
        if os.fork() == 0:
            time.sleep(80)
            os._exit(0)
    """,
    "zombie": """
        import os
        if os.fork() == 0:
            os._exit(0)
    """,
    "socket": """
        import socket
        kept.append(socket.socket())
    """,
    "pipe": """
        import os
        os.pipe()
    """,
    "zeromq": """
        import zmq
        kept.append(zmq.Context())
        kept.append(kept[-1].socket(zmq.PUSH))
    """,
    "nothing": "",
    "soon_gone": """
        import threading
        threading.Timer(0.05, print).start()
    """,
    "cycle": """
        import socket
        class Node: pass
        node = Node()
        node.itself, node.file = node, socket.socket().detach()
        import os
        os.close(node.file)
    """,
}
NAMED = {
    "thread": r"thread 'stray', daemon",
    "child": r"process \d+: sleep 77",
    "orphan": r"process \d+: sleep 78",
    "forkserver": r"process \d+: .*forkserver",
    "forked": r"process \d+: .*pytest",
    "zombie": r"process \d+: .*\(zombie\)",
    "socket": r"open file \d+: socket:",
    "pipe": r"open file \d+: pipe:",
    "zeromq": r"native thread \d+ .*ZeroMQ",
}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The guard's words on each test of a run of its own, by the test's name."""
    folder = tmp_path_factory.mktemp("guarded")
    source = CONFTEST.read_text(encoding="utf-8")
    assert "PATIENCE = 3.0" in source
    (folder / "conftest.py").write_text(source.replace("PATIENCE = 3.0", "PATIENCE = 0.2"))
    (folder / "pytest.ini").write_text("[pytest]\n")
    body = "kept = []\n"
    for name, text in LEAKS.items():
        body += f"\ndef test_{name}():\n    pass\n" + text.replace("\n        ", "\n    ")
    (folder / "test_leaks.py").write_text(body)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rE", "-W", "ignore", str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    found = re.findall(r"left behind by \S*::test_(\w+):\n((?:  .*\n)+)", run.stdout)
    assert found, run.stdout + run.stderr
    return dict(found)


@pytest.mark.parametrize("name", NAMED)
def test_leak_is_named(report: dict[str, str], name: str) -> None:
    assert re.search(NAMED[name], report[name])


@pytest.mark.parametrize("name", ["nothing", "soon_gone", "cycle"])
def test_clean_test_is_left_alone(report: dict[str, str], name: str) -> None:
    assert name not in report
