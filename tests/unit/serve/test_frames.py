"""Frames come out as they went in, however the bytes between are cut."""

from hypothesis import given
from hypothesis import strategies as st

from zebra.serve.frames import FrameDecoder, encode_frame

values = st.integers() | st.lists(st.text("aé漢\n", max_size=8))
heads = st.dictionaries(st.sampled_from(["call_id", "method", "texts"]), values)
messages = st.lists(st.tuples(heads, st.lists(st.binary(max_size=50), max_size=4)), max_size=5)


@given(messages, st.lists(st.integers(1, 40), min_size=1))
def test_frames_are_the_same_whole_and_in_pieces(sent, lengths):
    data = b"".join(piece for head, parts in sent for piece in encode_frame(head, parts))
    frames, received, place = FrameDecoder(), [], 0
    while place < len(data):
        length = lengths[len(received) % len(lengths)]
        received += frames.feed(data[place : place + length])
        place += length
    assert [(frame.header, list(frame.payloads)) for frame in received] == sent
