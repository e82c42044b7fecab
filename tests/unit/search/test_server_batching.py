"""Dynamic batching with work that marks every row: no answer can reach another job unseen."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
import torch

from diptych.core.errors import DiptychError
from diptych.core.rng import generator
from diptych.search.batching import Batcher, Busy, Stopping


class Marks:
    """Work that answers each item with itself, its kind and the number of its batch; it can be held back."""

    def __init__(self, kind: str = "a", seconds: float = 0.0) -> None:
        self.kind, self.seconds, self.batches, self.threads = kind, seconds, [], set()
        self.open = threading.Event()
        self.open.set()
        self.begun = threading.Event()

    def __call__(self, items):
        self.begun.set()
        assert self.open.wait(10)
        time.sleep(self.seconds)
        self.batches.append(list(items))
        self.threads.add(threading.get_ident())
        if "bad" in items:
            raise ValueError("a bad item")
        return [(item, self.kind) for item in items]


@pytest.fixture
def closing():
    made = []
    yield lambda *given, **named: made.append(Batcher(*given, **named)) or made[-1]
    for batcher in made:
        for work in batcher.works.values():
            getattr(work, "open", threading.Event()).set()
        batcher.close()


def held(closing, **named):
    """A batcher whose thread is busy with one item, so that everything else queues up."""
    work = Marks()
    work.open.clear()
    batcher = closing({"a": work}, **named)
    first = batcher.submit("a", ["first"])
    assert work.begun.wait(10)
    return batcher, work, first


def test_every_job_gets_its_own_answers(closing):
    """Jobs of random sizes and kinds from many threads, some of them cancelled."""
    works = {"a": Marks("a"), "b": Marks("b", 0.0005)}
    batcher = closing(works, batch=7, queue=100_000)

    def client(number: int) -> None:
        draws = generator(number, "client")
        for turn in range(60):
            kind = "ab"[int(torch.randint(2, (1,), generator=draws))]
            items = [(number, turn, at) for at in range(int(torch.randint(1, 20, (1,), generator=draws)))]
            job = batcher.submit(kind, items)
            if turn % 7 == 0:
                job.cancel()
            else:
                assert job.result(20) == [(item, kind) for item in items]

    with ThreadPoolExecutor(16) as clients:
        for done in [clients.submit(client, number) for number in range(16)]:
            done.result()
    assert max(len(batch) for work in works.values() for batch in work.batches) == 7
    assert len(works["a"].threads | works["b"].threads) == 1, "one thread owns the model"
    assert batcher.waiting == 0


def test_a_batch_is_what_gathered_while_the_thread_was_busy(closing):
    batcher, work, _ = held(closing, batch=4)
    jobs = [batcher.submit("a", [at]) for at in range(6)]
    work.open.set()
    assert [job.result(10)[0] for job in jobs] == [(at, "a") for at in range(6)]
    assert work.batches == [["first"], [0, 1, 2, 3], [4, 5]]
    assert batcher.counts["a"].sizes == {1: 1, 4: 1, 2: 1}
    assert (batcher.counts["a"].items, batcher.counts["a"].batches) == (7, 3)


def test_a_long_job_is_spread_over_batches(closing):
    batcher = closing({"a": Marks()}, batch=4)
    assert batcher.submit("a", list(range(11))).result(10) == [(at, "a") for at in range(11)]


def test_the_oldest_kind_goes_first(closing):
    work, other = Marks("a"), Marks("b")
    work.open.clear()
    batcher = closing({"a": work, "b": other}, batch=8)
    batcher.submit("a", ["first"])
    assert work.begun.wait(10)
    order = []
    for at, kind in enumerate("baab"):
        batcher.submit(kind, [at]).add_done_callback(lambda job: order.append(job.result()[0]))
    work.open.set()
    batcher.close()
    assert order == [(0, "b"), (3, "b"), (1, "a"), (2, "a")]


def test_a_full_queue_refuses_the_whole_job(closing):
    batcher, work, first = held(closing, queue=3)
    kept = batcher.submit("a", [1, 2])
    with pytest.raises(Busy) as refused:
        batcher.submit("a", [3, 4])
    assert refused.value.retry_after >= 1
    assert batcher.waiting == 2
    last = batcher.submit("a", [5])
    work.open.set()
    assert [len(job.result(10)) for job in (first, kept, last)] == [1, 2, 1]


def test_who_would_wait_too_long_is_refused_at_once(closing):
    batcher, work, _ = held(closing, batch=1, patience=0.2)
    batcher.counts["a"].pace = 0.05
    taken = [batcher.submit("a", [at]) for at in range(5)]
    with pytest.raises(Busy) as refused:
        batcher.submit("a", [5])
    assert refused.value.retry_after == 1
    work.open.set()
    assert len([job.result(10) for job in taken]) == 5


def test_a_bad_item_fails_its_own_job_only(closing):
    batcher, work, _ = held(closing)
    jobs = [batcher.submit("a", items) for items in ([1, 2], ["bad", 3], [4], ["bad", "bad"])]
    work.open.set()
    wait(jobs, 10)
    assert [job.exception() is None for job in jobs] == [True, False, True, False]
    assert jobs[0].result() == [(1, "a"), (2, "a")]
    assert jobs[2].result() == [(4, "a")]
    assert batcher.submit("a", [5]).result(10) == [(5, "a")], "the thread lives on"


def test_work_that_gives_too_few_answers_is_an_error(closing):
    batcher = closing({"a": lambda items: items[1:]})
    with pytest.raises(DiptychError, match="0 answers for 1 items"):
        batcher.submit("a", [1]).result(10)


def test_cancelled_items_are_not_worked_on(closing):
    batcher, work, _ = held(closing)
    gone, kept, later, last = [batcher.submit("a", items) for items in ([1, 2], [3], [4], [5])]
    assert gone.cancel()
    assert later.cancel()
    work.open.set()
    assert [kept.result(10), last.result(10)] == [[(3, "a")], [(5, "a")]]
    assert work.batches == [["first"], [3, 5]]


def test_closing_answers_what_was_accepted(closing):
    batcher, work, first = held(closing, batch=2)
    jobs = [batcher.submit("a", [at]) for at in range(5)]
    closer = threading.Thread(target=batcher.close)
    closer.start()
    while True:
        try:
            jobs.append(batcher.submit("a", ["late"]))
        except Stopping:
            break
    work.open.set()
    closer.join(10)
    assert not closer.is_alive()
    assert all(job.done() and job.exception() is None for job in (first, *jobs))


def test_nothing_is_answered_at_once(closing):
    assert closing({"a": Marks()}).submit("a", []).result(0) == []
