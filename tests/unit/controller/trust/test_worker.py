import threading

import pytest

from controller.trust.worker import DeadlineWorker, DecisionTimeoutError


def test_result_and_error_are_the_calls_own():
    worker = DeadlineWorker()
    assert worker.call(lambda: 3, 5.0) == 3
    with pytest.raises(KeyError, match="here"):
        worker.call(lambda: {}["here"], 5.0)
    worker.close()


def test_all_calls_run_in_one_thread_that_delays_no_exit():
    worker = DeadlineWorker()
    threads = {worker.call(threading.current_thread, 5.0) for _ in range(3)}
    (thread,) = threads
    assert thread.daemon
    assert thread is not threading.current_thread()
    worker.close()
    thread.join(5.0)
    assert not thread.is_alive()


def test_call_that_hangs_is_left_behind_and_its_thread_ends_when_it_comes_back():
    worker, let_go = DeadlineWorker(), threading.Event()
    found = []

    def hang():
        found.append(threading.current_thread())
        let_go.wait(30)

    with pytest.raises(DecisionTimeoutError, match="expected a decision within 0.05 s"):
        worker.call(hang, 0.05)
    let_go.set()
    found[0].join(5.0)
    assert not found[0].is_alive()
