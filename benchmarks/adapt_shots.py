"""Accuracy against shots of every method that adapts from rows, on data with a training and a test split, several draws of the shots.

    OMP_NUM_THREADS=1 python benchmarks/adapt_shots.py pocket photos/ --shots 1 4 16 --seeds 5

Prints one line a method and number of shots: mean top-1 over the draws, the gain over the words alone with an interval (95 %, draws of the
shots and test pictures resampled), and seconds of choosing and fitting. Options are chosen by cross-validation inside the shots.
"""

from __future__ import annotations

import argparse
import json
import statistics

import torch

from diptych.core.rng import generator
from diptych.engine.fewshot import fitted, methods
from diptych.evaluate.features import Features, default_folder
from diptych.evaluate.material import table
from diptych.recipes.given import shots_of, splits
from diptych.towers.formats.load import load


def hits(head, image_ND, label_N) -> torch.Tensor:
    """1.0 where the head names a picture rightly, float64."""
    return (head(image_ND).argmax(1) == label_N).double()


def interval(gain_RN: torch.Tensor, draws: int = 2000) -> tuple[float, float]:
    """Of the mean gain: draws of the shots and pictures, each with replacement."""
    draw, (count, size) = generator(0, "adapt shots"), gain_RN.shape
    found = []
    for _ in range(draws):
        run_R, picture_N = (torch.randint(n, (n,), generator=draw) for n in (count, size))
        found.append(gain_RN[run_R][:, picture_N].mean())
    low, high = torch.quantile(torch.stack(found), torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return low, high


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--seeds", type=int, default=5)
    asked = parser.parse_args()
    features = Features(load(asked.model), default_folder())
    labelled, tested = splits(asked.data, None, 0)
    image_ND, label_N = features.images(tested.source, tested.fingerprint), table(tested.source).label_N
    for count in asked.shots:
        drawn = [shots_of(features, labelled, tested, count, seed) for seed in range(asked.seeds)]
        words_RN = torch.stack([hits(shots.zero_shot(), image_ND, label_N) for shots in drawn])
        for entry in methods():
            made = [fitted(entry.id, shots, {}) for shots in drawn]
            hit_RN = torch.stack([hits(head, image_ND, label_N) for head, _, _ in made])
            low, high = interval(hit_RN - words_RN)
            row = {
                "method": entry.id,
                "shots": count,
                "top1": round(float(hit_RN.mean()), 4),
                "words": round(float(words_RN.mean()), 4),
                "gain": round(float((hit_RN - words_RN).mean()), 4),
                "interval": [round(low, 4), round(high, 4)],
                "seconds": round(statistics.median(seconds for _, _, seconds in made), 2),
            }
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
