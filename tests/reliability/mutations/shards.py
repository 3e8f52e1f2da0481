"""Tar shards with random mutations."""

import gzip
import io
import json
import random
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .samples import caption, encode_image, odd_caption, odd_image


@dataclass(slots=True)
class Member:
    """A member of a tar file: a regular file, or a header of another type."""

    name: str
    data: bytes = b""
    type: bytes = tarfile.REGTYPE
    target: str = ""
    pax_headers: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Shard:
    """A tar file to write, and files beside it."""

    members: list[Member]
    format: int = tarfile.PAX_FORMAT
    name: str = "0.tar"
    siblings: dict[str, bytes] = field(default_factory=dict)
    change_bytes: Callable[[bytes], bytes] = lambda data: data

    def pick(self, rng: random.Random, *suffixes: str) -> Member:
        """Return a member with one of the suffixes, or any member."""
        return rng.choice([member for member in self.members if member.name.endswith(suffixes)] or self.members)

    def write(self, folder: Path) -> Path:
        """Write the shard and the files beside it; return the path of the shard."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=self.format, errors="surrogateescape") as tar:
            for member in self.members:
                info = tarfile.TarInfo(member.name)
                info.type, info.linkname, info.pax_headers = member.type, member.target, member.pax_headers
                info.size = len(member.data) if member.type == tarfile.REGTYPE else 0
                try:
                    tar.addfile(info, io.BytesIO(member.data))
                except ValueError:  # the name is too long for this format
                    continue
        path = folder / self.name
        path.write_bytes(self.change_bytes(buffer.getvalue()))
        for name, data in self.siblings.items():
            (folder / name).write_bytes(data)
        return path


ShardMutation = Callable[[random.Random, Shard], None]


def captioned_shard(rng: random.Random, num_samples: int) -> Shard:
    """Return images with captions and labels."""
    members = []
    for number in range(num_samples):
        members.append(Member(f"{number:04d}.jpg", encode_image(number)))
        members.append(Member(f"{number:04d}.txt", caption(number).encode()))
        members.append(Member(f"{number:04d}.cls", str(number % 2).encode()))
    return Shard(members, rng.choice((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT)))


def _reorder(rng: random.Random, shard: Shard) -> None:
    orders = (
        shard.members.reverse,
        lambda: rng.shuffle(shard.members),
        lambda: shard.members.sort(key=lambda member: member.name.rpartition(".")[2]),
    )
    rng.choice(orders)()


def _rename(rng: random.Random, shard: Shard) -> None:
    member = shard.pick(rng)
    stem, _, suffix = member.name.rpartition(".")
    names = (
        f"{stem}.{suffix.upper()}", f"./{member.name}", f"/{member.name}", f"a/b/{member.name}",
        f"../{member.name}", stem,
        f"{stem}.png", f"{stem}.heic", f"{stem}.seg.{suffix}", f".{member.name}", f"{'d/' * 60}{member.name}",
        f"{'x' * 200}.{suffix}",
        f"é{member.name}", f"caf\udce9.{suffix}", f"a b.{suffix}", f"a\nb.{suffix}", f".{suffix}", f"{stem}.", "",
        f"{stem}/.{suffix}",
    )  # fmt: skip
    member.name = rng.choice(names)


def _rename_all(rng: random.Random, shard: Shard) -> None:
    prefix = rng.choice(("./", "/", "a/", "d" * 120 + "/", "train/", "x.y/", "../"))
    for member in shard.members:
        member.name = prefix + member.name


def _delete(rng: random.Random, shard: Shard) -> None:
    if len(shard.members) > 1:
        shard.members.remove(shard.pick(rng, rng.choice((".jpg", ".txt", ".cls"))))


def _delete_kind(rng: random.Random, shard: Shard) -> None:
    suffix = rng.choice((".txt", ".cls", ".jpg"))
    shard.members = [member for member in shard.members if not member.name.endswith(suffix)] or shard.members


def _repeat(rng: random.Random, shard: Shard) -> None:
    first = rng.randrange(len(shard.members))
    chunk = shard.members[first : first + rng.randrange(1, 4)]
    position = rng.choice((first, len(shard.members)))
    shard.members[position:position] = [
        Member(member.name, member.data, member.type, member.target) for member in chunk
    ]


def _link(rng: random.Random, shard: Shard) -> None:
    member, target = shard.pick(rng), shard.pick(rng).name
    member.type = rng.choice((tarfile.LNKTYPE, tarfile.SYMTYPE))
    member.target = rng.choice(
        (target, target, f"./{target}", f"../{target}", "gone.jpg", member.name, "/etc/hostname", "")
    )


def _special(rng: random.Random, shard: Shard) -> None:
    types = (tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, b"S", b"V", b"Z")
    name = rng.choice(("folder", "0000.jpg", "x.jpg", ".", "a/", ""))
    shard.members.insert(rng.randrange(len(shard.members) + 1), Member(name, type=rng.choice(types[:3])))


def _pax(rng: random.Random, shard: Shard) -> None:
    shard.format = tarfile.PAX_FORMAT
    headers = (
        {"comment": "é" * 50},
        {"mtime": "1.5"},
        {"path": "other.jpg"},
        {"path": ""},
        {"size": "3"},
        {"size": "x"},
        {"GNU.sparse.major": "1"},
    )
    shard.pick(rng).pax_headers = dict(rng.choice(headers))


def _odd_image(rng: random.Random, shard: Shard) -> None:
    shard.pick(rng, ".jpg").data = odd_image(rng, rng.randrange(100))


def _odd_caption(rng: random.Random, shard: Shard) -> None:
    shard.pick(rng, ".txt").data = odd_caption(rng, rng.randrange(100))


def _json_captions(rng: random.Random, shard: Shard) -> None:
    values = (
        b'{"caption": "a"}', b'{"caption": ""}', b'{"caption": null}', b'{"caption": 5}', b'{"caption": ["a"]}',
        b"{}", b"[]", b"", b"{",
        b'"a"', b"nan", json.dumps({"caption": "\ud800"}).encode(), b'\xef\xbb\xbf{"caption": "a"}', b"[" * 5000,
        b'{"text": "a"}', b"\xff",
    )  # fmt: skip
    is_every = rng.random() < 0.5
    for member in shard.members:
        if member.name.endswith(".txt") and (is_every or rng.random() < 0.3):
            member.name, member.data = member.name.removesuffix(".txt") + ".json", rng.choice(values)


def _odd_label(rng: random.Random, shard: Shard) -> None:
    labels = (b"", b"x", b"-1", b" 1\n", b"1.0", b"9" * 18, b"9" * 30, b"\xd9\xa1", b"1 2", b"5", b"+1")
    shard.pick(rng, ".cls").data = rng.choice(labels)


def _damage(rng: random.Random, shard: Shard) -> None:
    cut, kind = rng.random(), rng.randrange(8)

    def change(data: bytes) -> bytes:
        position = int(cut * len(data))
        kinds = (
            data[:position], b"", gzip.compress(data), data[:position] + bytes(512) + data[position:],
            data.rstrip(b"\0"), data + data,
            data[:position] + b"\xff" * 7 + data[position + 7 :], data + b"garbage",
        )  # fmt: skip
        return kinds[kind]

    shard.change_bytes = change


def _add_sibling(rng: random.Random, shard: Shard) -> None:
    names = ("0_stats.json", "0.tar.sha256", "README", "1.tar", "0.json", "train-0.tar", "x.jpg", "1.TAR")
    values = (b'{"successes": 6}', b"0" * 64, b"x", b"{}", b"", bytes(1024))
    shard.siblings[rng.choice(names)] = rng.choice(values)


def _rename_shard(rng: random.Random, shard: Shard) -> None:
    shard.name = rng.choice(
        (
            "0.TAR",
            "train-000.tar",
            "00000-of-00002.tar",
            "x-00000-of-00002.tar",
            ".0.tar",
            "{0..1}.tar",
            "é.tar",
            "0.tar.tar",
        )
    )


SHARD_MUTATIONS: Mapping[str, ShardMutation] = {
    "reorder": _reorder,
    "rename": _rename,
    "another rename": _rename,
    "rename all": _rename_all,
    "delete": _delete,
    "delete a kind": _delete_kind,
    "repeat": _repeat,
    "link": _link,
    "special member": _special,
    "pax headers": _pax,
    "odd image": _odd_image,
    "odd caption": _odd_caption,
    "json captions": _json_captions,
    "odd label": _odd_label,
    "damage": _damage,
    "sibling": _add_sibling,
    "rename shard": _rename_shard,
}
