"""How many patch tokens are left after each block."""

from __future__ import annotations

from typing import Literal

from diptych.core.errors import UsageError

Spread = Literal["even", "share", "early"]


def counts(patches: int, ratio: float, steps: int, spread: Spread, halves: bool = True) -> tuple[int, ...]:
    """Patch tokens after each of ``steps`` reductions, ``patches - round(ratio · patches)`` (at least 1) after the last.

    Args:
        ratio: share of the patches that is gone in the end, in [0, 1).
        spread: ``"even"`` takes as many away each time; ``"share"`` takes the same share of what is left; ``"early"`` all
            that can go goes at once, which spares the most.
        halves: one reduction can at most halve; where an even spread would ask for more at the end, more is done earlier.

    Raises:
        UsageError: so many reductions of at most a half cannot reach the ratio.
    """
    last = max(1, patches - round(ratio * patches))
    if spread == "even":
        left = [patches - round((patches - last) * (step + 1) / steps) for step in range(steps)]
    elif spread == "share":
        left = [round(patches * (last / patches) ** ((step + 1) / steps)) for step in range(steps)]
    else:
        left = [max(last, -(-patches // 2 ** (step + 1)) if halves else last) for step in range(steps)]
    left[-1] = last
    if halves:
        for step in range(steps - 2, -1, -1):
            left[step] = min(left[step], 2 * left[step + 1])
        if patches > 2 * left[0]:
            why = f"{patches} patches cannot become {last} in {steps} blocks, each of which merges at most half"
            raise UsageError(f"tokens.options.ratio {ratio}", why, "Use a smaller ratio")
    return tuple(left)
