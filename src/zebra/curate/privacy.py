"""Personal data in captions, found by form and check digit.

E-mail addresses and numbers that identify a person; names are not found. Numbers without a check digit need a form
that other numbers rarely have, such as the plus sign of a telephone number.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from zebra.config.curate_text import PrivacyRules
from zebra.curate.clean import rewrite_captions
from zebra.curate.measurements import Measurement
from zebra.curate.pipeline import Stage
from zebra.curate.rules import ReasonRule

PRIVACY_VERSION = 1
"""Changes when other personal data may be found."""
STAGE = "privacy"


@dataclass(frozen=True, slots=True)
class PersonalData:
    """A kind of personal data."""

    name: str
    mask: str
    """What replaces it in a caption."""
    pattern: re.Pattern[str]
    """Matches candidates, in its group `value` if it has one. Every repetition has a limit, so that a search takes
    linear time."""
    find_length: Callable[[str], int] = len
    """Returns how much of a candidate is personal data, by its check digits; 0 if they are wrong."""


def has_luhn_digit(number: str) -> bool:
    """Return whether the last digit of a number is its check digit (ISO/IEC 7812-1, annex B).

    >>> has_luhn_digit("4111 1111 1111 1111"), has_luhn_digit("4111 1111 1111 1112")
    (True, False)
    """
    digits = [int(char) for char in reversed(number) if char.isdecimal()]
    return sum(digits[::2] + [digit * 2 - 9 * (digit > 4) for digit in digits[1::2]]) % 10 == 0


def has_iban_digits(number: str) -> bool:
    """Return whether an international bank account number has the right check digits (ISO 13616).

    >>> has_iban_digits("GB82 WEST 1234 5698 7654 32"), has_iban_digits("GB83 WEST 1234 5698 7654 32")
    (True, False)
    """
    compact = "".join(number.split())
    return int("".join(str(int(char, 36)) for char in compact[4:] + compact[:4])) % 97 == 1


def _has_passport_digits(line: str) -> bool:
    """Return whether number and dates of a passport's second machine-readable line have their digits (ICAO 9303-4)."""
    return all(_passport_digit(line[start:end]) == line[end] for start, end in ((0, 9), (13, 19), (21, 27)))


def _passport_digit(field: str) -> str:
    values = (0 if char == "<" else int(char, 36) for char in field)
    return str(sum(value * (7, 3, 1)[position % 3] for position, value in enumerate(values)) % 10)


def _has_cpf_digits(number: str) -> bool:
    """Return whether a Brazilian taxpayer number has its two check digits."""
    digits = [int(char) for char in number if char.isdecimal()]
    return all(
        sum(digit * (length + 1 - position) for position, digit in enumerate(digits[:length])) * 10 % 11 % 10
        == digits[length]
        for length in (9, 10)
    )


def _has_dni_letter(number: str) -> bool:
    """Return whether a Spanish identity number has its check letter."""
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(number[:8]) % 23] == number[-1]


def _whole_if(is_valid: Callable[[str], bool]) -> Callable[[str], int]:
    return lambda candidate: len(candidate) if is_valid(candidate) else 0


def _iban_length(candidate: str) -> int:
    """Return the length of the account number at the start, by its country; words in capitals may follow it."""
    size = _IBAN_SIZES.get(candidate[:2], 0)
    positions = [position for position, char in enumerate(candidate) if char != " "]
    if not size or len(positions) < size:
        return 0
    length = positions[size - 1] + 1
    is_whole = length == len(candidate) or candidate[length] == " "
    return length if is_whole and has_iban_digits(candidate[:length]) else 0


_IBAN_LENGTHS = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20 EG29 ES24 FI18 "
    "FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 "
    "LU20 LV21 LY25 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 "
    "SA24 SC31 SD18 SE24 SI19 SK24 SM27 SN28 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30"
)
"""Country and number of characters of an account number (ISO 13616)."""
_IBAN_SIZES = {code[:2]: int(code[2:]) for code in _IBAN_LENGTHS.split()}
_EMAIL = (
    r"(?<![\w.%+-])\w[\w.%+-]{0,63}(?:@| ?[(\[{] ?at ?[)\]}] ?)(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}"
    r"(?!(?:png|jpe?g|gif|webp|svg|avif)\b)[^\W\d_]{2,24}\b"  # not logo@2x.png
)
_PASSPORT = r"(?<![A-Z0-9<])[A-Z0-9<]{9}[0-9][A-Z<]{3}[0-9]{7}[MFX<][0-9]{7}[A-Z0-9<]{14}[0-9<][0-9](?![A-Z0-9<])"
_IBAN = r"\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b"
_CPF = r"(?<![\w.-])[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}(?![\w-])"
_DNI = r"(?<![\w.-])[0-9]{8}-?[A-Z](?![\w-])"
_SOCIAL_SECURITY = r"(?<![\w.-])(?!000|666|9)[0-9]{3}-(?!00)[0-9]{2}-(?!0000)[0-9]{4}(?![\w-])"
"""United States; without the numbers that are never assigned."""
_CARD = (
    # Visa, Mastercard, Diners Club, American Express, JCB, Discover, UnionPay
    r"(?<![\w.,+-])(?=4|5[1-5]|2[2-7]|3[04-9]|6[0245])"
    r"(?:[0-9]{4}([ -]?)[0-9]{4}\1[0-9]{4}\1[0-9]{4}(?:\1[0-9]{3})?|[0-9]{4}([ -]?)[0-9]{6}\2[0-9]{4,5})(?![\w-])"
)
_PHONE_DIGIT = r"(?:[ ().\-/]{0,2}\d)"
_INTERNATIONAL_PHONE = rf"(?<![\w+])\+ ?[1-9]{_PHONE_DIGIT}{{7,14}}(?!\w)"
_AMERICAN_PHONE = (
    r"(?<![\w.+-])(?:1[ .-])?"
    r"(?:\([2-9][0-9]{2}\) ?[2-9][0-9]{2}[.-]|[2-9][0-9]{2}([.-])[2-9][0-9]{2}\1)[0-9]{4}(?![\w-])"
)
_LABELED_PHONE = (
    r"(?<![\w.])(?:tel|telephone|telefon|telefono|teléfono|tél|phone|call|mobile|cell|fax|whatsapp)\b[.:]{0,2} {0,2}"
    rf"(?P<value>\(?\d{_PHONE_DIGIT}{{6,14}}(?!\w))"
)


def _kind(name: str, mask: str, pattern: str, find_length: Callable[[str], int] = len) -> PersonalData:
    flags = re.IGNORECASE if pattern in (_EMAIL, _LABELED_PHONE) else re.NOFLAG
    return PersonalData(name, mask, re.compile(pattern, flags), find_length)


KINDS = (
    _kind("e-mail address", "<EMAIL>", _EMAIL),
    _kind("document number", "<ID>", _PASSPORT, _whole_if(_has_passport_digits)),
    _kind("bank account number", "<IBAN>", _IBAN, _iban_length),
    _kind("document number", "<ID>", _CPF, _whole_if(_has_cpf_digits)),
    _kind("document number", "<ID>", _DNI, _whole_if(_has_dni_letter)),
    _kind("document number", "<ID>", _SOCIAL_SECURITY),
    _kind("telephone number", "<PHONE>", _INTERNATIONAL_PHONE),
    _kind("card number", "<CARD>", _CARD, _whole_if(has_luhn_digit)),
    _kind("telephone number", "<PHONE>", _AMERICAN_PHONE),
    _kind("telephone number", "<PHONE>", _LABELED_PHONE),
)
"""In the order in which they are replaced."""
_CANDIDATE = r"@|[(\[{] ?at ?[)\]}]|\pN[\pN ().\-/]{4,}\pN"
"""Pattern of RE2 that every caption with personal data matches."""


def privacy_rules(config: PrivacyRules) -> list[Stage]:
    """Return the stages that mask personal data or drop the pairs that have some."""
    if config.captions == "keep":
        return []
    mask = Measurement(
        STAGE,
        f"privacy {PRIVACY_VERSION}",
        ("text",),
        pa.schema({"text": pa.string(), "masked": pa.list_(pa.string())}),
        _mask_table,
        is_parallel=True,
    )
    if config.captions == "mask":
        return [mask]
    find = Measurement(
        STAGE,
        f"find privacy {PRIVACY_VERSION}",
        ("text",),
        pa.schema({"personal_data": pa.string()}),
        lambda table: pa.table({"personal_data": pc.list_element(_mask_table(table)["masked"], 0)}),
        is_parallel=True,
    )
    return [find, ReasonRule(STAGE, "personal_data", is_failure=False)]


def mask_personal_data(text: str) -> tuple[str, list[str]]:
    """Return a caption with its personal data masked, and the distinct kinds that were found.

    >>> mask_personal_data("Write to jane@example.org or call +44 20 7946 0958")
    ('Write to <EMAIL> or call <PHONE>', ['e-mail address', 'telephone number'])
    """
    names: dict[str, None] = {}
    for kind in KINDS:
        parts, end = [], 0
        for start, stop in _find_spans(kind, text):
            parts += [text[end:start], kind.mask]
            end = stop
        if parts:
            text = "".join([*parts, text[end:]])
            names[kind.name] = None
    return text, list(names)


def _find_spans(kind: PersonalData, text: str) -> Iterator[tuple[int, int]]:
    group = "value" if "value" in kind.pattern.groupindex else 0
    for match in kind.pattern.finditer(text):
        if length := kind.find_length(match[group]):
            yield match.start(group), match.start(group) + length


def _mask_table(table: pa.Table) -> pa.Table:
    return rewrite_captions(table["text"], _CANDIDATE, mask_personal_data, "masked")
