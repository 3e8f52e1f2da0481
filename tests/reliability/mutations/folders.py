"""Folders of images with captions, and class folders, with random mutations."""

import os
import random
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .samples import caption, encode_image, odd_caption, odd_image


@dataclass(slots=True)
class Tree:
    """Files to write below a folder: name → bytes, or a function that makes something else at the path."""

    files: dict[str, bytes | Callable[[Path], object]] = field(default_factory=dict)

    def pick(self, rng: random.Random, *suffixes: str) -> str:
        """Return the name of a file with one of the suffixes, or of any file."""
        names = [name for name, data in self.files.items() if isinstance(data, bytes)]
        return rng.choice([name for name in names if name.endswith(suffixes)] or names)

    def rename(self, old: str, new: str) -> None:
        """Rename a file; another file of the new name is replaced."""
        self.files[new] = self.files.pop(old)

    def write(self, root: Path) -> None:
        """Write the files; a name that is in the way of another or too long for the system is left out."""
        for name, data in self.files.items():
            path = root / name
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data) if isinstance(data, bytes) else data(path)
            except OSError:
                continue


FolderMutation = Callable[[random.Random, Tree], None]


def captioned_tree(rng: random.Random, num_samples: int) -> Tree:
    """Return images with captions in one or two folders."""
    folders = rng.choice((("",), ("a/", "b/"), ("cat/", "dog/"), ("2020/05/", "2021/")))
    tree = Tree()
    for number in range(num_samples):
        stem = f"{folders[number % len(folders)]}{number:02d}"
        tree.files[f"{stem}.jpg"] = encode_image(number)
        tree.files[f"{stem}.txt"] = caption(number).encode()
    return tree


def _rename_suffix(rng: random.Random, tree: Tree) -> None:
    name = tree.pick(rng)
    stem, _, suffix = name.rpartition(".")
    others = {
        "jpg": ("JPG", "Jpg", "jpeg", "jpe", "JFIF", "png", "webp", "tif", "heic", "jpg.jpg", "jpg~", "jpg.part", ""),
        "txt": ("TXT", "Txt", "txt.txt", "caption", "text", "md", "json", "txt~", ""),
    }
    tree.rename(name, f"{stem}.{rng.choice(others.get(suffix, ('jpg', 'txt')))}")


def _change_stem(rng: random.Random, tree: Tree) -> None:
    name = tree.pick(rng, ".jpg")
    new_stem = name.removesuffix(".jpg") + rng.choice(
        ("é", " ", "\n", "a.b", "..", "%20", "#1", "\udce9", "🦓", "x" * 240, "\t", "'\"", "*", "\\b", "\u202e")
    )
    partner = name.removesuffix(".jpg") + ".txt"
    forms = [new_stem, new_stem]
    if rng.random() < 0.5 and "\udce9" not in new_stem:
        forms = [unicodedata.normalize("NFC", new_stem), unicodedata.normalize("NFD", new_stem)]
    tree.rename(name, f"{forms[0]}.jpg")
    if partner in tree.files:
        tree.rename(partner, f"{forms[1]}.txt")


def _move(rng: random.Random, tree: Tree) -> None:
    name = tree.pick(rng)
    folder = rng.choice(
        ("sub/", "a/b/c/d/e/", ".hidden/", "x.jpg/", "y.txt/", "train/", "test/", "val2017/", "é/", " /")
    )
    tree.rename(name, folder + name.rpartition("/")[2])


def _delete(rng: random.Random, tree: Tree) -> None:
    if len(tree.files) > 1:
        del tree.files[tree.pick(rng)]


def _delete_captions(rng: random.Random, tree: Tree) -> None:
    tree.files = {name: data for name, data in tree.files.items() if not name.endswith(".txt")} or tree.files


def _odd_image(rng: random.Random, tree: Tree) -> None:
    tree.files[tree.pick(rng, ".jpg")] = odd_image(rng, rng.randrange(100))


def _odd_caption(rng: random.Random, tree: Tree) -> None:
    tree.files[tree.pick(rng, ".txt")] = odd_caption(rng, rng.randrange(100))


def _add_other_file(rng: random.Random, tree: Tree) -> None:
    names = (
        "README",
        "Thumbs.db",
        ".DS_Store",
        "metadata.csv",
        "notes.json",
        "a.jpg.",
        ".jpg",
        ".txt",
        "x.tar.gz",
        "-",
        "a.b",
    )
    folder = tree.pick(rng).rpartition("/")[0]
    tree.files[f"{folder}/{rng.choice(names)}".lstrip("/")] = rng.choice((b"", b"x", encode_image(1)))


def _add_twin(rng: random.Random, tree: Tree) -> None:
    name = tree.pick(rng)
    stem, _, suffix = name.rpartition(".")
    twin = rng.choice(("JPG", "png") if suffix == "jpg" else ("TXT", "Txt"))
    tree.files[f"{stem}.{twin}"] = tree.files[name]


def _special_file(rng: random.Random, tree: Tree) -> None:
    name = tree.pick(rng)
    make = rng.choice((os.mkfifo, os.mkdir, lambda path: path.symlink_to("gone"), lambda path: path.symlink_to(path)))
    tree.files[name] = make


def _link_file(rng: random.Random, tree: Tree) -> None:
    target = tree.pick(rng)
    link = rng.choice((os.symlink, os.link))
    name = rng.choice(("link.jpg", "link.txt", "sub/link.jpg"))
    tree.files[name] = lambda path: link(path.parents[name.count("/")] / target, path)


def _link_folder(rng: random.Random, tree: Tree) -> None:
    name = rng.choice(("linked", "a/linked", "linked.jpg", "0linked", "zlinked"))
    kind = rng.choice(("self", "parent", "outside", "outside twice", "gone", "sibling"))

    def make(path: Path) -> None:
        outside = path.parents[name.count("/")].with_name("outside")
        if kind.startswith("outside"):
            (outside / "deep").mkdir(parents=True, exist_ok=True)
            for stem in ("o", "deep/p"):
                (outside / f"{stem}.jpg").write_bytes(encode_image(90))
                (outside / f"{stem}.txt").write_text(caption(90))
            (outside / "deep" / "back").symlink_to(outside)
        targets = {"self": path, "parent": path.parents[name.count("/")], "gone": path / "gone"}
        sibling = path.parents[name.count("/")] / tree.pick(random.Random(0)).rpartition("/")[0]
        path.symlink_to(targets.get(kind, sibling if kind == "sibling" else outside))
        if kind == "outside twice":
            path.with_name("again").symlink_to(outside / "deep")

    tree.files[name] = make


FOLDER_MUTATIONS: Mapping[str, FolderMutation] = {
    "rename suffix": _rename_suffix,
    "change stem": _change_stem,
    "move": _move,
    "delete": _delete,
    "delete captions": _delete_captions,
    "odd image": _odd_image,
    "odd caption": _odd_caption,
    "other file": _add_other_file,
    "twin": _add_twin,
    "special file": _special_file,
    "linked file": _link_file,
    "linked folder": _link_folder,
}
