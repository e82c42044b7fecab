"""CLIPN: a second head on the text tower that says "no", so that a picture can be refused where no name fits.

Paper: Wang et al., CLIPN for Zero-Shot OOD Detection: Teaching CLIP to Say No (arXiv:2308.12213), its method. Code:
https://github.com/xmed-lab/CLIPN. Relation to its neighbours: ``unknowns`` asks the same with scores that need no training.

Both towers stay frozen. Each name has its row g and a "no" row g' from the head; with image row f, p_no = exp(s f·g') / (exp(s f·g) +
exp(s f·g')). Two losses train the head (image–text binary-opposite, over pictures with their own and with all other names; text
semantic-opposite), summed and halved as in the reference code:

    bo = mean(−log(1 − p_no) of own names) + mean(−log p_no of other names);  so = mean(2 − |g − g'|)

Competing to win refuses where "no" beats "yes" for the likeliest name. Agreeing to differ adds a class of its own, with probability
1 − Σ_k (1 − p_no,k) p_k, and refuses where it is the largest. Their scores are 1 − p_no of the likeliest name, and Σ_k (1 − p_no,k) p_k.

Here the rows are cached, so the head stands behind the text tower instead of being a copy of it: a residual perceptron with one hidden
layer that begins as the identity. The learnable "no" prompts are added to its input, one drawn a name in training, their mean afterwards.
The columns of the loss are all names of the set, not a batch's captions.
Shapes: B pictures of a batch, M pictures that are asked about, K names, D joint width, P prompts.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from diptych.core.card import Card
from diptych.evaluate import fitting
from diptych.evaluate.details import Thumbs
from diptych.evaluate.metrics import ood
from diptych.evaluate.outcome import About, Metric, Outcome, Question
from diptych.evaluate.protocols import unknowns

CARD = Card(
    id="clipn",
    name="CLIPN",
    family="protocol",
    paper="CLIPN for Zero-Shot OOD Detection: Teaching CLIP to Say No (arXiv:2308.12213)",
    where="the two losses of the no text encoder; competing to win and agreeing to differ",
    code="https://github.com/xmed-lab/CLIPN",
    needs=frozenset({"labels", "a train split", "an unknown companion"}),
    claim='a learnt "no" tells unknown things better than the largest probability of the same model',
    published="+2.34 % AUROC and −11.64 % FPR95 at least over 7 methods, ImageNet-1K",
)
ORDER = 51
ASPECT = "Unknowns"
SUITES = {"full": ("study/zero-shot",)}
RULES = {"clipn_atd": "agreeing to differ", "clipn_ctw": "competing to win"}
ABOUT = {
    **{
        f"{rule}_{kind}": About(f"CLIPN {title}, {name}", meaning, better)
        for rule, name in RULES.items()
        for kind, (title, meaning, better, _) in unknowns.KINDS.items()
    },
    "clipn_over_msp": About("CLIPN over largest probability", "difference of AUROC, agreeing to differ", share=False),
    "clipn_over_max_logit": About("CLIPN over largest similarity", "difference of AUROC, agreeing to differ", share=False),
    **{
        f"{rule}_refused": About(f"CLIPN unknown refused, {name}", "share of unknown pictures that are refused")
        for rule, name in RULES.items()
    },
    **{f"{rule}_kept": About(f"CLIPN known kept, {name}", "share of known pictures that are not refused") for rule, name in RULES.items()},
}
HIDDEN, PROMPTS, EPOCHS, BATCH, RATE = 256, 16, 10, 256, 1e-3  # prompts, epochs: the paper's


class NoHead(nn.Module):
    """Rows of names to unit rows of their "no"."""

    def __init__(self, width: int, stream: Generator) -> None:
        super().__init__()
        self.prompt_PD = nn.Parameter(torch.zeros(PROMPTS, width))
        self.down_DH = nn.Parameter(torch.randn(width, HIDDEN, generator=stream) / width**0.5)
        self.up_HD = nn.Parameter(torch.zeros(HIDDEN, width))

    def forward(self, class_KD: Tensor, which_K: Tensor | None = None) -> Tensor:
        """Args: which_K: a prompt for each name, P standing for their mean; None takes the mean for all."""
        mean_1D = self.prompt_PD.mean(0, keepdim=True)
        prompt_KD = mean_1D if which_K is None else torch.cat([self.prompt_PD, mean_1D])[which_K]
        return functional.normalize(class_KD + functional.gelu((class_KD + prompt_KD) @ self.down_DH) @ self.up_HD, dim=1)


def binary_opposite(image_BD: Tensor, label_B: Tensor, class_KD: Tensor, no_KD: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """The two means of the image–text binary-opposite loss: over pictures with their own name, and with every other name."""
    yes_BK = scale * image_BD @ (class_KD - no_KD).T  # the log odds of yes
    own_B1 = yes_BK.gather(1, label_B[:, None])
    other = functional.softplus(yes_BK).sum() - functional.softplus(own_B1).sum()
    return functional.softplus(-own_B1).mean(), other / max(1, yes_BK.numel() - len(yes_BK))


def semantic_opposite(class_KD: Tensor, no_KD: Tensor) -> Tensor:
    """Mean of 2 − |g − g'|, 0 where each "no" is the opposite of its name; 1e-4 keeps the root off 0, as in the reference code."""
    return (2 - (2 - 2 * (class_KD * no_KD).sum(1) + 1e-4).sqrt()).mean()


def train(image_ND: Tensor, label_N: Tensor, class_KD: Tensor, scale: float, stream: Generator) -> NoHead:
    """The head after :data:`EPOCHS` epochs of AdamW."""
    with torch.enable_grad():
        head = NoHead(class_KD.shape[1], stream)
        search = torch.optim.AdamW(head.parameters(), lr=RATE, weight_decay=0.0)
        for _ in range(EPOCHS):
            for index_B in torch.randperm(len(image_ND), generator=stream).split(BATCH):
                no_KD = head(class_KD, torch.randint(PROMPTS + 1, (len(class_KD),), generator=stream))
                own, other = binary_opposite(image_ND[index_B], label_N[index_B], class_KD, no_KD, scale)
                loss = (own + other + semantic_opposite(class_KD, no_KD)) / 2
                search.zero_grad()
                loss.backward()
                search.step()
    return head.requires_grad_(False)


def rules(image_MD: Tensor, class_KD: Tensor, no_KD: Tensor, scale: float) -> dict[str, tuple[Tensor, Tensor]]:
    """For each of :data:`RULES` the score (higher is more like a known thing) and whether the picture is refused, ``M`` each.

    The scores are given as what grows with them and does not round to 1 for thousands of pictures: the log odds of yes, and
    −Σ_k p_no,k p_k, which is the paper's less 1.
    """
    image_MD, class_KD, no_KD = image_MD.double(), class_KD.double(), no_KD.double()
    p_MK = (scale * image_MD @ class_KD.T).softmax(1)
    yes_MK = scale * image_MD @ (class_KD - no_KD).T
    best_M, at_M = p_MK.max(1)
    differ_M = ((-yes_MK).sigmoid() * p_MK).sum(1)
    win_M = yes_MK.gather(1, at_M[:, None])[:, 0]
    return {"clipn_atd": (-differ_M, differ_M > best_M), "clipn_ctw": (win_M, win_M < 0)}


def applies(question: Question) -> bool:
    """What ``unknowns`` needs, and a train split."""
    return unknowns.applies(question) and fitting.can_fit(question)


def run(question: Question) -> Outcome:
    """AUROC, FPR95 and AUPR of both rules, what they refuse and keep, and the AUROC's difference to scores without training.

    The head is trained on the train split's pictures of the known names alone.

    Raises:
        UsageError: the splits or the unknown companion do not fit the set.
        SealedError: the train split holds test pictures.
    """
    two, scale = unknowns.mixed(question), fitting.scale(question.view.model)
    pictures = fitting.part(question, "train", two.names)
    head = train(pictures.image_ND, pictures.label_N, two.class_KD, scale, question.view.generator("clipn"))
    no_KD = head(two.class_KD)
    image_MD = torch.cat([two.known.image_ND, two.unknown_UD])
    found, plain = rules(image_MD, two.class_KD, no_KD, scale), ood.scores(two.similarities(), scale)
    unit_M, unknown_M = two.units(), two.unknown()
    metrics = [metric for name, (score_M, _) in found.items() for metric in unknowns.measured(name, score_M, two)]
    for other in ("msp", "max_logit"):
        value_M3 = torch.stack([found["clipn_atd"][0], plain[other], unknown_M], 1)
        metrics.append(Metric(f"clipn_over_{other}", value_M3, unit_M, 0.0, hits=False, of=lead))
    for name, (_, refused_M) in found.items():
        refused_M, strange_M = refused_M.double(), unknown_M != 0
        metrics.append(Metric(f"{name}_refused", refused_M[strange_M], unit_M[strange_M], None))
        metrics.append(Metric(f"{name}_kept", 1 - refused_M[~strange_M], unit_M[~strange_M], None))
    scores = {RULES[name]: score_M for name, (score_M, _) in found.items()} | {ood.SCORES["msp"]: plain["msp"]}
    return Outcome(CARD.id, tuple(metrics), two.index_N, {"scores": scores, "unknown": unknown_M})


def lead(value_M3: Tensor) -> float:
    """AUROC of the first score less that of the second; the third column says what is unknown."""
    return ood.auroc(value_M3[:, [0, 2]]) - ood.auroc(value_M3[:, [1, 2]])


def section(outcome: Outcome, thumbs: Thumbs) -> dict[str, Any]:
    """The curves of ``unknowns``, for both rules and the largest probability."""
    return unknowns.section(outcome, thumbs)
