"""Personal data in captions is found by form and check digit; other numbers are left alone."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zebra.config.curate_text import PrivacyRules
from zebra.curate.privacy import KINDS, mask_personal_data, privacy_rules


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("me@x.org.", "<EMAIL>."),
        ("Jane <jane.doe+x@mail.example.co.uk>, hi", "Jane <<EMAIL>>, hi"),
        ("info [at] example.com", "<EMAIL>"),
        ("jörg@münchen.de", "<EMAIL>"),
        ("IBAN DE89 3704 0044 0532 0130 00 BANK", "IBAN <IBAN> BANK"),
        ("BE68 5390 0754 7034 BANK", "<IBAN> BANK"),
        ("DE89370400440532013000", "<IBAN>"),
        ("NO93 8601 1117 947 and FR1420041010050500013M02606", "<IBAN> and <IBAN>"),
        ("MT84 MALT 0110 0001 2345 MTLC AST0 01S", "<IBAN>"),
        ("(412) 268-4387, fax: 412.268.7395", "<PHONE>, fax: <PHONE>"),
        ("4111-1111-1111-1111", "<CARD>"),
        ("3782 822463 10005", "<CARD>"),
        ("card 5555555555554444!", "card <CARD>!"),
        ("L898902C36UTO7408122F1204159ZE184226B<<<<<10", "<ID>"),
        ("CPF 111.444.777-35", "CPF <ID>"),
        ("DNI 12345678Z", "DNI <ID>"),
        ("078-05-1120", "<ID>"),
        ("+44 20 7946 0958", "<PHONE>"),
        ("+49(0)30 1234567", "<PHONE>"),
        ("+1 (212) 555-0123, 1-800-555-0199", "<PHONE>, <PHONE>"),
        ("(212) 555-0123", "<PHONE>"),
        ("Tel.: 030/123 45 67", "Tel.: <PHONE>"),
        ("call 0800 123 456 now", "call <PHONE> now"),
        ("tel ٠٣٠ ١٢٣٤٥٦٧", "tel <PHONE>"),
        ("a@b.org or b@c.org, +44 20 7946 0958", "<EMAIL> or <EMAIL>, <PHONE>"),
    ],
)
def test_personal_data_is_masked(text: str, masked: str) -> None:
    assert mask_personal_data(text)[0] == masked


@pytest.mark.parametrize(
    "text",
    [
        "logo@2x.png", "@handle and #tag", "a@b", "x@@y.com", "user@localhost", "DE88370400440532013000",
        "4111 1111 1111 1112", "4111111111111111-2", "111.444.777-36", "12345678A", "000-12-1234", "2021-02-03",
        "1920x1080", "ISBN 978-3-16-148410-0", "Boeing 747-400", "1999-2000", "+100 photos", "lot 1234567890",
        "10.1016/j.cell.2020.01.001", "3.14159265358979", "52.520008, 13.404954", "IP 192.168.100.200",
        "price +1 000 000", "DSC+20210203", "EAN 4006381333931", "LEGO 21318",
        "clause 252.227-7013", "CA049C04 8D345D30 82968D10", "call of duty 4 2007",
    ],
)  # fmt: skip
def test_other_numbers_and_marks_stay(text: str) -> None:
    assert mask_personal_data(text) == (text, [])


def run_stages(texts: list[str | None], captions: str) -> dict[str, list[object]]:
    stages = privacy_rules(PrivacyRules(captions=captions))
    table = pa.table({"text": pa.chunked_array([texts], pa.string())})
    return stages[0].compute(table).cast(stages[0].schema).to_pydict()


def test_captions_are_masked_or_reported_with_the_kinds() -> None:
    texts = ["a dog", "a@b.org 4111-1111-1111-1111", None]
    assert run_stages(texts, "mask") == {
        "text": ["a dog", "<EMAIL> <CARD>", None],
        "masked": [None, ["e-mail address", "card number"], None],
    }
    assert run_stages(texts, "drop") == {"personal_data": [None, "e-mail address", None]}
    assert privacy_rules(PrivacyRules(captions="keep")) == []


@given(st.text(st.sampled_from("a1.@ -+()4<DE[t]"), max_size=50))
def test_a_table_is_masked_as_each_caption_alone_and_once_is_enough(text: str) -> None:
    masked, kinds = mask_personal_data(text)
    assert run_stages([text], "mask") == {"text": [masked], "masked": [kinds or None]}
    assert mask_personal_data(masked)[0].count("@") <= masked.count("@")


def test_every_kind_has_its_own_mask() -> None:
    masks = {kind.name: kind.mask for kind in KINDS}
    assert len(set(masks.values())) == len(masks)
    assert all(kind.mask == masks[kind.name] for kind in KINDS)
