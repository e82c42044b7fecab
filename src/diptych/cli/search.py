"""``diptych search``: the pictures of an index that fit words, a picture, or both."""

from __future__ import annotations

import re
import tempfile
import webbrowser
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.index import FOLDER
from diptych.cli.output import Output, table
from diptych.cli.verb import verb
from diptych.core.errors import DiptychError, UsageError

if TYPE_CHECKING:
    from diptych.search.index import Index
    from diptych.search.query import Answer, Hit, Query

NAME = "search"
POOL = 200


@verb
def command(
    out: Output,
    words: Annotated[list[str], typer.Argument(help='What to look for; "red^2" counts twice.', show_default=False)] = [],  # noqa: B006
    image: Annotated[list[Path], typer.Option("--image", help="A picture to look for; repeat for more.")] = [],  # noqa: B006
    without: Annotated[list[str], typer.Option("--not", help="What is asked away; repeat for more.")] = [],  # noqa: B006
    like: Annotated[list[str], typer.Option("--like", help="Id of a picture of the index; repeat for more.")] = [],  # noqa: B006
    where: Annotated[str | None, typer.Option("--where", help="Filter over your columns: \"year > 2020 and label = 'cat'\".")] = None,
    folder: Annotated[Path, typer.Option("--index", help="Folder of the index.")] = Path(FOLDER),
    model: Annotated[str | None, typer.Option("--model", help="The index's model, where it lies elsewhere now.")] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="How many pictures.")] = 10,
    diverse: Annotated[float, typer.Option("--diverse", min=0, max=1, help="0 to 1: how much like pictures are put back.")] = 0.0,
    separate: Annotated[bool, typer.Option("--separate", help="Show near-duplicates one by one.")] = False,
    clusters: Annotated[int | None, typer.Option("--clusters", min=1, help="Group what is found, or all pictures, and name it.")] = None,
    right: Annotated[list[str], typer.Option("--right", help="Id of a picture that is right for this query.")] = [],  # noqa: B006
    wrong: Annotated[list[str], typer.Option("--wrong", help="Id of a picture that is wrong for this query.")] = [],  # noqa: B006
    show: Annotated[bool, typer.Option("--open", help="Open the best picture.")] = False,
) -> None:
    """Find pictures by words, by picture, or both; says so when there is no good match."""
    from diptych.search.index import Index
    from diptych.search.query import NOT, Query

    asked = bool(words or image or without or like)
    if not asked and (clusters is None or right or wrong or show):
        raise UsageError("query", "nothing is asked for", 'For example: diptych search "a red apple"')
    for path in image:
        if not path.is_file():
            raise DiptychError(f"image {path}", "no such file", "Check the path")
    index = Index.open(folder, model)
    if not asked:
        grouped(out, index, index.clusters(clusters or 1), {"clusters": []}, [])
        return
    texts = [(text, weight) for text, weight in map(weighed, words)]
    texts += [(text, weight * NOT) for text, weight in map(weighed, without)]
    query = Query(tuple(texts), tuple((path, 1.0) for path in image), tuple((name, 1.0) for name in like))
    for names, verdict in ((right, True), (wrong, False)):
        for name in names:
            index.feedback(query, name, verdict)
    answer = index.search(query, top if clusters is None else max(top, POOL), where, diverse, group_duplicates=not separate)
    if show:
        open_best(index, answer)
    read = {text: english for (text, _), english in zip(query.words, query.texts(), strict=True) if english != text}
    hits = [as_row(hit) for hit in answer.results[:top]]
    data = {"query": described(query), "read_as": read, "answer": answer.answer, "results": hits}
    lines = [f"{text!r} is read as {english!r}" for text, english in read.items()]
    lines += [] if answer.answer else [none_found(answer, where)]
    lines += [result_table(answer)] if answer.results and clusters is None else []
    if clusters is not None:
        found = index.clusters(clusters, [hit.id for hit in answer.results]) if answer.results else []
        grouped(out, index, found, data, lines)
        return
    out.result(data, *lines)


def none_found(answer: Answer, where: str | None) -> str:
    """Why there is no answer, as a line."""
    if answer.results:
        return "no good match; the nearest pictures:"
    return "no picture passes the filter" if where is not None else "the index holds no other picture"


def weighed(text: str) -> tuple[str, float]:
    """``("red", 2.0)`` of ``"red^2"``; weight 1 where none is given."""
    match = re.fullmatch(r"(.*)\^(\d+(?:\.\d+)?)", text, re.DOTALL)
    return (match[1], float(match[2])) if match else (text, 1.0)


def described(query: Query) -> dict[str, Any]:
    """The query as plain JSON values."""
    return {
        "words": [[text, weight] for text, weight in query.words],
        "images": [[str(path), weight] for path, weight in query.images],
        "like": [[name, weight] for name, weight in query.like],
    }


def as_row(hit: Hit) -> dict[str, Any]:
    """A hit as plain JSON values."""
    row = asdict(hit)
    return {**row, "score": round(hit.score, 6), "similarity": round(hit.similarity, 6), "duplicates": list(hit.duplicates)}


def result_table(answer: Answer) -> Any:
    """Hits as a table, best first."""
    rows = [
        (
            f"{hit.score:.2f}",
            f"{hit.similarity:.3f}",
            hit.id,
            hit.path + (f" (+{len(hit.duplicates)})" if hit.duplicates else ""),
            hit.caption or hit.label or "",
        )
        for hit in answer.results
    ]
    return table("" if answer.exact else "approximate", (">score", ">similarity", "id", "path", "words"), rows)


def grouped(out: Output, index: Index, found: list[Any], data: dict[str, Any], lines: list[Any]) -> None:
    """Clusters as a table, one picture of each."""
    data["clusters"] = [{"name": cluster.name, "pictures": len(cluster.ids), "ids": list(cluster.ids)} for cluster in found]
    rows = [(len(cluster.ids), cluster.name, cluster.ids[0], index.row(cluster.ids[0])["path"]) for cluster in found]
    out.result(data, *lines, table("", (">pictures", "cluster", "id", "for example"), rows))


def open_best(index: Index, answer: Answer) -> None:
    """Show the best picture with what the system opens pictures with."""
    if not answer.results:
        raise DiptychError("--open", "nothing was found", "Search without a filter")
    picture = index.picture(answer.results[0].id)
    if isinstance(picture, bytes):
        suffix = ".png" if picture.startswith(b"\x89PNG") else ".webp" if picture[8:12] == b"WEBP" else ".jpg"
        with tempfile.NamedTemporaryFile(prefix="diptych-", suffix=suffix, delete=False) as file:
            file.write(picture)
        picture = Path(file.name)
    if not webbrowser.open(picture.resolve().as_uri()):
        raise DiptychError("--open", "no program that opens pictures was found", f"Open it yourself: {picture}")
