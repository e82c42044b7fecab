"""What the body of a request may say. Unknown keys are errors; every list and text has a bound."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Literal, TypeVar

from fastapi import Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from diptych.search.serving.errors import Refused, first_of

MANY, TEXT, DATA = 256, 4096, "data:image/"
ID = r"^[0-9a-f]{16}$"


def _said(text: str) -> str:
    """A text that says something and can be written as UTF-8."""
    if not text.strip():
        raise ValueError("the text is empty")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError("the text holds half a surrogate pair, which is no character")
    return text


def _data(url: str) -> str:
    """A data URL of a picture; nothing is ever fetched."""
    if not url.startswith(DATA) or ";base64," not in url[:100]:
        raise ValueError("a picture is given as data:image/png;base64,…; addresses are not fetched")
    return url


F = TypeVar("F", bound="Form")
Text = Annotated[str, Field(min_length=1, max_length=TEXT), AfterValidator(_said)]
Data = Annotated[str, Field(description="a data URL: data:image/png;base64,…"), AfterValidator(_data)]
Weight = Annotated[float, Field(ge=-10, le=10, allow_inf_nan=False)]
Id = Annotated[str, Field(pattern=ID, description="16 hexadecimal digits, as a search has shown")]


class Form(BaseModel):
    """A body, read strictly: ``"5"`` is no number."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Texts(Form):
    """Body of ``/embed/text``."""

    texts: list[Text] = Field(min_length=1, max_length=MANY)


class Images(Form):
    """Body of ``/embed/image``, where it is JSON."""

    images: list[Data] = Field(min_length=1, max_length=MANY)


class Classify(Form):
    """Body of ``/classify``. Without templates the model's own are used; an adapted model answers for its own classes without labels."""

    images: list[Data] = Field(min_length=1, max_length=MANY)
    labels: list[Text] = Field(default=[], max_length=1000)
    templates: list[Annotated[Text, Field(pattern=r"\{\}")]] | None = Field(default=None, min_length=1, max_length=8)
    none_below: float | None = Field(default=None, ge=0, le=1, description='answer null, "none of these", below this probability')
    top: int = Field(default=1, ge=1, le=1000)

    @model_validator(mode="after")
    def _once(self) -> Classify:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("a label is given twice")
        return self


class Words(Form):
    """Words of a query."""

    text: Text
    weight: Weight = 1.0


class Picture(Form):
    """A picture of a query."""

    image: Data
    weight: Weight = 1.0


class Like(Form):
    """A picture of the index, as part of a query."""

    id: Id
    weight: Weight = 1.0


class Asked(Form):
    """What is looked for: words, pictures and pictures of the index, each with a weight; a negative one asks the thing away."""

    words: list[Words] = Field(default=[], max_length=16)
    images: list[Picture] = Field(default=[], max_length=4)
    like: list[Like] = Field(default=[], max_length=16)


class Search(Asked):
    """Body of ``/search``."""

    k: int = Field(default=24, ge=1, le=200)
    where: Text | None = Field(default=None, max_length=500, description='a filter over the columns, such as "year > 2020"')
    diverse: float = Field(default=0.0, ge=0, le=1)
    group_duplicates: bool = True


class Feedback(Form):
    """Body of ``/feedback``: whether the picture ``id`` was a right answer to the query."""

    query: Asked
    id: Id
    right: bool


class ImageURL(Form):
    """The address of a picture in OpenAI's form; only a data URL is read."""

    url: Data


class ImagePart(Form):
    """A picture as an item of ``input``, in the form of OpenAI's message parts."""

    type: Literal["image_url"]
    image_url: ImageURL


class Embeddings(Form):
    """Body of ``/v1/embeddings``. A string that starts with ``data:image/`` is a picture."""

    model: str = Field(min_length=1, max_length=500)
    input: Text | Data | Annotated[list[Text | Data | ImagePart], Field(min_length=1, max_length=MANY)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(default=None, ge=1)


async def read(request: Request, form: type[F]) -> F:
    """The body as ``form``. Raises :class:`Refused` with 415 (not JSON by its header), 400 (not JSON) or 422 (not this form)."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "application/json":
        raise Refused(415, "body", f"its content type is {kind or 'not given'!r}", "Send JSON with Content-Type: application/json")
    body = await request.body()
    try:
        return form.model_validate_json(body)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        where, why = first_of(found)
        broken = any(item["type"] == "json_invalid" for item in found)
        raise Refused(400 if broken else 422, where, why, "See /openapi.json for what this address takes") from error


def picture(data_url: str) -> bytes:
    """The bytes of a data URL; what they are is seen when they are decoded. Raises :class:`Refused` when they are not base64."""
    try:
        return base64.b64decode(data_url.partition(";base64,")[2], validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused(422, "image", f"its data is not base64 ({error})", "Encode the file's bytes as base64") from error
