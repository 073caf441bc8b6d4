"""Calls behind the caller: in order, bounded, and no error is lost."""

import threading

import pytest

from extract.compute.behind import Behind


def test_calls_are_made_in_order_by_one_thread_and_all_of_them():
    seen = []
    with Behind("write", ahead=2) as behind:
        for number in range(50):
            behind.call(lambda n=number: seen.append((n, threading.current_thread().name)))

    assert [number for number, _ in seen] == [*range(50)]
    assert len({name for _, name in seen}) == 1


def test_the_caller_is_never_far_ahead():
    release, started = threading.Semaphore(0), []

    def slow(number):
        started.append(number)
        assert release.acquire(timeout=60)

    ahead = []
    with Behind("write", ahead=2) as behind:
        for number in range(10):
            if number >= 2:
                release.release()
            behind.call(slow, number)
            ahead.append(number - len(started) + 1)
        release.release(10)

    assert started == [*range(10)]
    assert max(ahead) <= 3


def test_an_error_of_a_call_reaches_the_caller_and_what_comes_after_is_dropped():
    seen = []

    def fail():
        raise OSError("no space")

    def run():
        with Behind("write", ahead=1) as behind:
            behind.call(fail)
            for number in range(100):
                behind.call(seen.append, number)

    with pytest.raises(OSError, match="no space"):
        run()
    assert seen == []


def test_what_was_due_behind_a_failing_call_is_not_done():
    """The next call would else write the rest of a video whose middle is missing."""
    due, seen = threading.Event(), []

    def fail():
        assert due.wait(60)
        raise OSError("no space")

    def run():
        with Behind("write", ahead=9) as behind:
            behind.call(fail)
            behind.call(seen.append, 1)
            behind.call(seen.append, 2)
            due.set()

    with pytest.raises(OSError, match="no space"):
        run()
    assert seen == []


def test_an_error_of_the_last_call_is_raised_on_leaving():
    def fail():
        raise OSError("no space")

    behind = Behind("write", ahead=9)
    with pytest.raises(OSError, match="no space"), behind:
        behind.call(fail)


def test_an_error_of_the_caller_waits_for_the_call_in_work_and_drops_the_rest():
    entered, release, seen = threading.Event(), threading.Event(), []

    def slow():
        entered.set()
        assert release.wait(60)
        seen.append("slow")

    def run():
        with Behind("write", ahead=9) as behind:
            behind.call(slow)
            behind.call(seen.append, "later")
            assert entered.wait(60)
            release.set()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert seen[0] == "slow"
