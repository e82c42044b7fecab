"""Prompts in both towers against loops that read one row at a time, a token after the other; how they travel with a model."""

from __future__ import annotations

import pytest
import torch
from test_towers import IMAGES, VIT, picture, randomise
from torch import Tensor
from torch.nn import functional

import diptych
from diptych.core.errors import DiptychError, UsageError
from diptych.core.types import Tokens
from diptych.data.tokenizers import Tokenizer, TokenizerConfig
from diptych.towers.bert import BertConfig
from diptych.towers.build import build_image_tower
from diptych.towers.dual import DualEncoder
from diptych.towers.layers import Block
from diptych.towers.mamba_clip import MambaConfig
from diptych.towers.presets import preset
from diptych.towers.prompts import Inserted, PromptConfig, Prompts, text_start, with_room
from diptych.towers.text import TransformerConfig

BYTES = {"vocab": 300, "context": 16, "width": 16, "depth": 3, "heads": 2, "pad_id": 258}
CAUSAL = TransformerConfig(**BYTES, mlp=24, pool="eos", eos_id=257)
BOTH_WAYS = TransformerConfig(**BYTES, mlp=24, causal=False, pool="last")
BERT = BertConfig(**BYTES, mlp_width=24)
WORDS = ["a", "an owl", "", "a very long name of a thing"]


def numbers(*shape: int, stream: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(stream))


def layers_of(count: int, tokens: int, width: int = 16) -> tuple[Tensor, ...]:
    return tuple(numbers(tokens, width, stream=10 + index) for index in range(count))


def with_text(text) -> DualEncoder:
    """A model that reads bytes with this text tower, every weight random."""
    config = preset("tiny").model_copy(update={"text": text, "tokenizer": TokenizerConfig(context=16, pad_id=258)})
    return randomise(DualEncoder(config, Tokenizer.byte_level(16)))  # type: ignore[return-value]


@pytest.fixture(scope="module")
def model() -> DualEncoder:
    return with_text(CAUSAL)


@pytest.fixture(scope="module")
def both() -> Prompts:
    return Prompts.of(text=layers_of(2, 3), image=layers_of(1, 2, 32), made_by="test")


def slow_image(tower, x_TD: Tensor, layers: tuple[Tensor, ...]) -> Tensor:
    """Tokens of one picture through the blocks, its own apart from those put in."""
    own = list(x_TD)
    more: list[Tensor] = []
    for index, block in enumerate(tower.blocks):
        if index < len(layers):
            more = list(layers[index])
        out = block(torch.stack(own + more)[None])[0]
        own, more = list(out[: len(own)]), list(out[len(own) :])
    return torch.stack(own)


@pytest.mark.parametrize("config", IMAGES[:4], ids=lambda config: f"{config.kind}-{getattr(config, 'pool', '')}")
@pytest.mark.parametrize("count", [1, 2])
def test_picture_prompts_are_the_plain_loop(config, count: int) -> None:
    tower, layers = randomise(build_image_tower(config)), layers_of(count, 3)
    x = picture(config)
    state = tower.embed(x)
    wanted_BTD = torch.stack([slow_image(tower, x_TD, layers) for x_TD in state.x_BTD])
    rows, seen = tower(x, prompts=Inserted(layers), taps={"image.tokens"})
    torch.testing.assert_close(rows, tower.pool(Tokens(wanted_BTD, state.prefix, state.grid)), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(seen["image.tokens"], tower.norm(wanted_BTD[:, state.prefix :]), atol=1e-5, rtol=1e-5)
    assert (rows - tower(x)[0]).abs().max() > 0.01


def slow_text(tower, ids: list[int], layers: tuple[Tensor, ...], at: int) -> tuple[Tensor, int]:
    """States of one text with prompts behind ``at`` tokens, and how many of its tokens stand before the closing one."""
    count, rows = len(layers[0]), [tower.token.weight[i] if hasattr(tower, "token") else tower.token_embedding.weight[i] for i in ids]
    position = tower.position if hasattr(tower, "position") else tower.position_embedding
    rows = rows[:at] + list(layers[0]) + rows[at:]
    if len(rows) > tower.context:
        rows = [*rows[: tower.context - 1], rows[-1]]
    x_LD = torch.stack([row + position[place] for place, row in enumerate(rows)])
    x_LD = tower.norm(x_LD) if isinstance(tower.config, BertConfig) else x_LD
    for index, block in enumerate(tower.blocks):
        if 0 < index < len(layers):
            x_LD = torch.stack([layers[index][p - at] if at <= p < at + count else row for p, row in enumerate(x_LD)])
        x_LD = block(x_LD[None])[0]
    return x_LD, len(rows) - 1


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("config", [CAUSAL, BERT], ids=["causal", "bert"])
def test_text_prompts_are_the_plain_loop(config, count: int) -> None:
    """Of texts short and cut: the start token, the prompts, the words, the closing token, without any padding."""
    model, layers = with_text(config), layers_of(count, 3)
    ids_BL = model.tokenizer(WORDS)
    wanted = []
    for row in ids_BL.tolist():
        ids = [token for token in row if token != 258]
        x_LD, last = slow_text(model.text, ids, layers, at=1)
        wanted.append(x_LD.mean(0) if config is BERT else model.text.norm(x_LD[last]))
    rows = functional.normalize(model.text_projection(torch.stack(wanted)), dim=-1)
    torch.testing.assert_close(model.text_features(ids_BL, prompts=Inserted(layers, 1)), rows, atol=1e-5, rtol=1e-5)
    assert model.text.crops
    torch.testing.assert_close(model.text_features(ids_BL[:2, :8], prompts=Inserted(layers, 1)), rows[:2], atol=1e-5, rtol=1e-5)
    assert (rows - model.text_features(ids_BL)).abs().max() > 0.01


@pytest.mark.parametrize("layers", [1, 3])
def test_what_all_texts_begin_with_is_computed_once(layers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start token and prompts pass through a causal tower's blocks in one row; rows and gradients are those of the plain way."""
    model = with_text(CAUSAL)
    ids_BL = model.tokenizer(WORDS)
    read: list[tuple[int, ...]] = []
    plain = Block.forward
    monkeypatch.setattr(Block, "forward", lambda self, x, *rest: read.append(tuple(x.shape)) or plain(self, x, *rest))
    made = {}
    for same in (False, True):
        learned = [layer.clone().requires_grad_() for layer in layers_of(layers, 3)]
        rows_BD = model.text_features(ids_BL, prompts=Inserted(tuple(learned), 1, same=same))
        (rows_BD * numbers(*rows_BD.shape)).sum().backward()
        made[same] = (rows_BD, *(layer.grad for layer in learned))
        assert len(read) == (0 if same else len(model.text.blocks) - 1)
        read.clear()
    for mine, wanted in zip(made[True], made[False], strict=True):
        torch.testing.assert_close(mine, wanted, atol=1e-5, rtol=1e-4)
    assert Inserted((numbers(4, 2, 16),), 1, same=True).first == 0


def test_text_prompts_with_the_last_row_are_the_plain_loop() -> None:
    """SigLIP's manner: padding is read, and the row is that of the last of all places."""
    model, layers = with_text(BOTH_WAYS), layers_of(2, 3)
    ids_BL = model.tokenizer(WORDS)
    for index, row in enumerate(ids_BL.tolist()):
        x_LD, last = slow_text(model.text, row, layers, at=1)
        assert last == 15
        wanted = functional.normalize(model.text_projection(model.text.norm(x_LD[last])), dim=-1)
        got = model.text_features(ids_BL, prompts=Inserted(layers, 1))[index]
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)


def test_every_row_may_have_prompts_of_its_own(model: DualEncoder) -> None:
    ids_BL, own_BMD = model.tokenizer(WORDS), numbers(4, 2, 16)
    rows = model.text_features(ids_BL, prompts=Inserted((own_BMD,), 1))
    pixels, image_BMD = torch.rand(2, 3, 32, 32), numbers(2, 3, 32)
    seen = model.image_features(pixels, prompts=Inserted((image_BMD,)))
    for index in range(4):
        alone = model.text_features(ids_BL[index : index + 1], prompts=Inserted((own_BMD[index],), 1))
        torch.testing.assert_close(rows[index : index + 1], alone, atol=1e-5, rtol=1e-5)
    for index in range(2):
        alone = model.image_features(pixels[index : index + 1], prompts=Inserted((image_BMD[index],)))
        torch.testing.assert_close(seen[index : index + 1], alone, atol=1e-5, rtol=1e-5)


def test_tokens_go_to_their_places() -> None:
    x_BTD = torch.arange(10.0).reshape(1, 5, 2)
    prompt_MD, deep_MD = torch.full((2, 2), -1.0), torch.full((2, 2), -2.0)
    behind = Inserted((prompt_MD, deep_MD))
    first = behind.put(0, x_BTD)
    assert first[0].tolist() == [*x_BTD[0].tolist(), [-1.0, -1.0], [-1.0, -1.0]]
    assert behind.put(1, first)[0].tolist() == [*x_BTD[0].tolist(), [-2.0, -2.0], [-2.0, -2.0]]
    assert behind.put(2, first) is first
    assert torch.equal(behind.take_away(first), x_BTD)
    inside = Inserted((prompt_MD,), at=1)
    assert inside.put(0, x_BTD)[0].tolist() == [[0.0, 1.0], [-1.0, -1.0], [-1.0, -1.0], [6.0, 7.0], [8.0, 9.0]]
    assert inside.take_away(x_BTD) is x_BTD


def test_room_keeps_the_closing_token_of_a_full_text(model: DualEncoder) -> None:
    ids_BL = model.tokenizer(["abc", "abcdefghijkl", "abcdefghijklmnop"])
    made = with_room(model, ids_BL, 4).tolist()
    z, hold, pad = 257, made[0][1], 258
    letters = [model.tokenizer([letter])[0, 1].item() for letter in "abcdefghijklmnop"]
    assert hold not in (pad, z)
    assert made[0] == [256, *[hold] * 4, *letters[:3], z, *[pad] * 7]
    assert made[1] == [256, *[hold] * 4, *letters[:10], z]
    assert made[2] == [256, *[hold] * 4, *letters[:10], z]
    short = with_room(model, ids_BL[:1, :5], 4)
    assert short.shape == (1, 9)
    with pytest.raises(UsageError, match="14 prompt tokens: the text tower reads 16"):
        with_room(model, ids_BL, 14)
    assert with_room(model, ids_BL, 13).shape == (3, 16)


def test_without_a_start_token_prompts_stand_in_front() -> None:
    model = with_text(BOTH_WAYS)
    model.tokenizer = None
    assert text_start(model) == 0
    made = with_room(model, torch.tensor([[7, 8, 257, 258]]), 2)
    assert made[0, 2:].tolist() == [7, 8, 257, 258]


def pixels_of(count: int = 2) -> Tensor:
    return (numbers(count, 3, 32, 32).sigmoid() * 255).to(torch.uint8)


def test_a_model_reads_its_own_prompts(model: DualEncoder, both: Prompts) -> None:
    prompted = model.with_prompts(both, ["a {} there"])
    text = Inserted(tuple(both.get_buffer("text")), 1)
    torch.testing.assert_close(prompted.encode_text(WORDS), model.text_features(model.tokenizer(WORDS), prompts=text).detach())
    image = Inserted(tuple(both.get_buffer("image")))
    torch.testing.assert_close(prompted.encode_image(pixels_of()), model.image_features(pixels_of(), prompts=image).detach())
    rows = prompted.classifier(["owl", "cat"]).rows_KD
    torch.testing.assert_close(rows, prompted.encode_text(["a owl there", "a cat there"]), atol=1e-6, rtol=0)
    assert both.numbers() == 2 * 3 * 16 + 2 * 32
    assert both.config == PromptConfig(text=3, text_layers=2, image=2, made_by="test")


def test_share_goes_from_the_parents_rows_to_the_prompted(model: DualEncoder, both: Prompts) -> None:
    plain = (model.encode_image(pixels_of()), model.encode_text(WORDS))
    far = model.with_prompts(both)
    whole = (far.encode_image(pixels_of()), far.encode_text(WORDS))
    for share in (0.0, 0.3, 1.0):
        part = model.with_prompts(both.shared(share))
        for got, zero, one in zip((part.encode_image(pixels_of()), part.encode_text(WORDS)), plain, whole, strict=True):
            mixed = torch.stack([(1 - share) * a + share * b for a, b in zip(zero, one, strict=True)])
            torch.testing.assert_close(got, mixed / mixed.norm(dim=1, keepdim=True), atol=2e-6, rtol=0)
    assert torch.equal(model.with_prompts(both.shared(1.0)).encode_text(WORDS), whole[1])


def test_prompts_travel_with_the_model_and_leave_the_parent_alone(model: DualEncoder, both: Prompts, tmp_path) -> None:
    before, rows = model.fingerprint(), model.encode_text(WORDS)
    prompted = model.with_prompts(both.shared(0.5), ["{}!"])
    assert model.prompts is None
    assert model.fingerprint() == before
    assert torch.equal(model.encode_text(WORDS), rows)
    marks = {prompted.fingerprint(), model.with_prompts(both, ["{}!"]).fingerprint(), before}
    assert len(marks) == 3
    assert prompted.rows_fingerprint() == prompted.fingerprint() != model.rows_fingerprint()
    diptych.save(prompted, tmp_path / "prompted")
    again = diptych.load(str(tmp_path / "prompted"))
    assert again.fingerprint() == prompted.fingerprint()
    assert again.templates == ("{}!",)
    assert torch.equal(again.encode_text(WORDS), prompted.encode_text(WORDS))
    assert torch.equal(again.encode_image(pixels_of()), prompted.encode_image(pixels_of()))
    assert prompted.with_prompts(None, model.templates).fingerprint() == before
    with torch.no_grad():
        again.prompts.get_buffer("text").add_(0.5)
    assert again.fingerprint() != prompted.fingerprint()


def test_changed_prompts_are_found_at_load(model: DualEncoder, both: Prompts, tmp_path) -> None:
    folder = diptych.save(model.with_prompts(both), tmp_path / "prompted")
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"share": 1.0', '"share": 0.5'))
    with pytest.raises(DiptychError, match="golden"):
        diptych.load(str(folder))


@pytest.mark.parametrize("format", ["open_clip", "huggingface", "openai"])
def test_other_formats_refuse_prompts_rather_than_lose_them(model: DualEncoder, both: Prompts, format, tmp_path) -> None:
    with pytest.raises(DiptychError, match=f"{format} has no place for its prompts"):
        diptych.save(model.with_prompts(both), tmp_path / "other", format=format)
    assert not (tmp_path / "other").exists()


def test_prompts_of_no_token_are_none() -> None:
    with pytest.raises(ValueError, match="without a token in either tower"):
        PromptConfig()
    with pytest.raises(ValueError, match="less than or equal to 1"):
        PromptConfig(text=1, share=1.5)


class Drop:
    """A token method that drops a token after each block."""

    name = "drop"
    embed_only = False

    def after_embed(self, tokens: Tokens) -> Tokens:
        return tokens

    def after_block(self, index: int, tokens: Tokens) -> Tokens:
        return tokens


def test_towers_in_which_there_is_no_place_refuse() -> None:
    prompts = Inserted(layers_of(1, 2))
    tower = randomise(build_image_tower(VIT))
    with pytest.raises(UsageError, match=r"prompts with token method 'drop'.*lose the prompts"):
        tower(picture(VIT), tokens=Drop(), prompts=prompts)
    with pytest.raises(UsageError, match=r"prompts in image tower 'conv'.*no blocks"):
        build_image_tower(IMAGES[4])(picture(IMAGES[4]), prompts=prompts)
    scan = MambaConfig(image_size=(32, 32), patch=8, width=16, depth=1)
    model = DualEncoder(preset("tiny").model_copy(update={"image": scan}))
    with pytest.raises(UsageError, match=r"prompts in image tower 'mamba'.*no place for more tokens"):
        model.image_features(pixels_of(), prompts=prompts)


def test_more_layers_than_blocks_are_refused_rather_than_left_unread() -> None:
    with pytest.raises(UsageError, match=r"prompts in 3 layers of tower 'vit': it has 2 blocks\. Use at most 2"):
        build_image_tower(VIT)(picture(VIT), prompts=Inserted(layers_of(3, 2)))
    for config, kind in ((CAUSAL, "transformer"), (BERT, "bert")):
        model = with_text(config)
        with pytest.raises(UsageError, match=f"prompts in 4 layers of tower '{kind}': it has 3 blocks"):
            model.text_features(model.tokenizer(WORDS), prompts=Inserted(layers_of(4, 2), 1))


def test_a_method_that_only_looks_at_the_embedding_goes_with_prompts() -> None:
    class First(Drop):
        embed_only = True

        def after_embed(self, tokens: Tokens) -> Tokens:
            return Tokens(tokens.x_BTD[:, :4], tokens.prefix, None)

    tower, prompts = randomise(build_image_tower(VIT)), layers_of(2, 2)
    rows, _ = tower(picture(VIT), tokens=First(), prompts=Inserted(prompts))
    x_BTD = tower.embed(picture(VIT)).x_BTD[:, :4]
    wanted = torch.stack([slow_image(tower, x_TD, prompts)[0] for x_TD in x_BTD])
    torch.testing.assert_close(rows, tower.norm(wanted), atol=1e-5, rtol=1e-5)
