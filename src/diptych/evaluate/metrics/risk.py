"""A linear probe in closed form, and what of its risk comes from where.

Paper: Dubois, Hashimoto and Liang, Evaluating Self-Supervised Learning via Risk Decomposition (arXiv:2302.03068), the
estimators; the probe is ridge regression to one-hot targets (Hoerl and Kennard, Technometrics 12, 1970), which costs one solve.

    W = (XᵀX + λ n I)⁻¹ Xᵀ Y,  X and Y less their means            # Y: one-hot
    label = argmax(mean(Y) + (x − mean(X)) W)

Shapes: N training rows, M others, D width, K classes, L penalties.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diptych.core.errors import UsageError

PENALTIES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)


@dataclass(frozen=True, slots=True)
class Probe:
    """A linear classifier: ``scores = offset + row @ weight``."""

    weight_DK: Tensor
    offset_K: Tensor

    def predict(self, rows_MD: Tensor, block: int = 2048) -> Tensor:
        """The best class of each row (int64 ``M``)."""
        parts = [(self.offset_K + part.double() @ self.weight_DK).argmax(1) for part in rows_MD.split(block)]
        return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.int64)


def fit(rows_ND: Tensor, label_N: Tensor, classes: int, penalties: Sequence[float] = PENALTIES) -> list[Probe]:
    """One ridge probe for each penalty (λ, a share of the rows' own second moment), from one eigendecomposition.

    Raises:
        UsageError: there are no rows, or a penalty is not above 0.
    """
    if not len(rows_ND) or min(penalties) <= 0:
        raise UsageError("ridge probe", f"{len(rows_ND)} rows, penalties {tuple(penalties)}", "Give rows, and penalties above 0")
    x_ND = rows_ND.double()
    mean_D = x_ND.mean(0)
    x_ND = x_ND - mean_D
    prior_K = torch.bincount(label_N, minlength=classes).double() / len(label_N)
    product_KD = torch.zeros(classes, x_ND.shape[1], dtype=torch.float64).index_add_(0, label_N, x_ND)  # XᵀY; the mean of Y adds nothing
    value_D, vector_DD = torch.linalg.eigh(x_ND.T @ x_ND)
    turned_DK = vector_DD.T @ product_KD.T
    probes = []
    for penalty in penalties:
        weight_DK = vector_DD @ (turned_DK / (value_D.clamp(min=0) + penalty * len(rows_ND))[:, None])
        probes.append(Probe(weight_DK, prior_K - mean_D @ weight_DK))
    return probes


def errors(probe: Probe, rows_MD: Tensor, label_M: Tensor) -> Tensor:
    """1.0 where the probe is wrong (float64 ``M``)."""
    return (probe.predict(rows_MD) != label_M).double()


def irreducible(content: Sequence[str | None], label_N: Tensor) -> Tensor:
    """1.0 for examples that no function of the picture can get right (float64 ``N``): same content, another label than most of its copies.

    Args:
        content: what tells pictures apart, such as a hash of their bytes; None where nothing is known (then it is unlike all others).
    """
    votes: dict[str, dict[int, int]] = {}
    for key, label in zip(content, label_N.tolist(), strict=True):
        if key is not None:
            counted = votes.setdefault(key, {})
            counted[label] = counted.get(label, 0) + 1
    best = {key: max(sorted(counted), key=counted.__getitem__) for key, counted in votes.items()}
    wrong = [key is not None and best[key] != label for key, label in zip(content, label_N.tolist(), strict=True)]
    return torch.tensor(wrong, dtype=torch.float64)
