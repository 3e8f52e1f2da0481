"""Tables of images with captions and labels, with random mutations."""

import base64
import json
import random
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from .samples import caption, encode_image, odd_image

FORMATS = ("csv", "tsv", "jsonl", "parquet")
FOLDER = "$FOLDER"
"""Stands for the absolute path of the folder in a cell."""


@dataclass(slots=True)
class Table:
    """A table to write: names of the columns, rows of cells, and how they become bytes."""

    format: str
    columns: list[str]
    rows: list[list[Any]]
    delimiter: str = ","
    line_end: str = "\n"
    encoding: str = "utf-8"
    quote_all: bool = False
    blank_after_delimiter: bool = False
    has_header: bool = True
    prefix: str = ""
    suffix: str = ""
    raw_lines: dict[int, str] = field(default_factory=dict)
    """Position of a row → the line to write for it."""
    change_bytes: Callable[[bytes], bytes] = lambda data: data

    def write(self, folder: Path) -> Path:
        """Write the table and return its path."""
        path = folder / f"t.{self.format}"
        self.rows = [
            [cell.replace(FOLDER, str(folder)) if isinstance(cell, str) else cell for cell in row] for row in self.rows
        ]
        if self.format == "parquet":
            self._write_parquet(path)
            path.write_bytes(self.change_bytes(path.read_bytes()))
            return path
        lines = [
            self._format_row(row) if i not in self.raw_lines else self.raw_lines[i] for i, row in enumerate(self.rows)
        ]
        if self.format != "jsonl" and self.has_header:
            lines.insert(0, self._join(self.columns))
        text = self.prefix + "".join(line + self.line_end for line in lines) + self.suffix
        path.write_bytes(
            self.change_bytes(
                text.encode(self.encoding, "surrogateescape" if self.encoding.startswith("utf-8") else "replace")
            )
        )
        return path

    def _format_row(self, row: list[Any]) -> str:
        if self.format == "jsonl":
            cells = [f"{json.dumps(name)}: {json.dumps(cell)}" for name, cell in zip(self.columns, row, strict=False)]
            return f"{{{', '.join(cells)}}}"
        return self._join(["" if cell is None else str(cell) for cell in row])

    def _join(self, cells: list[str]) -> str:
        def quote(cell: str) -> str:
            needs_quotes = self.quote_all or any(character in cell for character in (self.delimiter, '"', "\r", "\n"))
            return '"' + cell.replace('"', '""') + '"' if needs_quotes else cell

        return (self.delimiter + " " * self.blank_after_delimiter).join(map(quote, cells))

    def _write_parquet(self, path: Path) -> None:
        arrays = []
        for cells in zip(*self.rows, strict=True):
            try:
                arrays.append(pa.array(cells))
            except (pa.ArrowException, UnicodeEncodeError):
                texts = [cell if isinstance(cell, bytes) else str(cell).encode("utf-8", "replace") for cell in cells]
                arrays.append(pa.array(texts))
        pq.write_table(pa.Table.from_arrays(arrays, names=self.columns), path)


TableMutation = Callable[[random.Random, Table], None]


def labeled_table(rng: random.Random, num_rows: int, format: str) -> Table:
    """Return rows with the name of an image file, a caption and a label."""
    rows: list[list[Any]] = [
        [f"{number:02d}.jpg", caption(number), ("cat", "dog")[number % 2]] for number in range(num_rows)
    ]
    return Table(format, ["path", "caption", "label"], rows, "\t" if format == "tsv" else ",")


def write_table_images(folder: Path, num_images: int) -> None:
    """Write the images that the rows name, and some whose names are unusual."""
    names = [f"{number:02d}.jpg" for number in range(num_images)]
    names += ["sub/a.jpg", "a b.jpg", "a,b.jpg", unicodedata.normalize("NFD", "café.jpg"), "UPPER.JPG", "a%b.jpg"]
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encode_image(number))
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "folder.jpg").mkdir()
    (folder / "broken.jpg").write_bytes(encode_image(0)[:300])


def _image_cell(rng: random.Random, table: Table) -> None:
    row, data = rng.choice(table.rows), encode_image(rng.randrange(100))
    encoded = base64.b64encode(data).decode()
    cells: list[Any] = [
        "./00.jpg", "../t/00.jpg", f"{FOLDER}/00.jpg", f"file://{FOLDER}/00.jpg", "sub/a.jpg", "sub\\a.jpg",
        "/nowhere/00.jpg", "C:\\x\\00.jpg", "gone.jpg", "", " ", None,
        "folder.jpg", ".", "..", "/", "~", "00", "00.JPG", "upper.jpg", "a b.jpg", "a%20b.jpg", "a,b.jpg", "a%b.jpg",
        "caf\u00e9.jpg", "file:///nowhere/00.jpg", "https://example.org/0.jpg", "s3://bucket/0.jpg", "HTTP://x/y.jpg",
        encoded, encoded[:-3], "data:image/jpeg;base64," + encoded, "data:image/jpeg;base64,!", "data:,x", "x" * 300,
        "x" * 5000, "a\nb.jpg", "a\tb.jpg", ' "00.jpg"', "00.jpg ", "empty.jpg", "broken.jpg", "nan", "NULL", "0",
        "\x01",
        "\0", "00.jpg\0", "00.jpg/x", "🦓.jpg",
    ]  # fmt: skip
    if table.format in ("jsonl", "parquet"):
        cells += [0, 1.5, True, ["00.jpg"], {"path": "00.jpg"}, {"bytes": None, "path": "00.jpg"}, {"a": 1}, {}]
    if table.format == "parquet":
        cells += [data, b"", {"bytes": data, "path": None}, {"bytes": b"", "path": "x"}, odd_image(rng, 1)]
        if rng.random() < 0.5:  # a column has one type
            for other in table.rows:
                other[0] = encode_image(rng.randrange(100)) if rng.random() < 0.7 else odd_image(rng, 2)
            return
    row[0] = rng.choice(cells)


def _caption_cell(rng: random.Random, table: Table) -> None:
    cells: list[Any] = [
        "", " ", None, 'a "quoted" word', '"', '""', "a, b; c | d\te", "first line\nsecond line", "a\r\nb", "a\rb",
        "é" * 300,
        "a" * 70000, "\u2028\u0085\x0b\x0c", "\ufeffa", "nan", "null", "NaN", "🦓\u200d", "a\0b", "\x1a", "#comment",
        "=1+1", "'",
    ]  # fmt: skip
    if table.format in ("csv", "tsv"):
        cells += ["caf\udce9"]
    if table.format in ("jsonl", "parquet"):
        cells += [["a", "b"], [], [None], ["", "a"], 5, True, {"a": "b"}, [["a"]], float("nan"), "\ud800"]
    rng.choice(table.rows)[rng.randrange(len(table.columns))] = rng.choice(cells)


def _rename_column(rng: random.Random, table: Table) -> None:
    names = (
        (
            "image",
            "filepath",
            "file_name",
            "FileName",
            " Path ",
            "PATH",
            "url",
            "image_path",
            "images",
            "path\udce9",
            "",
        ),
        ("text", "title", "Caption", "TEXT", "captions", "beschreibung", "caption ", "", "path"),
        ("class", "cls", "Label", "split", "labels", "", "label2", "caption"),
    )
    column = rng.randrange(len(table.columns))
    name = rng.choice(names[min(column, 2)])
    table.columns[column] = name if table.format in ("csv", "tsv") else name.replace("\udce9", "é")


def _add_column(rng: random.Random, table: Table) -> None:
    name = rng.choice(
        ("id", "path", "caption", "Caption", "image", "text", "label", "split", "", "x,y", "a;b|c", "line\nbreak")
    )
    position = rng.randrange(len(table.columns) + 1)
    value = rng.choice(("", "x", "train", "test", "00.jpg", "1"))
    values = [value] * len(table.rows)
    if name == "split" and rng.random() < 0.7:
        values = [("train", "test", "val", "")[i % rng.choice((1, 2, 4))] for i in range(len(table.rows))]
    table.columns.insert(position, name)
    for row, cell in zip(table.rows, values, strict=True):
        row.insert(position, cell)


def _remove_column(rng: random.Random, table: Table) -> None:
    if len(table.columns) > 1:
        position = rng.randrange(len(table.columns))
        for cells in (table.columns, *table.rows):
            del cells[position]


def _reorder_columns(rng: random.Random, table: Table) -> None:
    order = list(range(len(table.columns)))
    rng.shuffle(order)
    table.columns = [table.columns[i] for i in order]
    table.rows = [[row[i] for i in order] for row in table.rows]


def _dialect(rng: random.Random, table: Table) -> None:
    table.delimiter = rng.choice((",", ";", "\t", "|", ":", "^"))
    table.line_end = rng.choice(("\n", "\r\n", "\r", "\n\n"))
    table.quote_all = rng.random() < 0.3
    table.blank_after_delimiter = rng.random() < 0.2
    table.has_header = rng.random() < 0.9
    table.prefix = rng.choice(("", "", "\ufeff", "\n", f"sep={table.delimiter}\n", "# comment\n", "   \n"))
    table.suffix = rng.choice(("", "", "\n\n", " ", "\x1a", "\0"))


def _encoding(rng: random.Random, table: Table) -> None:
    table.encoding = rng.choice(("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"))


def _raw_line(rng: random.Random, table: Table) -> None:
    lines = (
        "",
        "x",
        "00.jpg",
        '"open',
        '00.jpg,"a" b,cat',
        "a,b,c,d,e,f",
        "{",
        "[]",
        "{}",
        "null",
        '{"path": "00.jpg"}',
        ",,",
        '""',
    )
    table.raw_lines[rng.randrange(len(table.rows))] = rng.choice(lines)


def _damage(rng: random.Random, table: Table) -> None:
    cut = rng.random()

    def change(data: bytes) -> bytes:
        kinds = (
            data[: int(cut * len(data))],
            b"",
            b"PK\x03\x04" + data,
            data[:50] + bytes(20) + data[60:],
            data + b"\xff",
        )
        return kinds[int(cut * 1000) % len(kinds)]

    table.change_bytes = change


TABLE_MUTATIONS: Mapping[str, TableMutation] = {
    "image cell": _image_cell,
    "another image cell": _image_cell,
    "caption cell": _caption_cell,
    "rename column": _rename_column,
    "add column": _add_column,
    "remove column": _remove_column,
    "reorder columns": _reorder_columns,
    "dialect": _dialect,
    "encoding": _encoding,
    "raw line": _raw_line,
    "damage": _damage,
}
