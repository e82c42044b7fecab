"""The search index: what it finds, and that it follows its data."""

from __future__ import annotations

import numpy as np
import pytest

from diptych.core.errors import DiptychError
from diptych.search.index import Index
from diptych.search.query import Query


@pytest.fixture(scope="module")
def unseen(tmp_path_factory) -> Index:
    return Index.build("pictograms/unseen", tmp_path_factory.mktemp("unseen"), "mini")[0]


def test_words_find_what_argsort_finds(unseen):
    vector_D = unseen.model.encode_text(["a tractor"])[0].numpy()
    wanted = np.argsort(-(unseen._snapshot.vectors_ND @ vector_D), kind="stable")[:10]
    found = unseen.search(Query.of("a tractor"), k=10, group_duplicates=False)
    assert [hit.id for hit in found.results] == [unseen.ids()[i] for i in wanted]


def test_a_picture_comes_out_by_its_id_only(unseen):
    assert isinstance(unseen.picture(unseen.ids()[0]), bytes)
    for name in ("0" * 16, "../../etc/passwd", "' OR 1=1"):
        with pytest.raises(DiptychError, match="id"):
            unseen.picture(name)
