"""A step of CoOp beside the published code, or its form, which encodes the pictures and full-length texts at each step.

    python benchmarks/adapt_prompts.py                       # 100 classes of 16 pictures, mini, context of 4: time of a step, losses
    python benchmarks/adapt_prompts.py --whole               # and all of 50 epochs
    python benchmarks/adapt_prompts.py --preset vit-s-8-64   # a CLIP with its causal texts of 77 tokens, random weights
    python benchmarks/adapt_prompts.py --preset vit-s-8-64 --published FOLDER   # beside a checkout of KaiyangZhou/CoOp itself
    OMP_NUM_THREADS=1 python benchmarks/adapt_prompts.py --clock cpu    # on a machine that others use: the process's own seconds

Classes are concepts of the embedded corpus; a class's pictures are its ten drawings, and six of them mirrored. Both sides begin with the
same context, see the same batches of 32 and take the same steps (SGD, learning rate 0.002, momentum 0.9), turn by turn, so their losses
agree; the printed difference is what float32 leaves. Neither side augments or decodes: the published form gets pixels that are ready.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import published_coop
import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.adapt.attach import copy_of
from diptych.adapt.parts.context import AFTER, Names, start
from diptych.adapt.parts.shots import Shots
from diptych.adapt.parts.work import Pictures, Work
from diptych.adapt.prompts.coop import coop
from diptych.core.rng import generator
from diptych.data import pictograms
from diptych.towers.dual import DualEncoder
from diptych.towers.encode import pixels
from diptych.towers.formats.load import load
from diptych.towers.presets import preset
from diptych.towers.prompts import Inserted, text_start

SHOTS, BATCH, LR = 16, 32, 0.002


def random_weights(name: str) -> DualEncoder:
    """A named size with CLIP's own activation, the same random weights at every call."""
    torch.manual_seed(0)
    config = preset(name)
    towers = {side: getattr(config, side).model_copy(update={"activation": "quick_gelu"}) for side in ("image", "text")}
    return DualEncoder(config.model_copy(update=towers))


def given(model: DualEncoder, classes: int) -> Work:
    """The first concepts with ten drawings or more, sixteen pictures of each."""
    drawn: dict[str, list[bytes | Path]] = {}
    for sample in (*pictograms.samples("train"), *pictograms.samples("style")):
        if sample.concept is not None:
            drawn.setdefault(sample.concept, []).append(sample.image)
    names = {concept.id: concept.name for concept in pictograms.concepts()}
    chosen = [key for key in sorted(drawn) if len(drawn[key]) >= 10][:classes]
    image_SCHW = torch.cat([sixteen(model, drawn[key]) for key in chosen])
    label_S = torch.arange(len(chosen)).repeat_interleave(SHOTS)
    labels = tuple(names[key] for key in chosen)
    shots = Shots(
        model.encode_image(image_SCHW),
        label_S,
        model.encode_text(list(labels)),
        labels,
        float(model.scale.detach()),
        generator(0, "benchmark"),
    )
    none = Pictures(lambda index: image_SCHW[index], torch.arange(0))
    return Work(model, shots, replace(none, index=torch.arange(len(label_S))), none)


def sixteen(model: DualEncoder, drawings: list[bytes | Path]) -> Tensor:
    """Ten drawings at the model's size and six mirrored ones."""
    plain = torch.stack([pixels(drawing, model.config.preprocess) for drawing in drawings[:10]])
    return torch.cat([plain, plain[:6].flip(3)])


class Side:
    """A context that is trained step by step.

    Args:
        context: the first one, a leaf that wants its gradient.
        loss_of: indices and a context to a loss.
    """

    def __init__(self, context: Tensor, loss_of: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.context, self.loss_of = context, loss_of
        self.optimizer = torch.optim.SGD([self.context], lr=LR, momentum=0.9, weight_decay=5e-4)

    def step(self, index_B: Tensor) -> float:
        """One step; gives the loss before it."""
        loss = self.loss_of(index_B, self.context)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()


def sides(work: Work, count: int, words: str, folder: Path | None) -> tuple[Side, Side]:
    """Ours, and the published code of a folder or, without one, its form."""
    model, shots = copy_of(work.model), work.shots
    texts = [AFTER.replace("{}", name) for name in shots.classes]
    names, first = Names(model, texts, count), start(model, words, count, generator(0, "context"))
    assert model.tokenizer is not None
    ids_KL = model.tokenizer(texts)[:, : model.text.context - count]  # with its room for the context, as long as the tower reads

    def ours(index_B: Tensor, context_MW: Tensor) -> Tensor:
        return F.cross_entropy(shots.scale * shots.image_SD[index_B] @ names.rows(context_MW).T, shots.label_S[index_B])

    def published(index_B: Tensor, context_MW: Tensor) -> Tensor:
        text_KD = model.text_features(ids_KL, prompts=Inserted((context_MW,), text_start(model)))
        image_BD = model.image_features(work.pictures(index_B))
        return F.cross_entropy(shots.scale * image_BD @ text_KD.T, shots.label_S[index_B])

    if folder is None:
        return Side(begun(first), ours), Side(begun(first), published)
    theirs, context = published_coop.published(folder, model, shots.classes, first)
    pictures = [
        model.normalise(work.pictures(torch.tensor([row])))[0] for row in range(len(shots.label_S))
    ]  # ready, as a loader gives them

    def official(index_B: Tensor, _: Tensor) -> Tensor:
        return F.cross_entropy(theirs(torch.stack([pictures[row] for row in index_B.tolist()])), shots.label_S[index_B])

    return Side(begun(first), ours), Side(context, official)


def begun(first_MW: Tensor) -> Tensor:
    """A copy to train."""
    return first_MW.clone().requires_grad_()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--preset", help="a named size with random weights, in place of a model")
    parser.add_argument("--published", type=Path, help="a checkout of https://github.com/KaiyangZhou/CoOp, to run it beside ours")
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--context", type=int, default=4)
    parser.add_argument("--words", default="a drawing of", help="what the context begins as")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--whole", action="store_true", help="also 50 epochs of ours")
    asked = parser.parse_args()
    clock = time.perf_counter if asked.clock == "wall" else time.process_time
    model = random_weights(asked.preset) if asked.preset else load(asked.model)
    work = given(model.eval(), asked.classes)
    both = sides(work, asked.context, asked.words, asked.published)
    draw, seconds, losses = generator(0, "batches"), ([], []), ([], [])
    for _ in range(asked.steps):
        index_B = torch.randperm(len(work.shots.label_S), generator=draw)[:BATCH]
        for side, spent, told in zip(both, seconds, losses, strict=True):
            began = clock()
            told.append(side.step(index_B))
            spent.append(clock() - began)
    ours, published = (1000 * statistics.median(spent[2:]) for spent in seconds)
    row = {
        "model": asked.preset or asked.model,
        "classes": len(work.shots.classes),
        "context": asked.context,
        "threads": torch.get_num_threads(),
        "clock": asked.clock,
        "ms a step, ours": round(ours, 1),
        f"ms a step, published {'code' if asked.published else 'form'}": round(published, 1),
        "times": round(published / ours, 2),
        "losses, first and last": [round(losses[0][0], 4), round(losses[0][-1], 4)],
        "greatest relative difference of losses": float(f"{np.max(np.abs(np.divide(losses[0], losses[1]) - 1)):.1e}"),
    }
    if asked.whole:
        began = clock()
        made = coop(work, context=asked.context, words=asked.words, epochs=50)
        row |= {"seconds of 50 epochs": round(clock() - began, 1), "losses of epochs": [round(x, 3) for x in made.losses[::7]]}
    print(json.dumps(row))


if __name__ == "__main__":
    main()
