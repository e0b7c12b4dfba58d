"""An import changes nothing and speaks to nobody: no socket, no process, no thread."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("data_pipelines", "jepa", "planning")

# Runs in a child, as an audit hook stays for ever: imports every module, tells what was asked of
# the system meanwhile. What a package of others does then counts too: our import has caused it.
IMPORT_ALL = """
import _thread, importlib, json, sys, threading

EVENTS = (
    "socket.", "urllib.", "http.client.", "ftplib.", "smtplib.", "webbrowser.", "subprocess.",
    "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "pty.spawn",
)
asked, module = [], ""
def listen(event, arguments):
    if event.startswith(EVENTS):
        asked.append([module, event])
sys.addaudithook(listen)
start = _thread.start_new_thread  # older Pythons tell no audit hook of it
def heard(*arguments):
    asked.append([module, "thread"])
    return start(*arguments)
_thread.start_new_thread = threading._start_new_thread = heard
missing = {}
for module in json.loads(sys.argv[1]):
    try:
        importlib.import_module(module)
    except ImportError as error:
        missing[module] = str(error)
print(json.dumps([asked, missing, threading.active_count()]))
"""


def modules():
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]
    return sorted(name.removesuffix(".__init__") for name in names)


def imported(names):
    """What was asked of the system, what modules lack an optional package, how many threads run."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, json.dumps(names)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_no_import_opens_a_socket_or_starts_a_process_or_a_thread():
    """Seen to fail with `subprocess.run(["true"])` at the top of jepa/version.py: it was named."""
    names = modules()
    assert len(names) > 400 and {"jepa.__main__", "planning.control.mpc"} <= set(names)
    asked, missing, threads = imported(names)
    assert asked == [] and threads == 1
    assert all("pip install" in message for message in missing.values()), missing


def test_what_an_import_asks_of_the_system_would_be_heard(tmp_path, monkeypatch):
    """The hook, on imports that do what it listens to."""
    sins = {
        "starts": "import subprocess\nsubprocess.run(['true'])",
        "speaks": "import socket\nsocket.socket().close()",
        "threads": "import threading\nthreading.Thread(target=print).start()",
        "forks": "import os\nif not os.fork():\n    os._exit(0)",
        "shells": "import os\nos.system('true')",
    }
    for name, source in sins.items():
        (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    asked, _, _ = imported(sorted(sins))
    assert {module for module, _ in asked} == sins.keys()
