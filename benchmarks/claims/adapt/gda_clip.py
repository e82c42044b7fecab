"""GDA for CLIP: with 16 pictures a class it beats words alone and nearest class mean, and it gains more with more pictures.

Photographs are asked too where $DIPTYCH_PHOTOS says where they lie.
"""

import os

from arms import Comparison, arm, main, words
from worlds import kinds, long_tail, photos

if __name__ == "__main__":
    world, ours, means = kinds(), ("GDA", arm("gda-clip")), ("nearest class mean", arm("nearest-mean"))
    asked = [Comparison("gda-clip", world, means, ours)]
    asked += [Comparison("gda-clip", world, ("words", words), ours, shots=shots) for shots in (1, 4, 16)]
    tail = long_tail(world, 24, 1, 0)
    note = "24 to 1 labelled pictures a class along a power law, one draw"
    uneven = ("GDA, each class's own spread", arm("gda-clip", covariance="classes"))
    asked += [Comparison("gda-clip", tail, base, uneven, shots=None, note=note, seeds=(0,)) for base in (("words", words), ours)]
    if os.environ.get("DIPTYCH_PHOTOS"):
        asked += [Comparison("gda-clip", photos(), base, ours) for base in (means, ("words", words))]
    main(*asked)
