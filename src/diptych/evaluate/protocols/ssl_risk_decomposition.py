"""Where a linear probe's mistakes come from: the encoder's family, its features, the probe's few examples, or pictures never seen.

Paper: Dubois, Hashimoto and Liang, Evaluating Self-Supervised Learning via Risk Decomposition (arXiv:2302.03068), its estimators.
The risk is the share of wrong answers of a ridge probe (:mod:`diptych.evaluate.metrics.risk`) on the unit rows:

    held = as many training pictures as there are test pictures, at most a fifth
    r_best  = what no function of the picture gets right              # equal pictures under several labels
    r_train = probe fitted on train, measured on train                # best penalty there
    r_held  = probe fitted on train − held, measured on held          # new to the probe, not to the encoder
    r_test  = probe fitted on train, measured on test                 # new to both
    approximation = r_best;  usability = r_train − r_best;  probe = r_held − r_train;  encoder = r_test − r_held

The four sum to r_test. The encoder's share holds whatever else parts the test pictures from the training pictures (here: unseen styles),
and is what the paper means only where the model was trained on the train companion. The paper takes a supervised network's training
error for r_best, which is about 0 for networks that can fit anything; here it is counted. Test pictures of classes without a training
picture are left out. The penalty of r_held and r_test is chosen on a fifth of train − held. Shapes: N rows, D width, K classes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from diptych.core.card import Card
from diptych.core.errors import UsageError
from diptych.data import seal
from diptych.evaluate import fitting
from diptych.evaluate.details import Thumbs
from diptych.evaluate.metrics import risk
from diptych.evaluate.outcome import About, Metric, Outcome, Question

CARD = Card(
    id="ssl-risk-decomposition",
    name="SSL risk decomposition",
    family="protocol",
    paper="Evaluating Self-Supervised Learning via Risk Decomposition (arXiv:2302.03068)",
    where="the estimators of the four components",
    code="https://github.com/YannDubs/SSL-Risk-Decomposition",
    needs=frozenset({"labels", "a train companion"}),
    claim="shows which of four sources a model's mistakes come from, with estimators that need one encoder",
)
ORDER = 64
ASPECT = "Representation"
SUITES = {"full": ("study/kinds",)}
ABOUT = {
    "probe_risk": About("Risk of the probe", "share of test pictures that a ridge probe gets wrong", "lower"),
    "approximation_risk": About("Risk: approximation", "what no function of the picture could get right", "lower"),
    "usability_risk": About("Risk: usability", "what the probe gets wrong even on its own training pictures", "lower"),
    "probe_generalisation_risk": About("Risk: probe", "what is added on pictures new to the probe", "lower"),
    "encoder_generalisation_risk": About("Risk: encoder", "what is added on pictures new to the encoder too", "lower"),
}
BEST, TRAIN, HELD, TEST = range(4)
TERMS = {
    "approximation_risk": (BEST, None),
    "usability_risk": (TRAIN, BEST),
    "probe_generalisation_risk": (HELD, TRAIN),
    "encoder_generalisation_risk": (TEST, HELD),
}
HELD_SHARE = 0.2


def applies(question: Question) -> bool:
    """There are classes, labels and a train split."""
    return fitting.can_fit(question)


def run(question: Question) -> Outcome:
    """The probe's risk and its four parts. Intervals resample concepts where the sets name them, else pictures.

    Raises:
        UsageError: fewer than ten training pictures have labels, or no test picture has a class that they show.
    """
    split = question.view.companion("train")
    known = {name: k for k, name in enumerate(question.classes)}
    of_split = torch.tensor([known.get(name, -1) for name in split.classes] + [-1])  # the last is for pictures without label
    label_N = of_split[torch.where(split.table.label_N < 0, len(split.classes), split.table.label_N)]
    kept_N = (label_N >= 0).nonzero()[:, 0]
    train_ND, label_N, group_N = split.image_ND[kept_N], label_N[kept_N], split.table.group_N[kept_N]
    index_M = torch.isin(question.table.label_N, label_N).nonzero()[:, 0]
    if len(kept_N) < 10 or not len(index_M):
        why = f"{len(kept_N)} labelled training pictures, {len(index_M)} test pictures of their classes"
        raise UsageError("risk decomposition", why, "Choose a set whose train companion shows its classes")
    order_N = torch.randperm(len(kept_N), generator=question.view.generator("risk"))
    test_label_M, apart = question.table.label_N[index_M], int(group_N.max()) + 1
    wrong, held_H = decompose(train_ND, label_N, question.image_ND[index_M], test_label_M, order_N)
    wrong[BEST] = risk.irreducible([seal.content(split.material.source[i]) for i in kept_N.tolist()], label_N)
    units = {BEST: group_N, TRAIN: group_N, HELD: group_N[held_H], TEST: question.table.group_N[index_M] + apart}
    value = torch.cat([torch.stack([wrong[which], torch.full_like(wrong[which], which)], 1) for which in units])
    unit = torch.cat(list(units.values()))
    metrics = [Metric("probe_risk", wrong[TEST], units[TEST], 1 - 1 / len(question.classes), hits=False)]
    for name, (of, less) in TERMS.items():

        def term(value_N2: Tensor, of: int = of, less: int | None = less) -> float:
            return mean(value_N2, of) - (0.0 if less is None else mean(value_N2, less))

        metrics.append(Metric(name, value, unit, None, hits=False, of=term))
    return Outcome(CARD.id, tuple(metrics), index_M, {"value": value})


def mean(value_N2: Tensor, which: int) -> float:
    """Mean error of the examples measured in one of the four ways."""
    return float(value_N2[value_N2[:, 1] == which, 0].mean())


def decompose(
    train_ND: Tensor, label_N: Tensor, test_MD: Tensor, test_label_M: Tensor, order_N: Tensor
) -> tuple[dict[int, Tensor], Tensor]:
    """Errors of the probe on train, held and test, and which training pictures were held: the first of ``order_N``."""
    classes = int(torch.cat([label_N, test_label_M]).max()) + 1
    held = max(1, min(len(test_MD), int(HELD_SHARE * len(order_N))))
    held_H, rest_R = order_N[:held], order_N[held:]
    cut = max(1, int(HELD_SHARE * len(rest_R)))
    tried = risk.fit(train_ND[rest_R[cut:]], label_N[rest_R[cut:]], classes)
    choice = [float(risk.errors(probe, train_ND[rest_R[:cut]], label_N[rest_R[:cut]]).mean()) for probe in tried]
    penalty = risk.PENALTIES[choice.index(min(choice))]
    (on_rest,) = risk.fit(train_ND[rest_R], label_N[rest_R], classes, (penalty,))
    all_probes = risk.fit(train_ND, label_N, classes)
    on_train = min((risk.errors(probe, train_ND, label_N) for probe in all_probes), key=lambda wrong: float(wrong.mean()))
    on_all = all_probes[risk.PENALTIES.index(penalty)]
    held_errors = risk.errors(on_rest, train_ND[held_H], label_N[held_H])
    return {TRAIN: on_train, HELD: held_errors, TEST: risk.errors(on_all, test_MD, test_label_M)}, held_H


def section(outcome: Outcome, thumbs: Thumbs) -> dict[str, Any]:
    """The four parts as bars."""
    rows = []
    for name, (of, less) in TERMS.items():
        value = mean(outcome.show["value"], of) - (0.0 if less is None else mean(outcome.show["value"], less))
        rows.append({"name": ABOUT[name].title.removeprefix("Risk: "), "value": round(value, 4)})
    title = "Where the probe's mistakes come from; the four sum to its risk on the test pictures"
    return {"figures": [{"kind": "bars", "title": title, "rows": rows, "share": True}]}
