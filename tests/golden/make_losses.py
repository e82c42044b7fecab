"""Records 20 steps of open_clip's own training: start weights, batches, losses.

Run where open_clip is installed (it needs torchvision): ``python tests/golden/make_losses.py``. Written with
open_clip_torch 3.3.0, torch 2.14.1 on a CPU.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from open_clip.loss import ClipLoss
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from safetensors.torch import save_file

HERE = Path(__file__).resolve().parent / "losses"
CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "layers": 2, "width": 32, "patch_size": 4, "head_width": 16},
    "text_cfg": {"context_length": 12, "vocab_size": 64, "width": 32, "heads": 2, "layers": 2},
}
STEPS, BATCH, WARMUP, DIFFERENT = 20, 8, 4, 2
OPTIM = {"lr": 2e-3, "betas": [0.9, 0.98], "eps": 1e-6, "weight_decay": 0.2, "clip_grad": 1.0}


def batches() -> tuple[torch.Tensor, torch.Tensor]:
    """uint8 pictures (20, 8, 3, 16, 16) and texts (20, 8, 12): start 62, two to nine ids, end 63, zeros; two batches in turn."""
    draw = torch.Generator().manual_seed(7)
    image = torch.randint(0, 256, (DIFFERENT, BATCH, 3, 16, 16), generator=draw, dtype=torch.uint8)
    text = torch.zeros(DIFFERENT, BATCH, 12, dtype=torch.long)
    for row in text.view(-1, 12):
        count = int(torch.randint(2, 10, (1,), generator=draw))
        row[0], row[count + 1] = 62, 63
        row[1 : count + 1] = torch.randint(1, 62, (count,), generator=draw)
    turns = torch.arange(STEPS) % DIFFERENT
    return image[turns], text[turns]


def rate(step: int) -> float:
    """open_clip's cosine: a linear rise over the warm-up, then half a cosine over the rest."""
    if step < WARMUP:
        return OPTIM["lr"] * (step + 1) / WARMUP
    return 0.5 * (1 + math.cos(math.pi * (step - WARMUP) / (STEPS - WARMUP))) * OPTIM["lr"]


def main() -> None:
    torch.manual_seed(0)
    model = CLIP(CONFIG["embed_dim"], CLIPVisionCfg(**CONFIG["vision_cfg"]), CLIPTextCfg(**CONFIG["text_cfg"]))
    HERE.mkdir(exist_ok=True)
    save_file({name: value.clone() for name, value in model.state_dict().items()}, HERE / "weights.safetensors")
    plain = [p for n, p in model.named_parameters() if p.ndim < 2 or "bias" in n or "ln" in n or "logit_scale" in n]
    rest = [p for n, p in model.named_parameters() if not (p.ndim < 2 or "bias" in n or "ln" in n or "logit_scale" in n)]
    groups = [{"params": plain, "weight_decay": 0.0}, {"params": rest, "weight_decay": OPTIM["weight_decay"]}]
    optimizer = torch.optim.AdamW(groups, lr=OPTIM["lr"], betas=tuple(OPTIM["betas"]), eps=OPTIM["eps"])
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)))
    loss_of, losses, norms = ClipLoss(), [], []
    model.train()
    images, texts = batches()
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        optimizer.zero_grad()
        image, text, scale = model((images[step].float() / 255 - mean) / std, texts[step])
        loss = loss_of(image, text, scale)
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), OPTIM["clip_grad"])))
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        losses.append(loss.item())
    facts = {"config": CONFIG, "optim": OPTIM, "warmup": WARMUP, "losses": losses, "norms": norms}
    (HERE / "losses.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
