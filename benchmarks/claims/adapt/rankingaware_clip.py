"""Ranking-aware adapter: pictures in the order of number or size beside ridge regression on rows, words alone, and itself without pairs."""

from __future__ import annotations

import torch
from arms import Comparison, main
from weights import agreement, order

from diptych.adapt.adapters import rankingaware_clip as method

RIDGE = 0.1  # the best of 0.001 … 1 on the test lists of one draw, which favours the baseline
ASKED = {"count": "the number of things", "size": "the size of the thing"}


def adapter(kind, **options):
    """τ of the adapter's scores."""

    def run(case):
        model = case.work.model
        rule = method.rankingaware_clip(case.work, instruction=ASKED[kind], **options)
        numbers, word_LV = dict(rule.named_buffers()), method.words(model, ASKED[kind])
        index = torch.arange(len(case.label_N))
        return agreement(case, torch.cat([method.scores(model, numbers, case.pixels(part), word_LV) for part in index.split(64)]))

    return run


def regression(case):
    """τ of a ridge regression of the level on the rows, in closed form."""
    shots = case.work.shots
    one_SD = torch.cat([shots.image_SD, torch.ones(len(shots.image_SD), 1)], 1).double()
    gram_DD = one_SD.T @ one_SD + RIDGE * torch.eye(one_SD.shape[1], dtype=torch.float64)
    weight_D = torch.linalg.solve(gram_DD, one_SD.T @ shots.label_S.double())
    return agreement(case, case.image_ND.double() @ weight_D[:-1] + weight_D[-1])


def words(case):
    """τ of the similarity along the direction between two opposite texts, as the protocol ``ordering`` has it."""
    ends = [case.world.features.texts([str(s.meta[end]) for s in case.world.tested.source]) for end in ("high", "low")]
    return agreement(case, (case.image_ND * (ends[0] - ends[1])).sum(1))


if __name__ == "__main__":
    metric = ("Kendall's τ",)
    found = []
    for kind in ("count", "size"):
        ours, alone = ("with pairs", adapter(kind)), ("regression head alone", adapter(kind, ranking=0.0))
        for baseline in (("ridge regression on rows", regression), ("words", words), alone):
            found.append(Comparison("rankingaware-clip", order(kind), baseline, ours, metrics=metric))
    main(*found)
