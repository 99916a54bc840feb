"""Pings: a monitor elsewhere is told that a job began and how it ended, so that one which never began is missed too.

The addresses are those of healthchecks.io and what is built like it: ``URL/start``, ``URL`` when all went well, and
``URL/15`` with the exit code when not. Whatever the monitor does, the job goes on and ends as it would have.
"""

import os
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.parse import urlsplit

from kstock_batch.errors import ChallengerRefused, KStockError
from kstock_batch.redaction import redacted

PATIENCE_S = 10.0
LONGEST_TOLD = 10_000  # bytes: what healthchecks.io keeps of a ping

Tell = Callable[[str], None]


def variable(job: str) -> str:
    """Return the environment variable that holds the address of a job's monitor."""
    return f"KSTOCK_PING_{job.upper()}_URL"


@contextmanager
def pinged(job: str, warn: Tell, environ: Mapping[str, str] = os.environ) -> Iterator[Tell]:
    """Ping that ``job`` begins, and at the end how it went; yield how to say what the last ping carries.

    ``warn`` hears, in one sentence without the address, what a ping met; nothing is raised for it.
    """
    address = environ.get(variable(job), "").strip()
    said: list[str] = []
    if not address:
        yield said.append
        return
    started = _sending(address, "/start", "", job, warn)
    try:
        yield said.append
    except ChallengerRefused as error:  # the gate did its work: the job went well
        ending = ("", str(error))
        raise
    except KStockError as error:
        ending = (f"/{error.exit_code}", str(error))
        raise
    except BaseException as error:
        ending = ("/fail", f"{type(error).__name__}: {error}")
        raise
    else:
        ending = ("", "\n".join(said))
    finally:
        started.join(PATIENCE_S)  # the end must not overtake the beginning
        _sending(address, *ending, job, warn).join(PATIENCE_S)


def _sending(address: str, path: str, text: str, job: str, warn: Tell) -> threading.Thread:
    """Return the thread that sends a ping: even a name server that hangs keeps no job from ending."""
    thread = threading.Thread(target=_send, args=(address, path, text, job, warn), daemon=True)
    thread.start()
    return thread


def _send(address: str, path: str, text: str, job: str, warn: Tell) -> None:
    body = redacted(text).encode(errors="replace")[:LONGEST_TOLD]
    try:
        if urlsplit(address).scheme not in ("http", "https"):
            raise ValueError("its address begins with neither http:// nor https://")
        with urllib.request.urlopen(address.rstrip("/") + path, data=body, timeout=PATIENCE_S):
            pass
    except (OSError, ValueError, HTTPException) as error:
        # The address is a secret: whoever has it can say that all is well.
        if isinstance(error, HTTPError):
            error.close()  # it is the answer too
        why = str(error).replace(address, "its address") or type(error).__name__
        warn(f"the monitor of {job} ({variable(job)}) could not be told: {why}")
