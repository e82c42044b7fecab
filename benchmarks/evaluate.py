"""Zero-shot, retrieval and a linear probe on the same shards and weights: diptych beside CLIP_benchmark.

    python benchmarks/evaluate.py --peer OTHER/bin/python       # processor seconds of whole processes, turn by turn, medians

OTHER is an environment with clip_benchmark, open_clip and webdataset (and a numpy before 2.4, with which clip_benchmark 1.6.2 stops). The
shards are written in CLIP_benchmark's layout from the embedded drawings (40 classes, 18 prompts each; train, validation and test in
different styles) and scenes (120 pictures with their captions). The model is a small CLIP with random weights in open_clip's format: a
timing does not ask what was learnt. Each side is one process that loads the model once and does the three tasks, nothing cached before,
in float32, 64 pictures at a time, on one thread; ours also gives every number its interval. CLIP_benchmark's probe refuses to run without
a GPU: here its layers and tensors stay on the CPU, and its code is as it is (AdamW, 10 epochs, the weight decay by its own search on the
validation split). Ours is the logistic regression of ``linear_probe``, penalty chosen on the same split. The third column is our side a
second time, with the rows of the first kept: another head on the same features.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

CLASSES, SCENES, BATCH = 40, 120, 64
KINDS, THINGS, ARTICLES = ("", "good ", "bad "), ("photo", "drawing", "sketch"), ("a", "the")
TEMPLATES = [f"a {kind}{thing} of {article} {{c}}." for kind in KINDS for thing in THINGS for article in ARTICLES]
STYLES = {
    "train": ("noto", "fluent-color", "fluent-flat", "fluent-high-contrast", "fluent-3d"),
    "validation": ("noto-v1", "fxemoji"),
    "test": ("twemoji", "emojione", "emojione-monotone"),
}


def make(root: Path) -> None:
    """Write shards and model."""
    from diptych.data import pictograms
    from diptych.data.pictograms.scenes import Scenes
    from diptych.towers.dual import DualEncoder
    from diptych.towers.formats.load import save
    from diptych.towers.presets import preset

    model = DualEncoder(preset("vit-s-8-64"))
    save(model, root / "model", format="open_clip")
    named = {concept.id: concept.name for concept in pictograms.concepts()}
    samples = [*pictograms.samples("train"), *pictograms.samples("style")]
    number = {identity: i for i, identity in enumerate(sorted({s.concept for s in samples if s.concept})[:CLASSES])}
    for split, styles in STYLES.items():
        chosen = [s for s in samples if s.concept in number and s.meta["style"] in styles]
        shard(root / "pictures" / split, model, chosen, "cls", [str(number[s.concept]) for s in chosen if s.concept])
    (root / "pictures" / "classnames.txt").write_text("".join(f"{named[identity]}\n" for identity in number), encoding="utf-8")
    (root / "pictures" / "zeroshot_classification_templates.txt").write_text("\n".join(TEMPLATES) + "\n")
    scenes = [Scenes("style")[i] for i in range(SCENES)]
    shard(root / "scenes" / "test", model, scenes, "txt", ["\n".join(s.captions) for s in scenes])
    (root / "scenes" / "dataset_type.txt").write_text("retrieval\n")


def shard(folder: Path, model: Any, samples: list[Any], suffix: str, words: Iterable[str]) -> None:
    """One tar of PNGs at the model's size, so that both sides see the same pixels."""
    from PIL import Image

    from diptych.towers.encode import pixels

    folder.mkdir(parents=True)
    (folder / "nshards.txt").write_text("1\n")
    with tarfile.open(folder / "0.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for i, (sample, text) in enumerate(zip(samples, words, strict=True)):
            buffer = io.BytesIO()
            Image.fromarray(pixels(sample, model.config.preprocess).permute(1, 2, 0).numpy()).save(buffer, "PNG")
            for name, data in ((f"s{i:07d}.png", buffer.getvalue()), (f"s{i:07d}.{suffix}", text.encode())):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def ours(root: Path) -> dict[str, float]:
    """The three tasks by diptych; the features' folder is what DIPTYCH_CACHE says."""
    import torch

    from diptych.evaluate.run import evaluate
    from diptych.towers.formats.load import load

    torch.set_num_threads(1)
    model = load(str(root / "model"))
    found: dict[str, float] = {}
    for task, name in (("zero_shot", "pictures"), ("retrieval", "scenes"), ("linear_probe", "pictures")):
        start = time.process_time()
        records = evaluate(model, str(root / name), protocols=[task], batch_size=BATCH)
        found |= {f"{task}.{record.metric}": record.value for record in records}
        found[f"seconds[{task}]"] = time.process_time() - start
    return found


def theirs(root: Path) -> dict[str, float]:
    """The three tasks by CLIP_benchmark's own functions on its own readers."""
    import open_clip
    import torch
    from clip_benchmark.datasets.builder import build_dataset, image_captions_collate_fn
    from clip_benchmark.metrics import linear_probe, zeroshot_classification, zeroshot_retrieval

    torch.set_num_threads(1)
    torch.nn.Module.cuda = torch.Tensor.cuda = lambda self: self  # type: ignore[method-assign]
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{root / 'model'}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{root / 'model'}")
    model.eval()

    def loader(name: str, split: str, task: str = "zeroshot_classification", **options: Any) -> Any:
        data = build_dataset(f"wds/{name}", root=str(root / name), transform=transform, split=split, task=task)
        batched = data.batched(BATCH, **options)
        batched.classes, batched.templates = data.classes, data.templates
        return torch.utils.data.DataLoader(batched, batch_size=None, num_workers=0)

    test = loader("pictures", "test")
    classes, templates = test.dataset.classes, test.dataset.templates
    start = time.process_time()
    found = dict(zeroshot_classification.evaluate(model, test, tokenizer, classes, templates, "cpu", amp=False))
    found["seconds[zero_shot]"], start = time.process_time() - start, time.process_time()
    pairs = loader("scenes", "test", "zeroshot_retrieval", collation_fn=image_captions_collate_fn)
    found |= zeroshot_retrieval.evaluate(model, pairs, tokenizer, "cpu", amp=False, recall_k_list=[1, 5, 10])
    found["seconds[retrieval]"], start = time.process_time() - start, time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        splits = {split: loader("pictures", split) for split in STYLES}
        found |= linear_probe.evaluate(
            model, splits["train"], splits["test"], -1, BATCH, 0, 0.1, 10, "model", 0, folder, Anywhere("cpu"),
            val_dataloader=splits["validation"], amp=False,
        )  # fmt: skip
    found["seconds[linear_probe]"] = time.process_time() - start
    return {name: float(value) for name, value in found.items() if isinstance(value, float)}


class Anywhere(str):
    """The name of a device that also says it is a GPU."""

    def __eq__(self, other: object) -> bool:
        return other == "cuda" or str.__eq__(self, other)  # type: ignore[arg-type]

    __hash__ = str.__hash__


def timed(python: str, side: str, root: Path, cache: Path) -> tuple[float, float, dict[str, float]]:
    """Processor and wall seconds of one process, start to end, and what it found."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [python, __file__, "--side", side, "--root", str(root)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "DIPTYCH_CACHE": str(cache)}, capture_output=True, text=True,
    )  # fmt: skip
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr[-3000:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall, json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peer", help="Python of the environment with clip_benchmark")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=("ours", "theirs"), help="run one side in this process, on --root")
    parser.add_argument("--root", type=Path)
    args = parser.parse_args()
    if args.side:
        print(json.dumps({"ours": ours, "theirs": theirs}[args.side](args.root)))
        return
    if not args.peer:
        parser.error("--peer is needed")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make(root)
        seconds: dict[str, list[tuple[float, float]]] = {"theirs": [], "ours": [], "ours again": []}
        found: dict[str, dict[str, float]] = {}
        for turn in range(args.rounds):
            for name, python in (("theirs", args.peer), ("ours", sys.executable), ("ours again", sys.executable)):
                cpu, wall, found[name] = timed(python, name.split()[0], root, root / f"cache{turn}")
                seconds[name].append((cpu, wall))
                parts = ", ".join(f"{key[8:-1]} {value:.1f}" for key, value in found[name].items() if key.startswith("seconds["))
                print(f"round {turn + 1}, {name}: {cpu:.1f} s of processor ({parts}), {wall:.1f} s", flush=True)
                if turn == 0:
                    print(json.dumps({key: round(value, 6) for key, value in found[name].items() if "[" not in key}), flush=True)
    for name in ("ours", "ours again"):
        ratio = [a[0] / b[0] for a, b in zip(seconds["theirs"], seconds[name], strict=True)]
        print(f"theirs / {name}: {statistics.median(ratio):.2f} ({min(ratio):.2f} to {max(ratio):.2f}) of processor seconds")


if __name__ == "__main__":
    main()
