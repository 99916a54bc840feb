"""The verifier: a fresh process that has only duckdb opens a finished file read-only, looks for faults and digests it.

Nothing that this process cached, holds open or believes can hide a fault from it. It is started before the file is
built, because importing duckdb takes as long as looking, and waits for its order on stdin.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from kstock_batch.quoting import quoted_text
from kstock_batch.store.queries import Query

VERIFY_SECONDS = 300

# Small statements, because DuckDB plans one large one longer than it answers it.
_STATEMENTS = ("serve/verify_rows", "serve/verify_digests", "serve/verify_newest")

# One line says what went wrong: DuckDB's own words go on with the statement and a caret, which tell a person nothing.
# Without a progress bar: DuckDB takes `-c` for a person, and would draw one into the answer after two seconds.
_PROGRAM = """
import sys
sys.excepthook = lambda kind, error, at: print((str(error) or kind.__name__).splitlines()[0], file=sys.stderr)
import hashlib, json, threading
import duckdb
con = duckdb.connect(":memory:")
con.execute("SET enable_progress_bar = false")
path, attach, statements, given = json.load(sys.stdin)
digests = []
def digest():
    with open(path, "rb") as file:
        digests.append(hashlib.file_digest(file, "sha256").hexdigest())
digesting = threading.Thread(target=digest)
digesting.start()
con.execute(attach)
con.execute("USE published")
given["as_of"] = con.execute("SELECT max(as_of) FROM publication").fetchall()[0][0]
faults = []
for statement, names in statements:
    faults += con.execute(statement, {name: given[name] for name in names}).fetchall()
digesting.join()
json.dump({"faults": faults, "sha256": digests[0]}, sys.stdout)
"""


@dataclass(frozen=True)
class Verdict:
    """What a fresh process found: faults in words ("" = sound), and the SHA-256 of the file's bytes."""

    faults: str
    sha256: str


class Verifier:
    """A process that verifies one file; use it as a context manager, which also ends one that was not needed."""

    def __init__(self) -> None:
        # -P: a file called duckdb.py in this folder is not meant
        command = [sys.executable, "-P", "-c", _PROGRAM]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    def __enter__(self) -> "Verifier":
        """Return self."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def verify(self, path: Path, params: Mapping[str, Any]) -> Verdict:
        """Return what is wrong with the file at ``path``; ``params`` are those of sql/serve/verify_*.sql but as_of."""
        attach = f"ATTACH {quoted_text(path)} AS published (READ_ONLY)"
        statements = [(query.text, query.declared) for query in map(Query.load, _STATEMENTS)]
        order = json.dumps([str(path), attach, statements, params], default=str)
        try:
            said, complained = self._process.communicate(order, timeout=VERIFY_SECONDS)
        except subprocess.TimeoutExpired:
            return Verdict(f"a fresh process could not read it within {VERIFY_SECONDS} s", "")
        if self._process.returncode:
            why = (complained.strip() or f"exit status {self._process.returncode}").splitlines()[-1]
            return Verdict(f"a fresh process cannot read it: {why}", "")
        found = json.loads(said)
        told = (f"{fact} should be {wanted} but is {value}" for fact, wanted, value in found["faults"])
        return Verdict("; ".join(told), found["sha256"])
