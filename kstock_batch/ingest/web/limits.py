"""How much may be asked of a source: how long it is waited for, how often it is tried, how many calls a day."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What a source allows, or what we allow ourselves with it.

    Attributes
    ----------
    timeout_s : seconds to connect, and between two pieces of an answer
    attempts : how often one question is sent at most, the first time included
    wait_s, wait_max_s : seconds before the second attempt (then twice as long each time, with jitter), and at most
    calls_a_day : requests sent in a day of Seoul, retries included; 0 = as many as it takes
    min_interval_s : seconds between two requests, whichever process sends them
    answer_s : seconds for a whole answer: one that drips forever is none
    """

    timeout_s: float = 30.0
    attempts: int = 4
    wait_s: float = 1.0
    wait_max_s: float = 60.0
    calls_a_day: int = 0
    min_interval_s: float = 0.3
    answer_s: float = 300.0
