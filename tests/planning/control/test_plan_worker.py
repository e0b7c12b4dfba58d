"""The thread that plans: what it answers, what it raises, how it ends."""

import threading

import pytest

from planning.control.plan_worker import PlanWorker


def test_it_answers_in_another_thread_one_after_the_other():
    worker, threads = PlanWorker(), []

    def double(number):
        threads.append(threading.get_ident())
        return 2 * number

    futures = [worker.submit(double, number) for number in range(4)]
    assert [future.result(5) for future in futures] == [0, 2, 4, 6]
    assert len(set(threads)) == 1 and threads[0] != threading.get_ident()
    assert worker.close(5)


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(3)])
def test_whatever_is_raised_is_held_for_the_loop_and_the_thread_lives_on(error):
    worker = PlanWorker()

    def fails(request):
        raise error

    assert worker.submit(fails, None).exception(5) is error
    assert worker.submit(str, 7).result(5) == "7"
    assert worker.close(5)


def test_closing_waits_for_the_work_but_not_for_ever():
    worker, may_end = PlanWorker(), threading.Event()
    future = worker.submit(lambda request: may_end.wait(10), None)
    assert not worker.close(0.05)
    may_end.set()
    assert future.result(5) is True
    assert worker.close(5)
