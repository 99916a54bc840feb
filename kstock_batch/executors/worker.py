"""A worker: a fresh interpreter that does the jobs it reads from its standard input, one a line.

It dies with whoever started it: its input then ends, and it takes its whole process group along, in which it may have
started processes of its own.
"""

import json
import os
import queue
import signal
import threading
from typing import BinaryIO

from kstock_batch.executors.jobs import answered


def serve(jobs: BinaryIO, answers: BinaryIO) -> None:
    """Answer every job until the input ends, which may come in the middle of one."""
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(jobs, waiting), daemon=True).start()
    while True:
        answer, files = answered(waiting.get())
        sizes = {name: len(data) for name, data in files.items()}
        answers.write(json.dumps({"answer": answer, "sizes": sizes}).encode() + b"\n")
        for data in files.values():
            answers.write(data)
        answers.flush()


def _read(jobs: BinaryIO, waiting: "queue.SimpleQueue[str]") -> None:
    for line in jobs:
        waiting.put(line.decode())
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(0)


def _main() -> None:
    jobs, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what a library prints must not stand among the answers
    serve(jobs, answers)


if __name__ == "__main__":
    _main()
