"""What the server did, as Prometheus reads it (text format 0.0.4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from diptych.search.batching import Batcher

EDGES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counts of requests; written from the event loop only."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, int]] = Counter()
        self.slower: dict[str, list[int]] = {}
        self.seconds: Counter[str] = Counter()
        self.in_flight = self.held_bytes = 0

    def note(self, method: str, path: str, status: int, seconds: float) -> None:
        """One answered request. ``path`` is one of the server's own addresses, never what a caller made up."""
        self.requests[method, path, status] += 1
        self.seconds[path] += seconds  # type: ignore[assignment]
        buckets = self.slower.setdefault(path, [0] * (len(EDGES) + 1))
        buckets[next((at for at, edge in enumerate(EDGES) if seconds <= edge), len(EDGES))] += 1

    def text(self, batcher: Batcher, pictures: int | None) -> str:
        """The page ``/metrics``."""
        return "\n".join([*self._requests(), *_batches(batcher), *_gauges(self, batcher, pictures)]) + "\n"

    def _requests(self) -> Iterator[str]:
        yield "# HELP diptych_requests_total Requests answered, by method, address and status."
        yield "# TYPE diptych_requests_total counter"
        for (method, path, status), count in sorted(self.requests.items()):
            yield f'diptych_requests_total{{method="{method}",path="{path}",status="{status}"}} {count}'
        yield "# HELP diptych_request_seconds Seconds from the first byte read to the answer."
        yield "# TYPE diptych_request_seconds histogram"
        for path, buckets in sorted(self.slower.items()):
            yield from _histogram("diptych_request_seconds", f'path="{path}"', EDGES, buckets, self.seconds[path])


def _batches(batcher: Batcher) -> Iterator[str]:
    yield "# HELP diptych_batch_items Items that the model worked on together, by kind."
    yield "# TYPE diptych_batch_items histogram"
    for kind, counts in sorted(batcher.counts.items()):
        buckets = [0] * (len(SIZES) + 1)
        for size, times in list(counts.sizes.items()):
            buckets[next((at for at, edge in enumerate(SIZES) if size <= edge), len(SIZES))] += times
        yield from _histogram("diptych_batch_items", f'kind="{kind}"', SIZES, buckets, counts.items)
    yield "# HELP diptych_model_seconds_total Seconds that the model's thread worked, by kind."
    yield "# TYPE diptych_model_seconds_total counter"
    for kind, counts in sorted(batcher.counts.items()):
        yield f'diptych_model_seconds_total{{kind="{kind}"}} {counts.seconds:.6f}'


def _gauges(metrics: Metrics, batcher: Batcher, pictures: int | None) -> Iterator[str]:
    found: Mapping[str, tuple[str, int]] = {
        "diptych_queue_items": ("Items that wait for the model.", batcher.waiting),
        "diptych_requests_in_flight": ("Requests being worked on.", metrics.in_flight),
        "diptych_held_bytes": ("Bytes of request bodies in memory.", metrics.held_bytes),
        **({} if pictures is None else {"diptych_index_pictures": ("Pictures in the index.", pictures)}),
    }
    for name, (told, value) in found.items():
        yield from (f"# HELP {name} {told}", f"# TYPE {name} gauge", f"{name} {value}")


def _histogram(name: str, label: str, edges: tuple[float, ...], buckets: list[int], total: float) -> Iterator[str]:
    """Cumulative counts of values up to each edge; ``buckets`` holds one more than ``edges``."""
    below = 0
    for edge, count in zip((*edges, "+Inf"), buckets, strict=True):
        below += count
        yield f'{name}_bucket{{{label},le="{edge}"}} {below}'
    yield f"{name}_sum{{{label}}} {total:.6f}"
    yield f"{name}_count{{{label}}} {below}"
