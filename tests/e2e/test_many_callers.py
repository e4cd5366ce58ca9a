"""Threads and forked children of one client, and as many large results as a process may hold."""

from __future__ import annotations

import os
import resource
import sys
import threading
from typing import Any

import pytest

from e2e.apps import call, outputs
from e2e.processes import until


def test_many_threads_of_one_client(app):
    echo = app("def f(x): return x", f={})
    answers: list[Any] = []

    def ask(number: int) -> None:
        answers.extend(echo.remote("f", number * 100 + each) for each in range(20))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(answers) == sorted(number * 100 + each for number in range(8) for each in range(20))


def test_a_forked_child_of_the_client_may_call(app):
    echo = app("def f(x): return x", f={})
    assert echo.remote("f", 1) == 1
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(echo.remote("f", 42))
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 42
    assert echo.remote("f", 2) == 2


@pytest.mark.parametrize("may_raise", [True, False], ids=["soft limit", "hard limit"])
def test_more_large_results_than_a_process_may_hold_files(app, start, may_raise):
    """Files are how large values travel: there are as many as the process may have, and then words."""
    count, room = 120, 60
    source = "def f(x): return bytes([x]) * (2 << 20)\ndef g(x): return x"
    another = app(source, g={})
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        said = "nothing"
        try:
            free_from = os.dup(0)
            limit = free_from + room
            resource.setrlimit(
                resource.RLIMIT_NOFILE,
                (limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1] if may_raise else limit),
            )
            mine = start(source, f={})
            made = call(mine, "f", *range(count))
            until(lambda: made.unanswered == 0, "all results")
            answers = outputs(made, count)
            failed = [output for output in answers if output.status != "success"]
            said = f"{len(answers) - len(failed)} {failed[0].error} {failed[0].message}" if failed else "all"
        except BaseException as error:
            said = repr(error)
        finally:
            os.write(writing, said.encode())
            os._exit(0)
    os.close(writing)
    with open(reading) as told:
        said = told.read()
    os.waitpid(pid, 0)
    if may_raise:
        assert said == "all"
    else:
        assert "ResourceExhaustedError" in said
        assert "ulimit -n" in said
    assert another.remote("g", 1) == 1
