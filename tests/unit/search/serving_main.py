"""A server in a process of its own, for the tests that watch its memory or kill it: prints its port, then serves."""

from __future__ import annotations

from diptych.search.server import make_app
from diptych.search.serving.limits import Limits
from diptych.search.serving.run import bound, serve
from diptych.search.serving.work import Service


def main(model, index=None, limits=Limits()) -> None:  # noqa: B008
    with bound("127.0.0.1", 0) as at:
        app = make_app(Service(model, index, limits), loopback=True)
        print(at.getsockname()[1], flush=True)
        serve(app, limits, at)
