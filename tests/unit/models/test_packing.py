"""Where the tokens of a batch of texts are put, and how little is put between them."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from zebra.models.packing import MOST_GROUPS, merge, pack

LENGTHS = st.lists(st.integers(1, 77), min_size=1, max_size=40)


@given(LENGTHS)
def test_every_token_of_every_text_has_one_place_behind_the_one_before(lengths):
    packing = pack(torch.tensor(lengths))
    for text, length in enumerate(lengths):
        places = (packing.text_N == text).nonzero().flatten()
        assert places.tolist() == list(range(int(places[0]), int(places[0]) + len(places)))
        assert packing.position_N[places].tolist() == list(range(len(places)))
        assert int(packing.end_B[text]) == int(places[length - 1])


@given(LENGTHS)
def test_groups_cover_the_run_and_each_ends_at_its_longest_text(lengths):
    packing = pack(torch.tensor(lengths))
    begin = 0
    for num_texts, length in packing.groups:
        texts = packing.text_N[begin : begin + num_texts * length].unique().tolist()
        assert len(texts) == num_texts
        assert max(lengths[text] for text in texts) == length
        begin += num_texts * length
    assert begin == len(packing.text_N)


@given(LENGTHS)
def test_there_are_no_more_groups_than_allowed_and_no_padding_without_need(lengths):
    packing = pack(torch.tensor(lengths))
    assert len(packing.groups) == min(len(set(lengths)), MOST_GROUPS)
    assert len(set(lengths)) > MOST_GROUPS or len(packing.text_N) == sum(lengths)


def test_texts_of_equal_length_keep_their_order():
    """The layout is a function of the lengths alone, so that a step can be repeated bit by bit."""
    assert pack(torch.tensor([3, 2, 3, 2])).text_N.unique_consecutive().tolist() == [1, 3, 0, 2]


def test_groups_merge_where_it_pads_least():
    apart = [(1, length) for length in (10, 20, 30, 40, 50, 60, 77)]
    assert len(apart) == MOST_GROUPS - 1
    assert merge([(100, 2), (1, 3), *apart]) == [(100, 2), (2, 10), *apart[1:]]
    assert merge([(2, 2), (1, 3), *apart]) == [(3, 3), *apart]


def test_captions_of_natural_length_are_padded_by_a_tenth_at_most():
    """A batch of 1,024 with 14.5 tokens in the mean; cut at its longest text alone it would be three times as long."""
    rng = np.random.default_rng(0)
    lengths = torch.from_numpy(np.clip(np.rint(rng.lognormal(2.45, 0.4, 1024)) + 2, 3, 77).astype(np.int64))
    assert len(pack(lengths).text_N) < 1.1 * int(lengths.sum())
    assert len(lengths) * int(lengths.max()) > 2.5 * int(lengths.sum())
