"""The server's OpenAPI schema: the forms of bodies and errors, added to what the framework makes of the routes."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic.json_schema import models_json_schema

from diptych.search.serving import forms

PICTURE_TYPES = ("image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp", "image/tiff", "application/octet-stream")
ERROR = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "The request is off, or there are too many (429)", "content": ERROR},
    "5XX": {"description": "The server cannot answer now", "content": ERROR},
}


def body(form: type[forms.Form] | None) -> dict[str, Any] | None:
    """The body of an operation for the schema."""
    if form is None:
        return None
    content: dict[str, Any] = {"application/json": {"schema": {"$ref": f"#/components/schemas/{form.__name__}"}}}
    if form is forms.Images:
        content |= {kind: {"schema": {"type": "string", "format": "binary"}} for kind in PICTURE_TYPES}
    return {"requestBody": {"required": True, "content": content}}


def with_schemas(app: FastAPI) -> None:
    """Put the forms into the schema that the framework makes of the routes."""
    known = (forms.Texts, forms.Images, forms.Classify, forms.Embeddings, forms.Search, forms.Feedback)
    _, made = models_json_schema([(form, "validation") for form in known], ref_template="#/components/schemas/{model}")
    three = {key: {"type": "string"} for key in ("what", "why", "mend")}
    error = {
        "type": "object",
        "required": ["error"],
        "properties": {"error": {"type": "object", "required": list(three), "properties": three}},
    }
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        schema = plain()
        schema.setdefault("components", {}).setdefault("schemas", {}).update({**made["$defs"], "Error": error})
        return schema

    app.openapi = openapi  # type: ignore[method-assign]
