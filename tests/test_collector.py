"""The collector's pause: nothing is left otherwise than it was found."""

import gc
import os
import threading

import pytest

from kstock_batch.bot.collector import CollectorPause


@pytest.fixture(autouse=True)
def collector_on():
    gc.enable()
    yield
    gc.enable()


def test_the_collector_rests_inside_and_works_again_afterwards():
    with CollectorPause():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_it_works_again_after_an_error():
    with pytest.raises(ZeroDivisionError), CollectorPause():
        raise ZeroDivisionError
    assert gc.isenabled()


def test_a_program_that_keeps_it_off_finds_it_off():
    gc.disable()
    with CollectorPause():
        pass
    assert not gc.isenabled()


def test_it_rests_until_the_last_of_several_threads_has_left():
    pause, entered, leave = CollectorPause(), threading.Event(), threading.Event()

    def other() -> None:
        with pause:
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with pause:
        thread.start()
        assert entered.wait(10)
    assert not gc.isenabled()  # the first has left, the second makes its rows still
    leave.set()
    thread.join(10)
    assert gc.isenabled()


def test_many_threads_leave_it_on():
    pause = CollectorPause()

    def often() -> None:
        for _ in range(2000):
            with pause:
                pass

    threads = [threading.Thread(target=often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert gc.isenabled()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_forked_inside_has_a_collector_that_works():
    pause = CollectorPause()
    with pause:
        child = os.fork()
        if not child:  # of a thread that would have left nothing is here
            with pause:
                pass
            os._exit(0 if gc.isenabled() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert gc.isenabled()
