"""What a report shows beside the numbers: which classes are confused, which retrievals are best and worst, with small pictures.

``details.json`` holds ``{"version", "sets": [section …]}``, one section a model, set and protocol; pictures lie beside it as
``thumbs/HASH.webp`` and are named by their hash.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from diptych.core.errors import DiptychError
from diptych.data.decode import decode
from diptych.evaluate.material import Material
from diptych.evaluate.metrics.classification import most_confused
from diptych.evaluate.metrics.retrieval import best_matches
from diptych.evaluate.outcome import Outcome

VERSION = 1
SIDE = 112
SHOWN = 12
EXAMPLES = 6
ANSWERS = 4
LONGEST = 300


class Thumbs:
    """Writes small pictures once each and gives their names."""

    def __init__(self, folder: Path, data: Material, index_N: Tensor) -> None:
        self.folder, self.data, self.index = folder, data, index_N.tolist()
        self.folder.mkdir(parents=True, exist_ok=True)

    def name(self, position: int) -> str:
        """The file name of the picture at ``position`` among the evaluated samples."""
        image = Image.fromarray(decode(self.data.source[self.index[position]].image, keep_alpha=True))
        image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", quality=82, method=4)
        name = hashlib.sha256(buffer.getvalue()).hexdigest()[:16] + ".webp"
        if not (self.folder / name).exists():
            (self.folder / name).write_bytes(buffer.getvalue())
        return name


def add(
    folder: Path, data: Material, index_N: Tensor, outcomes: Sequence[Outcome], model: str, speed: dict[str, Any], notes: Sequence[str]
) -> Path:
    """Put the sections of one model and set into ``folder/details.json``, in place of older ones of the same name.

    Args:
        index_N: which of the set's samples the outcomes are about.
        speed: what :func:`diptych.evaluate.speed.measure` found.
        notes: what the reader should know (pictures left out, features computed again).

    Raises:
        DiptychError: the folder cannot be written or holds a details.json that is not ours.
    """
    path = folder / "details.json"
    makers = {"zero_shot": _confusions, "retrieval": _retrievals}
    try:
        thumbs = Thumbs(folder / "thumbs", data, index_N)
        sections = []
        for outcome in outcomes:
            section = {
                "model": model,
                "set": data.name,
                "version": data.version,
                "protocol": outcome.protocol,
                "n": len(outcome.index_N),
                "about": data.about,
            }
            section |= {"speed": speed, "notes": list(notes)}
            if outcome.protocol in makers:
                section |= makers[outcome.protocol](outcome, thumbs)
            sections.append(section)
        new = {(s["model"], s["set"], s["protocol"]) for s in sections}
        older = [s for s in read(path)["sets"] if (s["model"], s["set"], s["protocol"]) not in new] if path.exists() else []
        text = json.dumps({"version": VERSION, "sets": older + sections}, ensure_ascii=False, indent=1)
        temporary = path.with_suffix(".part")
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise DiptychError(
            f"details {path}", error.strerror or str(error), "Free some space or give a folder that you may write to"
        ) from error
    return path


def read(path: Path) -> dict[str, Any]:
    """The content of a details.json. Raises :class:`DiptychError` when it is not one of ours."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DiptychError(f"details {path}", f"not valid JSON ({error})", "Remove it and evaluate again") from error
    if not isinstance(found, dict) or found.get("version") != VERSION or not isinstance(found.get("sets"), list):
        raise DiptychError(f"details {path}", f"not a version {VERSION} file", "Remove it and evaluate again")
    return found


def _confusions(outcome: Outcome, thumbs: Thumbs) -> dict[str, Any]:
    """The most frequent mistakes: a picture that was taken for another class beside a picture of that class."""
    predicted_N, label_N, classes = (outcome.show[key] for key in ("predicted_N", "label_N", "classes"))
    position = outcome.index_N.tolist()
    first = {label: position[i] for i, label in reversed(list(enumerate(label_N.tolist())))}
    count = torch.bincount(label_N, minlength=len(classes)).tolist()
    rows = []
    for true, predicted, times in most_confused(predicted_N, label_N, SHOWN):
        example = int(((label_N == true) & (predicted_N == predicted)).nonzero()[0, 0])
        rows.append(
            {
                "true": classes[true],
                "predicted": classes[predicted],
                "count": times,
                "of": count[true],
                "picture": thumbs.name(position[example]),
                "other": thumbs.name(first[predicted]) if predicted in first else None,
            }
        )
    return {"classes": len(classes), "confusions": rows}


def _retrievals(outcome: Outcome, thumbs: Thumbs) -> dict[str, Any]:
    """Best and worst queries both ways, each with its first answers, the right ones marked."""
    show = outcome.show
    owner_M, group_N = show["owner_M"], show["group_N"]
    group_M, position, texts = group_N[owner_M], outcome.index_N.tolist(), show["texts"]

    first: dict[int, int] = {}
    for m, group in enumerate(group_M.tolist()):
        first.setdefault(group, m)

    def picture(i: int) -> dict[str, Any]:
        return {"picture": thumbs.name(position[i]), "text": _short(texts[first[int(group_N[i])]])}

    def words(m: int) -> dict[str, Any]:
        return {"text": _short(texts[m])}

    def examples(
        query_QD: Tensor, gallery_GD: Tensor, rank_Q: Tensor, group_Q: Tensor, group_G: Tensor, ask: Any, answer: Any
    ) -> dict[str, Any]:
        found = {}
        for kind, chosen in _extremes(query_QD, gallery_GD, rank_Q, group_Q).items():
            score_Qk, index_Qk = best_matches(query_QD[chosen], gallery_GD, ANSWERS)
            found[kind] = [
                {
                    "query": ask(q),
                    "rank": int(rank_Q[q]) + 1,
                    "of": len(gallery_GD),
                    "answers": [
                        answer(g) | {"score": round(s, 4), "right": bool(group_G[g] == group_Q[q])}
                        for s, g in zip(score_k.tolist(), index_k.tolist(), strict=True)
                    ],
                    "wanted": answer(int((group_G == group_Q[q]).nonzero()[0, 0])),
                }
                for q, score_k, index_k in zip(chosen.tolist(), score_Qk, index_Qk, strict=True)
            ]
        return found

    text_MD, image_ND = show["text_MD"], show["image_ND"]
    return {
        "captions": len(texts),
        "text_to_image": examples(text_MD, image_ND, show["to_image_M"], group_M, group_N, words, picture),
        "image_to_text": examples(image_ND, text_MD, show["to_text_N"], group_N, group_M, picture, words),
    }


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _extremes(query_QD: Tensor, gallery_GD: Tensor, rank_Q: Tensor, group_Q: Tensor) -> dict[str, Tensor]:
    """Queries of :data:`EXAMPLES` different groups: the right ones that lead by most, and those whose answer came last."""
    right_R = (rank_Q == 0).nonzero()[:, 0]
    right_R = right_R[torch.linspace(0, max(len(right_R) - 1, 0), min(len(right_R), 2000)).long()] if len(right_R) else right_R
    if len(right_R) and len(gallery_GD) > 1:
        top_R2, _ = best_matches(query_QD[right_R], gallery_GD, 2)
        right_R = right_R[(top_R2[:, 0] - top_R2[:, 1]).argsort(descending=True, stable=True)]
    worst_Q = rank_Q.argsort(descending=True, stable=True)
    worst_Q = worst_Q[rank_Q[worst_Q] > 0]
    return {"best": _one_a_group(right_R, group_Q), "worst": _one_a_group(worst_Q, group_Q)}


def _one_a_group(order: Tensor, group_Q: Tensor) -> Tensor:
    seen: dict[int, int] = {}
    for q in order.tolist():
        seen.setdefault(int(group_Q[q]), q)
        if len(seen) == EXAMPLES:
            break
    return torch.tensor(list(seen.values()), dtype=torch.int64)
