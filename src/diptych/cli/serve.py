"""``diptych serve``: search in the browser, and the model behind an API."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diptych.cli.index import FOLDER
from diptych.cli.output import Output
from diptych.cli.verb import verb
from diptych.core.errors import DiptychError

NAME = "serve"


@verb
def command(
    out: Output,
    index: Annotated[Path | None, typer.Option("--index", help=f"Folder of an index; {FOLDER} where there is one.")] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Serve this model without an index; with --index, whose model it is.")
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to bind to; 0.0.0.0 is every address of this machine.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    token_file: Annotated[Path | None, typer.Option("--token-file", help="File with the token that every request has to show.")] = None,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Most pictures or texts that the model works on together.")] = 32,
    queue: Annotated[int, typer.Option("--queue", min=1, help="Most of them that wait; more get 429.")] = 512,
) -> None:
    """Serve a model, and an index with its page. Ctrl-C stops it after it has answered what it accepted."""
    token = read_token(token_file)
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise DiptychError("serve", f"it needs fastapi and uvicorn ({error})", "Install them: pip install 'diptych[serve]'") from error
    from diptych import load
    from diptych.search.index import Index
    from diptych.search.server import make_app
    from diptych.search.serving.limits import Limits
    from diptych.search.serving.run import bound, is_loopback, serve
    from diptych.search.serving.work import Service

    limits = Limits(batch=batch, queue=queue)
    at = bound(host, port)
    with at:
        index = index or (Path(FOLDER) if model is None and Path(FOLDER).is_dir() else None)
        opened = None if index is None else Index.open(index, model)
        service = Service(load(model or "mini") if opened is None else opened.model, opened, limits)
        app = make_app(service, token, is_loopback(host))
        address = f"http://{f'[{host}]' if ':' in host else host}:{at.getsockname()[1]}"
        if token is None and not is_loopback(host):
            out.say(f"warning: anybody who reaches {host} can use this server; --token-file asks for a token")
        facts = {"address": address, "model": service.model.config.name, "pictures": None if opened is None else len(opened)}
        held = "no index" if opened is None else f"{len(opened):,} pictures"
        out.result(facts, f"{address}  model {facts['model']}, {held}. Ctrl-C stops.")
        serve(app, limits, at)


def read_token(file: Path | None) -> str | None:
    """The token in a file, without white space around it. Raises :class:`DiptychError` when there is none."""
    if file is None:
        return None
    try:
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DiptychError(f"token file {file}", f"cannot be read ({error})", "Give a text file that holds the token") from error
    if not token.isascii() or not token.isprintable() or " " in token or len(token) < 16:
        raise DiptychError(f"token file {file}", "it holds no token of at least 16 plain characters", "Write one: openssl rand -hex 32")
    return token
