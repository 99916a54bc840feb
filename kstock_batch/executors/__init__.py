"""Where jobs run: one after the other in this process, in processes beside it, or on the nodes of a Ray cluster."""

from kstock_batch.executors.choice import KINDS, make_executor
from kstock_batch.executors.jobs import Done, Executor, Job
from kstock_batch.executors.processes import ProcessExecutor
from kstock_batch.executors.serial import SerialExecutor

__all__ = ["KINDS", "Done", "Executor", "Job", "ProcessExecutor", "SerialExecutor", "make_executor"]
