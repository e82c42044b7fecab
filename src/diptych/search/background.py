"""What a model makes of things in general: drawings and names from the embedded corpus, against which an index's similarities are held.

Computed once a model and kept in ``background-VERSION-TABLE.safetensors`` and in the user's cache. Test sets take no part: the drawings are
those of ``pictograms/validation`` (kept from training), the bank of rival pictures comes from ``pictograms/train``, the names are those of
concepts that are not held out.

Shapes: B background drawings, M names of the bank, V names in all, R rival pictures, D width.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from diptych.core.rng import generator
from diptych.data import pictograms
from diptych.search.score import Calibration, Crowd, fit
from diptych.search.similar import DUPLICATE
from diptych.towers.dual import DualEncoder
from diptych.towers.formats.weights import read_tensors, write_tensors

RIVALS = 400
VERSION = 2
TURNS = 4
LOOSE = np.array([20.0, 20.0, 200.0])  # deviations of the rehearsal's own prior: wide enough to say nothing


@dataclass(frozen=True, slots=True)
class Background:
    """Rows and calibrations of one model.

    Args:
        drawings_BD, names_MD, rivals_RD: unit rows.
        vocabulary_VD: unit rows of :func:`vocabulary`, by which clusters are named.
        words, pictures: calibrations of queries by words and by picture.
        duplicate: cosine from which two pictures count as near-duplicates: 0.97, or more where drawings of different things come near that.
    """

    drawings_BD: np.ndarray
    names_MD: np.ndarray
    rivals_RD: np.ndarray
    vocabulary_VD: np.ndarray
    words: Calibration
    pictures: Calibration
    duplicate: float

    @property
    def crowd(self) -> Crowd:
        """The background drawings."""
        return Crowd.of(self.drawings_BD)


def concepts() -> list[int]:
    """Whose names are the bank: the concepts of the background drawings and every second of the others that are not held out."""
    shown = {sample.label for sample in pictograms.samples("validation")}
    return [at for at, concept in enumerate(pictograms.concepts()) if not concept.unseen and (at in shown or at % 2 == 0)]


def names() -> list[str]:
    """The bank of names."""
    every = pictograms.concepts()
    return [every[at].name for at in concepts()]


def vocabulary() -> list[str]:
    """The names of all concepts that are not held out."""
    return [concept.name for concept in pictograms.concepts() if not concept.unseen]


def cache() -> Path:
    """Where backgrounds are kept for the next index of the same model: ``$DIPTYCH_CACHE``, else the user's cache folder."""
    if chosen := os.environ.get("DIPTYCH_CACHE"):
        return Path(chosen) / "background"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "diptych" / "background"


def background(model: DualEncoder, folder: Path, table: str) -> Background:
    """The model's background, from the index's folder, else from the cache, else computed; then kept in both."""
    path = folder / f"background-{VERSION}-{table}.safetensors"
    if not path.is_file():
        kept_at = cache() / f"{VERSION}-{model.fingerprint()[:24]}.safetensors"
        found = read_tensors(kept_at) if kept_at.is_file() else {name: torch.from_numpy(value) for name, value in computed(model).items()}
        keep(path, found)
        with contextlib.suppress(OSError):  # a cache that cannot be written only costs time
            kept_at.parent.mkdir(parents=True, exist_ok=True)
            keep(kept_at, found)
    kept = {name: value.numpy() for name, value in read_tensors(path).items()}
    words, pictures = (Calibration(kept[name][:3].astype(np.float64), int(kept[name][3])) for name in ("words", "pictures"))
    return Background(kept["drawings"], kept["names"], kept["rivals"], kept["vocabulary"], words, pictures, float(kept["duplicate"]))


def keep(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Write tensors so that the file is there whole or not at all."""
    part = path.with_name(f"part-{os.getpid()}-{path.name}")
    write_tensors(part, tensors)
    os.replace(part, path)


def computed(model: DualEncoder) -> dict[str, np.ndarray]:
    """Embed the background and rehearse both kinds of query."""
    drawings, train = pictograms.samples("validation"), pictograms.samples("train")
    rivals = train[:: max(len(train) // RIVALS, 1)][:RIVALS]
    drawings_BD, rivals_RD = model.encode_image(drawings).numpy(), model.encode_image(rivals).numpy()
    every = vocabulary()
    vocabulary_VD = model.encode_text(every).numpy()
    names_MD = vocabulary_VD[[every.index(name) for name in names()]]
    row = {index: at for at, index in enumerate(concepts())}
    label_B = np.array([row[sample.label] for sample in drawings if sample.label is not None])
    found = {"drawings": drawings_BD, "names": names_MD, "rivals": rivals_RD, "vocabulary": vocabulary_VD}
    different_BB = label_B[:, None] != label_B[None]
    highest = np.quantile((drawings_BD @ drawings_BD.T)[different_BB], 0.9999)
    found["duplicate"] = np.array(max(DUPLICATE, (1.0 + float(highest)) / 2))
    found["words"] = rehearse_words(drawings_BD, label_B, names_MD)
    found["pictures"] = rehearse_pictures(drawings_BD, label_B, rivals_RD)
    return found


def rehearse_words(drawings_BD: np.ndarray, label_B: np.ndarray, names_MD: np.ndarray) -> np.ndarray:
    """Fit ``a, b, c`` (and n₀) on searches by name in the drawings of half of the concepts; every other name is left out of the bank.

    Args:
        label_B: which of ``names_MD`` each drawing shows.
    """
    concepts_Q = np.unique(label_B)

    def turn(kept_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        query_QD, hits_QD = names_MD[concepts_Q], drawings_BD[kept_N]
        top_Q = (query_QD @ hits_QD.T).argmax(1)
        rival_QM = hits_QD[top_Q] @ names_MD.T
        rival_QM[np.arange(len(concepts_Q))[::2], concepts_Q[::2]] = -np.inf
        return _features(query_QD, hits_QD, top_Q, drawings_BD, rival_QM.max(1)), label_B[kept_N][top_Q] == concepts_Q

    return _rehearse(turn, concepts_Q, label_B)


def rehearse_pictures(drawings_BD: np.ndarray, label_B: np.ndarray, rivals_RD: np.ndarray) -> np.ndarray:
    """The same with every drawing searched for among the others; right is a drawing of the same concept."""
    concepts_Q = np.unique(label_B)

    def turn(kept_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        hits_ND = drawings_BD[kept_N]
        similarity_BN = drawings_BD @ hits_ND.T
        similarity_BN[kept_N, np.arange(len(kept_N))] = -np.inf
        top_B = similarity_BN.argmax(1)
        rival_B = (hits_ND[top_B] @ rivals_RD.T).max(1)
        return _features(drawings_BD, hits_ND, top_B, drawings_BD, rival_B), label_B[kept_N][top_B] == label_B

    return _rehearse(turn, concepts_Q, label_B)


def _features(query_QD: np.ndarray, hits_ND: np.ndarray, top_Q: np.ndarray, drawings_BD: np.ndarray, rival_Q: np.ndarray) -> np.ndarray:
    """Features (Q, 3) of each query's best hit, as :func:`~diptych.search.score.features` has them, each against its own rival."""
    similarity_Q = np.einsum("qd,qd->q", query_QD, hits_ND[top_Q]).astype(np.float64)
    crowds = [Crowd.of(hits_ND), Crowd.of(drawings_BD)]
    z_Q = np.max([crowd.z(query_QD, similarity_Q[:, None])[:, 0] for crowd in crowds], axis=0)
    return np.stack([np.ones_like(z_Q), z_Q, similarity_Q - rival_Q], axis=1)


def _rehearse(turn: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], concepts_Q: np.ndarray, label_B: np.ndarray) -> np.ndarray:
    """``a, b, c, n₀`` over turns, each with another half of the concepts left out."""
    draw, parts, sizes = generator(0, "rehearsal"), [], []
    for _ in range(TURNS):
        out = torch.randperm(len(concepts_Q), generator=draw)[: len(concepts_Q) // 2].numpy()
        kept_N = np.flatnonzero(~np.isin(label_B, concepts_Q[out]))
        parts.append(turn(kept_N))
        sizes.append(len(kept_N))
    every, right = np.concatenate([part for part, _ in parts]), np.concatenate([right for _, right in parts]).astype(np.float64)
    weights_F = fit(every, right, np.array([-5.0, 1.0, 0.0]), LOOSE)
    return np.array([weights_F[0], *np.maximum(weights_F[1:], 0.0), round(float(np.mean(sizes)))])
