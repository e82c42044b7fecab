"""How near a training step comes to its own matrix products: seconds of the products alone over seconds of the whole step.

    OMP_NUM_THREADS=1 python benchmarks/step_bound.py                          # presets vit-s-8-64 and vit-b-32
    OMP_NUM_THREADS=1 python benchmarks/step_bound.py --peer --model vit-s-8-64   # open_clip beside it, where it is installed

One step is watched for every matrix product and convolution that it does, forward and backward: shape, layout in memory, type, how often.
Each of them is then done alone, on tensors of its own that are laid out in the same way, in the same process and turn by turn with whole
steps; their seconds, each times its count, are the bound. Of fused attention only its products count: two forward and four backward, under
a causal mask those that the mask leaves. Everything else (norms, activations, softmax, look-ups, loss, optimiser, Python) counts as
overhead. The fraction is the median over rounds of bound / step, both in processor seconds of this process, which waiting for a busy core
does not lengthen. Repeated products find their inputs in the cache, where a step's do not, so that the bound is lower than what can be had.

open_clip's side does what its training loop does (see train_step.py) and is held against its own products, padding and all; ours does less
work for the same batch, so the fractions say how well each uses the machine, and seconds a step who is done first.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from diptych.core.rng import generator
from diptych.core.types import Batch
from diptych.engine.parallel import Ranks
from diptych.engine.run import Run
from diptych.engine.step import Stepper
from diptych.towers.dual import DualEncoder
from diptych.towers.presets import preset

CLOCK = time.process_time
CPU = Ranks(0, 1, 0, torch.device("cpu"))
PRODUCTS = {"aten.mm.default", "aten.addmm.default", "aten.bmm.default", "aten.baddbmm.default"}
CONVOLUTIONS = {"aten.convolution.default", "aten.convolution_backward.default"}
ATTENTION = {
    "aten._scaled_dot_product_flash_attention_for_cpu.default": 2,
    "aten._scaled_dot_product_flash_attention_for_cpu_backward.default": 5,
}


def spec(value: Any) -> Any:
    """A hashable description from which :func:`made` makes an argument again."""
    if isinstance(value, Tensor):
        return ("tensor", tuple(value.shape), tuple(value.stride()), value.dtype)
    return ("list", tuple(value)) if isinstance(value, list) else ("value", value)


def made(described: Any) -> Any:
    """A random tensor of that shape and layout, or the plain value."""
    if described[0] != "tensor":
        return list(described[1]) if described[0] == "list" else described[1]
    _, shape, stride, dtype = described
    room = 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    return torch.randn(max(room, 1), dtype=torch.float32).to(dtype).as_strided(shape, stride)


class Watch(TorchDispatchMode):
    """Counts every product by what it is called with."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[Any] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        if name in PRODUCTS | CONVOLUTIONS:
            self.counts[func, tuple(map(spec, args))] += 1
        elif name in ATTENTION:
            backward = "backward" in name
            q, k = args[1:3] if backward else args[:2]
            causal = bool(args[7] if backward and len(args) > 7 else (args[4] if len(args) > 4 else (kwargs or {}).get("is_causal", False)))
            self._attend(q, k, causal, backward)
        return func(*args, **(kwargs or {}))

    def _attend(self, q: Tensor, k: Tensor, causal: bool, backward: bool) -> None:
        """The products of fused attention, as batched ones over contiguous heads."""
        rows, (length, wide), seen = q.shape[0] * q.shape[1], q.shape[2:], k.shape[2]
        share = (seen + 1) / (2 * seen) if causal else 1.0

        def add(left: tuple[int, int], right: tuple[int, int], times: int) -> None:
            parts = [("tensor", (rows, *side), (side[0] * side[1], side[1], 1), q.dtype) for side in (left, right)]
            self.counts[torch.ops.aten.bmm.default, tuple(parts)] += times * share  # type: ignore[assignment]

        add((length, wide), (wide, seen), 1)
        add((length, seen), (seen, wide), 1)
        if backward:
            add((seen, length), (length, wide), 2)


def seconds_of(counts: Counter[Any], tensors: dict[Any, list[Any]]) -> float:
    """Processor seconds of all products: each is done a few times, the mean counts as often as the step does it."""
    total = 0.0
    with torch.no_grad():
        for (func, described), count in counts.items():
            args = tensors[func, described]
            times = max(1, min(4, round(count)))
            began = CLOCK()
            for _ in range(times):
                func(*args)
            total += (CLOCK() - began) / times * count
    return total


def drawn(model: DualEncoder, rows: int, mean: float) -> Batch:
    """Noise pictures and different captions whose lengths have the given mean (normal, deviation 4, 5 to 40)."""
    draw, config = generator(0, "bound"), model.config.text
    vocab, context = config.vocab, config.context
    image = torch.randint(0, 256, (rows, 3, *model.config.preprocess.size), generator=draw, dtype=torch.uint8)
    text = torch.full((rows, context), model.text.pad_id)
    length = (torch.randn(rows, generator=draw) * 4 + mean).round().long().clamp(5, min(40, context))
    for row, count in enumerate(length.tolist()):
        text[row, : count - 1] = torch.randint(2, vocab - 2, (count - 1,), generator=draw)
        text[row, count - 1] = vocab - 1
    return Batch(image, text, tuple(map(str, range(rows))), torch.arange(rows))


def our_step(name: str, batch: Batch | None, rows: int, mean: float) -> tuple[Callable[[], None], DualEncoder]:
    """Our whole step on one batch."""
    model = DualEncoder(preset(name))
    batch = batch or drawn(model, rows, mean)
    run = Run.from_dict({"init": {"preset": name}, "data": {"batch": rows, "workers": 0}, "budget": {"steps": 1000}, "precision": "off"})
    stepper = Stepper(run, model, CPU)
    return lambda: float(stepper(batch, 0, 1e-5).loss) and None, model  # reading the loss waits for the step


def peer_step(name: str, rows: int, mean: float) -> Callable[[], None]:
    """open_clip's step at the same sizes, as in train_step.py."""
    import train_step

    theirs = train_step.peer(name)
    ours = train_step.ours(name, theirs.state_dict())
    step, batch = (
        train_step.peer_step(theirs, ours.mean.clone(), ours.std.clone()),
        train_step.drawn(rows, ours.config.preprocess.size[0], mean),
    )
    return lambda: step(batch) and None


def measure(step: Callable[[], None], rounds: int) -> dict[str, Any]:
    """The fraction and what it is made of."""
    step()
    with Watch() as watch:
        step()
    tensors = {key: [made(part) for part in key[1]] for key in watch.counts}
    seconds_of(watch.counts, tensors)
    steps, bounds = [], []
    for _ in range(rounds):
        began = CLOCK()
        step()
        steps.append(CLOCK() - began)
        bounds.append(seconds_of(watch.counts, tensors))
    return {
        "fraction": round(statistics.median(b / s for b, s in zip(bounds, steps, strict=True)), 3),
        "seconds a step": round(statistics.median(steps), 4),
        "seconds of products": round(statistics.median(bounds), 4),
        "products": round(sum(watch.counts.values())),
        "different": len(watch.counts),
        "rounds": rounds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", default=["vit-s-8-64", "vit-b-32"], help="presets of transformers with text of their own")
    parser.add_argument("--batch", type=int, nargs="+", default=[64], help="rows a step, one for all models or one each")
    parser.add_argument("--mean", type=float, default=12.0, help="mean tokens of a drawn caption, marks included")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--peer", action="store_true", help="measure open_clip too; it must be installed")
    args = parser.parse_args()
    found: dict[str, Any] = {"torch": torch.__version__, "threads": torch.get_num_threads(), "tokens a caption": args.mean}
    for name, rows in zip(args.model, args.batch if len(args.batch) > 1 else args.batch * len(args.model), strict=True):
        found[name] = {"batch": rows, "diptych": measure(our_step(name, None, rows, args.mean)[0], args.rounds)}
        if args.peer:
            found[name]["open_clip"] = measure(peer_step(name, rows, args.mean), args.rounds)
        found[name]["load"] = os.getloadavg()[0]
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
