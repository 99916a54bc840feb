"""Errors raised on purpose: each says what happened, with which value, and what to do.

Standard library and Python 3.9 syntax only, because the bot's environment imports this module.
"""


class KStockError(Exception):
    """Base of every error raised on purpose; the CLI prints it without a traceback."""

    exit_code = 1

    def __init__(self, what: str, *, fix: str) -> None:
        super().__init__(f"{what}\n  fix: {fix}")
        self.what = what
        self.fix = fix


class ConfigError(KStockError):
    """A setting or option has a value that cannot be used."""

    exit_code = 2


class DataNotReady(KStockError):
    """The data needed for the asked session are absent or incomplete."""

    exit_code = 3


class AuditFailed(KStockError):
    """An audit of severity `fail` returned offending rows."""

    exit_code = 4


class StalePredictions(KStockError):
    """The newest publication is older than the caller accepts."""

    exit_code = 5


class WarehouseLocked(KStockError):
    """Another process is writing the store."""

    exit_code = 6


class SourceError(KStockError):
    """A source folder or file cannot be read as what it should be."""

    exit_code = 7


class RowsRefused(KStockError):
    """More rows of a source break the table contract than may be set aside."""

    exit_code = 8


class StoreIncompatible(KStockError):
    """The store was made by a newer version, or is no store."""

    exit_code = 9


class ModelRefused(KStockError):
    """A model does not fit the features, or its files are not the ones that were saved."""

    exit_code = 10


class NoChampion(KStockError):
    """No model version has been promoted yet."""

    exit_code = 11


class DiskFull(KStockError):
    """The disk has no room for what had to be written."""

    exit_code = 12


class NoPublication(KStockError):
    """There is no readable publication at the given path."""

    exit_code = 13


class NotEnoughHistory(KStockError):
    """Too few sessions are stored to train or to validate honestly."""

    exit_code = 14


class SqlContractError(KStockError):
    """A statement under sql/ does not match its own header."""


class NoMemberScored(KStockError):
    """None of the ensemble's members produced a score."""


class ChallengerRefused(KStockError):
    """A retrained model was stored but is not good enough to serve."""

    exit_code = 15


class PublicationRefused(KStockError):
    """The serving file could not be built, or is not what it must be."""

    exit_code = 16


class TargetFailed(KStockError):
    """The night is published, but a second target does not hold it."""

    exit_code = 17


class CheckFailed(KStockError):
    """Something that ``kstock-batch check`` looks at needs a person."""

    exit_code = 18


class PublicationGated(KStockError):
    """A session fails gates that must hold before it is published."""

    exit_code = 19


class TimeLimitReached(KStockError):
    """A question took longer than it was given."""

    exit_code = 21


class SourceUnreachable(KStockError):
    """A live source gave no answer that can be used, after the retries that were worth it."""

    exit_code = 22


class SourceBlocked(KStockError):
    """A live source has shut us out: it is left alone until the block is over."""

    exit_code = 23


class SourceChanged(KStockError):
    """A live source answers in another shape than was agreed."""

    exit_code = 24


class CredentialRefused(KStockError):
    """A live source does not accept the key or login it was given, or none was given."""

    exit_code = 25


class BudgetSpent(KStockError):
    """The calls a live source allows in a day are used up."""

    exit_code = 26


class ScheduleRefused(KStockError):
    """The machine's scheduler cannot be told what to run."""

    exit_code = 27


class ReplayDiffers(KStockError):
    """A past night, rebuilt, does not come out as what was published of it."""

    exit_code = 30


class JobFailed(KStockError):
    """A job handed to an executor ended without a result: by a fault of the program, or by its workers' deaths."""

    exit_code = 31
