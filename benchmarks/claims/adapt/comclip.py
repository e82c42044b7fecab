"""ComCLIP with windows of a grid against the plain cosine: which of two captions, colours or places exchanged."""

from collections.abc import Mapping

import torch
from arms import Arm, Comparison, main
from common import Values
from word_worlds import bindings
from worlds import Case

from diptych.engine.fewshot import fitted
from diptych.towers.rule import Rule


def right(case: Case, score_N2: torch.Tensor) -> Mapping[str, Values]:
    """1.0 where the true caption scores above the false one."""
    true_N = score_N2.gather(1, case.label_N[:, None])[:, 0]
    false_N = score_N2.gather(1, 1 - case.label_N[:, None])[:, 0]
    return {"accuracy": Values((true_N > false_N).double(), case.unit_N)}


def plain(case: Case) -> Mapping[str, Values]:
    """The cosine of the picture's row and the captions'."""
    texts = [case.work.shots.texts(sample.meta["choices"]) for sample in case.world.tested.source]
    return right(case, torch.stack([row_2D @ image_D for row_2D, image_D in zip(texts, case.image_ND, strict=True)]))


def parts(**options: object) -> Arm:
    """The rule, asked of each picture with its own two captions."""

    def run(case: Case) -> Mapping[str, Values]:
        rule = fitted("comclip", case.work, options)[0]
        assert isinstance(rule, Rule)
        source = case.world.tested.source
        found = [
            rule.answer(case.work.model, source[i].meta["choices"]).logits(case.pixels(torch.tensor([i])))[0] for i in range(len(source))
        ]
        return right(case, torch.stack(found))

    return run


if __name__ == "__main__":
    attributes, relations = bindings("attributes", 40), bindings("relations", 7)
    main(
        *(
            Comparison("comclip", world, ("cosine", plain), (name, parts(**options)), ("accuracy",), shots=0)
            for world, name, options in (
                (attributes, "sub-images, black outside", {}),
                (relations, "sub-images, black outside", {}),
                (attributes, "sub-images, the model's own ground outside", {"outside": "pad"}),
            )
        )
    )
