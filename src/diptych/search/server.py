"""The server: the model's rows, labels and search over HTTP, and the page that searches.

    app = make_app(Service(model, index))
    run(app, "127.0.0.1", 8000)

What a request may say stands in :mod:`diptych.search.serving.forms`, what it may cost in ``limits``; the schema is at ``/openapi.json``.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response
from pydantic_core import to_json
from starlette.exceptions import HTTPException

from diptych import __version__
from diptych.core.errors import DiptychError
from diptych.search.index import Index
from diptych.search.query import Hit
from diptych.search.serving import forms
from diptych.search.serving.errors import Refused, as_response, on_error, on_failure, on_http
from diptych.search.serving.guard import Guard, TooLarge
from diptych.search.serving.metrics import Metrics
from diptych.search.serving.schema import PICTURE_TYPES, RESPONSES, body, with_schemas
from diptych.search.serving.thumbnails import SIZES, Thumbnails
from diptych.search.serving.work import Service

RENEW_SECONDS = 10.0
KNOWN = 16  # pictures that are asked for their columns
DIGITS = 7  # of the numbers of a row; float32 knows no more
PAGE = {
    "/": ("index.html", "text/html"),
    "/app.js": ("app.js", "text/javascript"),
    "/style.css": ("style.css", "text/css"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
Endpoint = Callable[[Request], Awaitable[Response]]


def make_app(service: Service, token: str | None = None, loopback: bool = False) -> FastAPI:
    """The application.

    Args:
        service: model and index; closed with the application.
        token: asked for as ``Authorization: Bearer …`` everywhere but on the page's own files and ``/healthz``.
        loopback: refuse requests whose Host header does not name this machine.
    """

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        renewing = asyncio.create_task(_renew(service))
        yield
        renewing.cancel()
        await asyncio.to_thread(service.close)

    app = FastAPI(title="diptych", version=__version__, lifespan=life, docs_url=None, redoc_url=None, redirect_slashes=False)
    metrics = Metrics()
    routes = Routes(service, metrics)
    table = routes.table()
    for (method, path), (endpoint, form, told) in table.items():
        app.add_api_route(
            path, endpoint, methods=[method], summary=told, openapi_extra=body(form), responses=RESPONSES, response_class=Response
        )
    for kind, handler in ((DiptychError, on_error), (HTTPException, on_http), (TooLarge, _on_too_large), (Exception, on_failure)):
        app.add_exception_handler(kind, handler)
    app.add_middleware(
        Guard,  # type: ignore[arg-type]
        limits=service.limits,
        metrics=metrics,
        token=token,
        loopback=loopback,
        addresses=frozenset(path for _, path in table),
    )
    with_schemas(app)
    return app


async def _renew(service: Service) -> None:
    """Look now and then whether the index has changed."""
    while True:
        await asyncio.sleep(RENEW_SECONDS)
        await service.renew()


class Routes:
    """What is answered at each address."""

    def __init__(self, service: Service, metrics: Metrics) -> None:
        self.service, self.metrics = service, metrics
        self.thumbnails = None if service.index is None else Thumbnails(service.index, service.limits.pixels)
        page = files("diptych.search") / "page"
        self.page = {path: ((page / name).read_bytes(), kind) for path, (name, kind) in PAGE.items()}

    def table(self) -> dict[tuple[str, str], tuple[Endpoint, type[forms.Form] | None, str]]:
        """By method and address: the endpoint, its body, and a line about it."""
        found: dict[tuple[str, str], tuple[Endpoint, type[forms.Form] | None, str]] = {
            ("POST", "/embed/text"): (self.embed_text, forms.Texts, "Unit rows of texts"),
            ("POST", "/embed/image"): (
                self.embed_image,
                forms.Images,
                "Unit rows of pictures: data URLs in JSON, or the bytes of one picture",
            ),
            ("POST", "/classify"): (self.classify, forms.Classify, "The likeliest of your labels for each picture"),
            ("POST", "/v1/embeddings"): (self.embeddings, forms.Embeddings, "Rows of texts and pictures in OpenAI's form"),
            ("GET", "/v1/models"): (self.models, None, "The model, in OpenAI's form"),
            ("GET", "/about"): (self.about, None, "The model and the index"),
            ("GET", "/healthz"): (self.healthz, None, "Whether the server answers"),
            ("GET", "/metrics"): (self.numbers, None, "Counts for Prometheus"),
        }
        if self.service.index is not None:
            found |= {
                ("POST", "/search"): (self.search, forms.Search, "Pictures of the index for words, pictures and ids"),
                ("POST", "/feedback"): (self.feedback, forms.Feedback, "Say whether a picture was a right answer"),
                ("GET", "/pictures/{id}"): (self.picture, None, "A picture of the index, made small"),
            }
        return found | {("GET", path): (self.file, None, "The page") for path in PAGE}

    async def within(self, answer: Awaitable[Any]) -> Any:
        """What is awaited, or a 503 when it takes too long; what still waits is then taken out of the queue."""
        seconds = self.service.limits.seconds
        try:
            async with asyncio.timeout(seconds):
                return await answer
        except TimeoutError as error:
            raise Refused(503, "server", f"no answer within {seconds:g} s", "Try again", {"Retry-After": "1"}) from error

    @property
    def name(self) -> str:
        """Of the model."""
        return self.service.model.config.name

    async def embed_text(self, request: Request) -> Response:
        """``{"model", "dim", "rows"}``."""
        form = await forms.read(request, forms.Texts)
        return self._rows(await self.within(self.service.text_rows(form.texts)))

    async def embed_image(self, request: Request) -> Response:
        """The same for pictures."""
        kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
        if kind in PICTURE_TYPES:
            raw = [await request.body()]
        else:
            form = await forms.read(request, forms.Images)
            raw = [forms.picture(item) for item in form.images]
        return self._rows(await self.within(self.service.image_rows(raw)))

    def _rows(self, rows_ND: np.ndarray) -> Response:
        return json_response({"model": self.name, "dim": rows_ND.shape[1], "rows": rounded(rows_ND)})

    async def classify(self, request: Request) -> Response:
        """``{"labels", "results": [{"label", "probability", "top"}]}``."""
        form = await forms.read(request, forms.Classify)
        labels, results = await self.within(self.service.classify(form))
        return json_response({"labels": labels, "results": results})

    async def embeddings(self, request: Request) -> Response:
        """OpenAI's ``{"object": "list", "data": […], "model", "usage"}``."""
        form = await forms.read(request, forms.Embeddings)
        if form.model != self.name:
            raise Refused(404, "model", f"this server has {self.name!r}", f'Ask with "model": "{self.name}"')
        dim = self.service.model.embed_dim
        if form.dimensions not in (None, dim):
            raise Refused(422, "dimensions", f"rows of this model have {dim} values", "Leave it out")
        rows_ND, tokens = await self.within(self._inputs([form.input] if isinstance(form.input, str) else form.input))
        if form.encoding_format == "base64":
            values: list[Any] = [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in rows_ND]
        else:
            values = rounded(rows_ND)
        data = [{"object": "embedding", "index": at, "embedding": value} for at, value in enumerate(values)]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return json_response({"object": "list", "data": data, "model": self.name, "usage": usage})

    async def _inputs(self, items: list[str | forms.ImagePart]) -> tuple[np.ndarray, int]:
        """Rows of texts and pictures in their order, and the tokens of the texts."""
        urls = [item.image_url.url if isinstance(item, forms.ImagePart) else item for item in items]
        pictures = [at for at, url in enumerate(urls) if url.startswith(forms.DATA)]
        words = sorted(set(range(len(urls))) - set(pictures))
        rows_ND = np.empty((len(urls), self.service.model.embed_dim), dtype=np.float32)
        tokens = 0
        if words:
            texts = [urls[at] for at in words]
            rows_ND[words] = await self.service.text_rows(texts)
            tokens = await self.service.text_tokens(texts)
        if pictures:
            rows_ND[pictures] = await self.service.image_rows([forms.picture(urls[at]) for at in pictures])
        return rows_ND, tokens

    async def models(self, _: Request) -> Response:
        """OpenAI's list, of one."""
        return json_response({"object": "list", "data": [{"id": self.name, "object": "model", "owned_by": "diptych"}]})

    async def search(self, request: Request) -> Response:
        """``{"answer", "results": [{"id", "name", "score", "similarity", "caption", "label", "meta", "duplicates"}]}``."""
        form = await forms.read(request, forms.Search)
        answer = await self.within(self.service.search(form))
        return json_response({"answer": answer.answer, "searched": answer.searched, "results": [hit_json(hit) for hit in answer.results]})

    async def feedback(self, request: Request) -> Response:
        """``{"noted": true}``."""
        form = await forms.read(request, forms.Feedback)
        await self.within(self.service.feedback(form))
        return json_response({"noted": True})

    async def picture(self, request: Request) -> Response:
        """A JPEG, ``?size=320`` or ``1280`` pixels at most."""
        id, size = request.path_params["id"], request.query_params.get("size", "320")
        assert self.thumbnails is not None
        if not re.fullmatch(forms.ID, id):
            raise Refused(404, "picture", "an id has 16 hexadecimal digits", "Use an id that a search has shown")
        if size not in map(str, SIZES):
            raise Refused(422, "size", f"sizes are {SIZES[0]} and {SIZES[1]}", f"Ask for ?size={SIZES[0]}")
        made = await self.within(self.service.decoding.run(self.thumbnails.get, id, int(size)))
        return Response(made, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=300"})

    async def about(self, _: Request) -> Response:
        """``{"model", "dim", "version", "pictures", "columns"}``; without an index the last two are null and empty."""
        index, model = self.service.index, self.service.model
        pictures, columns = (None, []) if index is None else (len(index), await self.within(self.service.searching.run(columns_of, index)))
        facts = {"model": self.name, "dim": model.embed_dim, "version": __version__, "pictures": pictures, "columns": columns}
        return json_response(facts)

    async def healthz(self, _: Request) -> Response:
        """``{"status": "ok"}``."""
        return json_response({"status": "ok"})

    async def numbers(self, _: Request) -> Response:
        """Prometheus' text."""
        index = self.service.index
        text = self.metrics.text(self.service.batcher, None if index is None else len(index))
        return Response(text, media_type="text/plain; version=0.0.4")

    async def file(self, request: Request) -> Response:
        """One of the page's files."""
        content, kind = self.page[request.url.path]
        return Response(content, media_type=kind, headers={"Cache-Control": "no-cache"})


def columns_of(index: Index) -> list[str]:
    """Names that a filter may use: those of the first pictures' own columns, and the ones every picture has."""
    first = index.ids()[:KNOWN]
    own = {name: None for id in first for name in index.row(id)["meta"]}
    return list(dict.fromkeys(["caption", "label", "year", "size", *own]))


def hit_json(hit: Hit) -> dict[str, Any]:
    """A hit as a caller sees it: the file's name, never where it lies."""
    return {
        "id": hit.id,
        "name": re.split(r"[/\\]", hit.path)[-1],
        "score": round(hit.score, 4),
        "similarity": round(hit.similarity, 4),
        "caption": hit.caption,
        "label": hit.label,
        "meta": dict(hit.meta),
        "duplicates": list(hit.duplicates),
    }


def rounded(rows_ND: np.ndarray) -> list[list[float]]:
    """Rows as numbers with as many digits as float32 knows."""
    return np.round(rows_ND.astype(np.float64), DIGITS).tolist()


def json_response(data: dict[str, Any]) -> Response:
    """A JSON answer that nobody keeps."""
    return Response(to_json(data, inf_nan_mode="null"), media_type="application/json", headers={"Cache-Control": "no-store"})


async def _on_too_large(_: Request, error: Exception) -> Response:
    assert isinstance(error, TooLarge)
    return as_response(error.refused)
