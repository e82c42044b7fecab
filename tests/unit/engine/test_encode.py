"""What makes a step fast must not change a number."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn import functional as F
from toys import Toys, run

from diptych.core.rng import generator
from diptych.engine.build import build_loader, build_model
from diptych.engine.encode import GROUP_COST, Encoder, TextCache, crop, inputs_of, length_groups, unique_rows
from diptych.engine.parallel import Ranks

CPU = Ranks(0, 1, 0, torch.device("cpu"))


def test_unique_rows_give_the_rows_back():
    ids_BL = torch.randint(0, 2, (50, 3), generator=generator(0, "ids"))
    unique_UL, index_B = unique_rows(ids_BL)
    assert torch.equal(unique_UL[index_B], ids_BL)
    assert len(unique_UL) == len(ids_BL.unique(dim=0)) == 8
    assert index_B[0] == 0


def test_crop_keeps_every_token():
    ids_BL = torch.tensor([[5, 9, 0, 0, 0], [5, 0, 7, 9, 0]])
    assert crop(ids_BL, 0).tolist() == [[5, 9, 0, 0], [5, 0, 7, 9]]
    assert crop(torch.zeros(2, 4, dtype=torch.long), 0).shape == (2, 1)


def plain_rows(model, batch):
    """The slow way: every caption on its own line, uncropped, pictures normalised by the definition."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (model.config.preprocess.mean, model.config.preprocess.std))
    pixels = (batch.image_BCHW.float() / 255 - mean) / std
    image_BD = F.normalize(model.image_projection(model.image(pixels)[0]), dim=-1)
    text_BD = F.normalize(model.text_projection(model.text(batch.text_BL)[0]), dim=-1)
    return image_BD, text_BD


@pytest.mark.parametrize("frozen", [False, True])
def test_rows_and_gradients_equal_the_plain_way(frozen):
    model = build_model(run())
    if frozen:
        model.text.requires_grad_(False)
    batch = next(build_loader(run(), Toys(), model, CPU))
    assert len(set(batch.captions)) < len(batch)
    image_BD, text_BD = plain_rows(model, batch)
    weight = torch.randn(text_BD.shape, generator=generator(0, "weight"))
    ((image_BD + text_BD) * weight).sum().backward()
    wanted = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    cache = TextCache(model.text) if frozen else None
    inputs = inputs_of(batch, model, cache, CPU.device)
    rows = Encoder(model, frozen_text=frozen)(inputs.image_BCHW, inputs.text_U, inputs.index_B)
    torch.testing.assert_close(rows.image_BD, image_BD, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(rows.text_BD, text_BD, atol=1e-6, rtol=1e-5)
    ((rows.image_BD + rows.text_BD) * weight).sum().backward()
    for name, grad in wanted.items():
        torch.testing.assert_close(dict(model.named_parameters())[name].grad, grad, atol=1e-4, rtol=1e-4, msg=name)


def test_frozen_texts_are_encoded_once_and_memory_is_bounded():
    model = build_model(run()).eval()
    cache = TextCache(model.text, limit=4 * 32 * 5, chunk=4)
    assert cache.slots == 5
    texts = [f"word {i}" for i in range(9)]
    ids_UL = model.tokenizer(texts)
    wanted = model.text(ids_UL)[0].detach()
    for chosen in ([0, 1, 2], [2, 1], [3, 4, 5, 0], list(range(9)), [8, 7, 0]):
        torch.testing.assert_close(cache(ids_UL[chosen], CPU.device), wanted[chosen], atol=1e-6, rtol=1e-5)
        assert len(cache._slot) <= 5
        assert cache._rows is not None
        assert len(cache._rows) <= 5
    fresh = TextCache(model.text)
    fresh(ids_UL, CPU.device)
    fresh(ids_UL[[3, 5]], CPU.device)
    assert (fresh.misses, fresh.hits) == (9, 2)


def test_groups_of_like_length_are_the_cheapest_and_complete():
    """Against every way to cut the sorted lengths."""
    draw = generator(0, "lengths")
    for size in (1, 3, 9, 60):
        length_U = torch.randint(3, 3 + min(size, 9), (size,), generator=draw)
        groups = length_groups(length_U)
        assert sorted(torch.cat(groups).tolist()) == list(range(size))
        lengths = sorted(length_U.tolist())
        inner = sorted(set(lengths))[:-1]
        costs = []
        for chosen in itertools.product((False, True), repeat=len(inner)):
            cuts = [length for length, cut in zip(inner, chosen, strict=True) if cut] + [lengths[-1]]
            work, below = 0, 0
            for cut in cuts:
                work += cut * sum(below < length <= cut for length in lengths) + GROUP_COST
                below = cut
            costs.append(work)
        assert sum(int(length_U[g].max()) * len(g) + GROUP_COST for g in groups) == min(costs)


def test_grouped_rows_and_gradients_equal_ungrouped():
    model = build_model(run()).double()
    ids_UL = model.tokenizer(["a", "a b c d e f g", "red", "a yellow disc", "b b", "c", "d", "e", "f", "g", "h", "i"] * 4)
    found = []
    for grouped in (False, True):
        encoder = Encoder(model)
        encoder.grouped = grouped
        model.zero_grad()
        rows_UW = encoder._pooled(ids_UL)[0]
        (rows_UW * torch.randn(rows_UW.shape, generator=generator(0, "weight"), dtype=torch.double)).sum().backward()
        found.append([rows_UW.detach(), *(p.grad.clone() for p in model.text.parameters())])
    assert len(length_groups((ids_UL != model.text.pad_id).sum(1))) > 1
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, atol=1e-12, rtol=1e-10)
