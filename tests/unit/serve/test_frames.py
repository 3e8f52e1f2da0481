"""Tests of frames: they are decoded as they were encoded, however the byte stream is split."""

from hypothesis import given
from hypothesis import strategies as st

from zebra.serve.frames import FrameDecoder, encode_frame

values = st.integers() | st.lists(st.text("aé漢\n", max_size=8))
headers = st.dictionaries(st.sampled_from(["call_id", "method", "texts"]), values)
messages = st.lists(st.tuples(headers, st.lists(st.binary(max_size=50), max_size=4)), max_size=5)


@given(messages, st.lists(st.integers(1, 40), min_size=1))
def test_frames_are_the_same_whole_and_in_pieces(messages, lengths):
    data = b"".join(part for header, payloads in messages for part in encode_frame(header, payloads))
    decoder, frames, position, num_reads = FrameDecoder(), [], 0, 0
    while position < len(data):
        length = lengths[num_reads % len(lengths)]
        frames += decoder.feed(data[position : position + length])
        position += length
        num_reads += 1
    assert [(frame.header, list(frame.payloads)) for frame in frames] == messages
