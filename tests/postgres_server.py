"""A real PostgreSQL server on loopback, in a folder of its own, for as long as a test needs it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

USER, PASSWORD = "night", "geheim-7Q/x@y"  # with signs that must be escaped in a URI
ESCAPED = "geheim-7Q%2Fx%40y"
STARTED_WITHIN_S = 60
DEBIANS = Path("/usr/lib/postgresql")


@dataclass
class PostgresServer:
    """The server: its process, its port, and the URI of its one user."""

    folder: Path
    port: int
    programs: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"postgresql://{USER}:{ESCAPED}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        sockets = f"unix_socket_directories={self.folder}"
        options = ("listen_addresses=127.0.0.1", f"port={self.port}", sockets, "fsync=off")
        settings = [part for option in options for part in ("-c", option)]
        with (self.folder / "log").open("ab") as log:
            command = [self.programs / "postgres", "-D", self.folder / "data", *settings]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, **_as_another_user())
        deadline = time.monotonic() + STARTED_WITHIN_S
        while not self._answers():
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.05)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)  # "fast": connections are cut
            self.process.wait(timeout=STARTED_WITHIN_S)

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        """Return a statement's rows as another program would, in a connection of its own."""
        from adbc_driver_postgresql import dbapi

        with closing(dbapi.connect(self.uri, autocommit=True)) as con, con.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall()

    def do(self, *statements: str) -> None:
        from adbc_driver_postgresql import dbapi

        with closing(dbapi.connect(self.uri, autocommit=True)) as con, con.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def _answers(self) -> bool:
        command = [self.programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(command, check=False).returncode == 0


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Start a server of an empty cluster, or skip with the reason why there is none; it is gone afterwards."""
    programs = _programs()
    # Not in pytest's folder: that is root's alone, and the server refuses to run as root.
    folder = Path(tempfile.mkdtemp(prefix="kstock-pg-"))
    try:
        secret = folder / "secret"
        secret.write_text(PASSWORD)
        if user := _as_another_user().get("user"):
            for path in (folder, secret):
                shutil.chown(path, user)
        command = [programs / "initdb", "-D", folder / "data", "-U", USER, "-A", "scram-sha-256", "--pwfile", secret]
        options = ("-E", "UTF8", "--locale", "C", "--no-sync")
        made = subprocess.run(
            [*command, *options], capture_output=True, text=True, check=False, cwd=folder, **_as_another_user()
        )
        assert made.returncode == 0, made.stderr
        server = PostgresServer(folder, _free_port(), programs)
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


def _programs() -> Path:
    """Return the folder of initdb and postgres; Debian keeps them out of PATH."""
    newest_first = sorted(DEBIANS.glob("*/bin"), key=lambda path: -float(path.parent.name))
    on_path = [Path(found).resolve().parent for found in [shutil.which("initdb")] if found]
    for folder in (*on_path, *newest_first):
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    pytest.skip("no PostgreSQL server is installed: apt-get install postgresql")


def _as_another_user() -> dict[str, Any]:
    """Return what subprocess needs to leave root, which the server refuses to run as."""
    return {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
