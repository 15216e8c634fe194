"""The gateway under test, as a real process: started, watched and stopped the way an operator does."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx

from benchmarks.ports import free_port
from tests.waiting import until

__all__ = ["ADMIN_KEY", "ROOT", "Gateway", "children_of"]

ADMIN_KEY = "operator-key-of-the-tests-0123456789"
ROOT = Path(__file__).resolve().parent.parent
OUTSIDE = {name: value for name, value in os.environ.items() if not name.startswith("TOLLGATE_")}


def children_of(pid: int, word: str = "") -> list[int]:
    """The processes below `pid`, at any depth, whose command line holds `word`."""
    found = []
    for path in Path("/proc").glob(f"{pid}/task/*/children"):
        for child in map(int, _read(path).split()):
            if word in _read(Path(f"/proc/{child}/cmdline")).replace("\0", " "):
                found.append(child)
            found += children_of(child, word)
    return found


def _read(path: Path) -> str:
    """Empty where the process has ended meanwhile."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


class Gateway:
    """`tollgate serve`, as an operator runs it. Its log is kept apart from its data."""

    def __init__(self, home: Path, **environ: str) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.data_dir = home / "data"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environ = {
            "TOLLGATE_PORT": str(self.port),
            "TOLLGATE_DATA_DIR": str(self.data_dir),
            "TOLLGATE_ADMIN_KEY": ADMIN_KEY,
            "TOLLGATE_WORKERS": "2",
            **environ,
        }
        self._home = home
        self._starts = 0
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self.process
        return self.process.pid

    @property
    def process_environ(self) -> dict[str, str]:
        """The whole environment of its processes; an empty setting is one that is not set."""
        environ = OUTSIDE | {name: value for name, value in self.environ.items() if value}
        if environ.pop("PYTHONDONTWRITEBYTECODE", None):  # compiling it all anew would take most of a start
            environ["PYTHONPYCACHEPREFIX"] = str(ROOT / ".pytest_cache" / "bytecode")
        return environ

    @property
    def database_url(self) -> str | None:
        return self.environ.get("TOLLGATE_DATABASE_URL")

    @property
    def log(self) -> str:
        """What the latest start printed so far."""
        path = self._home / f"log-{self._starts}.txt"
        return re.sub(r"\x1b\[[0-9;]*m", "", path.read_text(errors="replace"))

    def start(self, *, wait: bool = True) -> None:
        self._starts += 1
        with (self._home / f"log-{self._starts}.txt").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app.cli", "serve"],
                cwd=ROOT,
                env=self.process_environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        if wait:
            try:
                until(self.ready, f"the gateway is ready; its log is in {self._home}", seconds=30)
            except AssertionError:
                self.kill()
                raise

    def ready(self) -> bool:
        assert self.process
        if self.process.poll() is not None:
            raise AssertionError(f"the gateway ended with {self.process.returncode}:\n{self.log[-4000:]}")
        try:
            return httpx.get(f"{self.url}/health/ready", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    def stop(self) -> None:
        """SIGTERM; it must drain, leave nobody behind and exit 0."""
        if self.process is None:
            return
        family = children_of(self.pid)
        self.process.send_signal(signal.SIGTERM)
        self.ended()
        left = [pid for pid in family if _read(Path(f"/proc/{pid}/cmdline"))]  # a zombie has none
        assert not left, f"left running after the gateway's exit: {left}\n{self.log[-4000:]}"

    def ended(self, seconds: float = 60) -> None:
        """Waits for the exit after a SIGTERM sent by the test, and checks it. A request that waits for its vendor to
        the end of the drain (30 s) is given up 5 s later, and what was served is posted after that."""
        assert self.process
        try:
            code = self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"SIGTERM did not end the gateway:\n{self.log[-4000:]}") from None
        self.process = None
        assert code == 0, f"exit {code}:\n{self.log[-4000:]}"

    def kill(self) -> None:
        """Ends the gateway and its children at once; for one that does not end on its own."""
        if self.process:
            for pid in [*children_of(self.pid), self.pid]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait(timeout=10)
            self.process = None

    def files(self) -> Iterator[Path]:
        return (path for path in self.data_dir.rglob("*") if path.is_file())
