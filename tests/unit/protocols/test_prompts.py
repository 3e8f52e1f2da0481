"""Tests of prompt sets."""

import hashlib
import json

import numpy as np
import pytest

from zebra.errors import ConfigError, DataError, ShapeError
from zebra.protocols.prompts import (
    PromptSet,
    average_prompt_vectors,
    load_general_prompts,
    read_prompt_dir,
    read_prompt_json,
    read_prompt_markdown,
)

PHOTO = "a photo of a {}."


def prompt_set(templates=(PHOTO,), classnames=("horse", "zebra"), **more):
    return PromptSet("mine", "custom", tuple(templates), classnames, **more)


def test_every_synonym_is_put_into_every_template():
    prompts = prompt_set((PHOTO, "art of the {c}."), synonyms={"horse": ("pony",)})
    assert prompts.prompts() == (
        ("a photo of a horse.", "art of the horse.", "a photo of a pony.", "art of the pony."),
        ("a photo of a zebra.", "art of the zebra."),
    )


def test_sentences_of_a_class_replace_the_templates():
    prompts = prompt_set(sentences={"zebra": ("It has stripes.", "Seen in Africa.")})
    assert prompts.prompts() == (("a photo of a horse.",), ("It has stripes.", "Seen in Africa."))


def test_the_hash_depends_only_on_the_content():
    prompts = prompt_set()
    assert len(prompts.hash) == 16
    assert prompts.hash == PromptSet("other", "openai", ("a photo of a {c}.",), ("horse", "zebra")).hash
    different = [
        prompt_set(("a photo of the {}.",)),
        prompt_set(classnames=("zebra", "horse")),
        prompt_set(classnames=None),
        prompt_set((PHOTO, PHOTO)),
        prompt_set(synonyms={"horse": ("pony",)}),
        prompt_set(sentences={"horse": ("pony",)}),
    ]
    assert len({prompts.hash, *(each.hash for each in different)}) == 7


def test_the_hash_is_the_same_on_every_machine():
    content = (
        '{"templates":["a photo of a {}."],"classnames":["horse","zebra"],'
        '"synonyms":{"zebra":["équidé rayé"]},"sentences":{}}'
    )
    expected = hashlib.sha256(content.encode("utf-8")).hexdigest()[:16]
    assert prompt_set(synonyms={"zebra": ("équidé rayé",)}).hash == expected


def test_a_prompt_set_without_names_uses_those_of_the_dataset():
    assert prompt_set(classnames=None).with_classnames(["cat", "dog"]).prompts()[1] == ("a photo of a dog.",)
    with pytest.raises(ConfigError, match="has no class names"):
        prompt_set(classnames=None).prompts()


def test_a_prompt_set_needs_as_many_names_as_the_dataset():
    with pytest.raises(DataError, match="has 2 classes, but the dataset has 3"):
        prompt_set().with_classnames(["0", "1", "2"])


@pytest.mark.parametrize(
    ("names", "dataset_names", "expected"),
    [
        (("horse", "zebra"), ["0", "1"], ("horse", "zebra")),  # the position is the label
        (("forest", "river", "highway or road"), ["highway or road", "forest", "river"], None),
        (("Maine Coon", "pug"), ["Pug", "maine_coon"], ("pug", "Maine Coon")),
        (("head of a  crocodile", "ant"), ["ant", "head of a crocodile"], ("ant", "head of a  crocodile")),
        (("missile", "tank", "missile"), ["tank", "missile", "missile"], None),
        (("C++", "C#"), ["C#", "C++"], None),
        (("Turkey", "turkey"), ["turkey", "Turkey"], None),
        (("straße", "weg"), ["Weg", "STRASSE"], ("weg", "straße")),
    ],
)
def test_class_names_are_matched_by_name_and_not_by_position(names, dataset_names, expected):
    matched = prompt_set(classnames=names).with_classnames(dataset_names)
    assert matched.classnames == (expected or tuple(dataset_names))
    assert matched.notes == ()


def test_a_synonym_matches_the_name_of_the_dataset():
    prompts = prompt_set(classnames=("happy", "angry"), synonyms={"happy": ("smiling",)})
    assert prompts.with_classnames(["angry", "smiling"]).prompts()[1] == (
        "a photo of a happy.",
        "a photo of a smiling.",
    )


@pytest.mark.parametrize(
    ("names", "dataset_names"),
    [
        (("10", "3", "4"), ["four", "three", "ten"]),  # OpenAI's CLEVR counts
        (("10", "3", "4"), ["0", "1", "2"]),
        (("horse", "zebra", "cow"), ["zebra", "horse", "bull"]),  # two in another order, one unknown
        (("c++", "c#"), ["C", "C!"]),  # the words alone are ambiguous
        (("horse", "zebra", "cow"), ["horse", "mule", "bull"]),  # one of three matches: no evidence for the order
    ],
)
def test_names_of_which_the_order_would_be_a_guess_are_refused(names, dataset_names):
    with pytest.raises(DataError, match="Their order may differ"):
        prompt_set(classnames=names).with_classnames(dataset_names)


def test_renamed_classes_among_names_in_one_order_keep_their_position_with_a_note():
    prompts = prompt_set(classnames=("horse", "zebra", "construction crane"))
    matched = prompts.with_classnames(["horse", "zebra", "crane"])
    assert matched.classnames == prompts.classnames
    assert matched.notes == ("the prompts rename 1 of 3 classes: 'crane' as 'construction crane'",)
    assert matched.hash == prompts.hash


def test_sentences_find_their_class_up_to_case_and_punctuation():
    prompts = PromptSet("mine", "custom", (), sentences={"maine coon": ("A cat.",), "Pug": ("A dog.",)})
    assert prompts.with_classnames(["pug", "Maine_Coon"]).prompts() == (("A dog.",), ("A cat.",))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"templates": ()}, "no templates"),
        ({"templates": ("a photo.",)}, "no placeholder"),
        ({"classnames": ()}, "no class names at all"),
        ({"synonyms": {"hors": ("pony",)}}, "Did you mean 'horse'"),
        ({"synonyms": {"horse": ("zebra",)}}, "already in use"),
        ({"synonyms": {"horse": ("pony",), "zebra": ("pony",)}}, "already in use"),
        ({"synonyms": {"horse": ("",)}}, "empty or already in use"),
        ({"templates": (), "sentences": {"horse": ("It neighs.",)}}, "no prompt for 1 classes, such as 'zebra'"),
    ],
)
def test_an_invalid_prompt_set_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        prompt_set(**fields)


@pytest.mark.parametrize("names", [("missile", "zebra", "missile"), ("near", "", "far")])
def test_class_names_may_be_repeated_or_empty(names):
    """OpenAI's list of ImageNet calls two classes 'missile'; CLIP_benchmark's CLEVR distances have an empty name."""
    assert [texts[0] for texts in prompt_set(classnames=names).prompts()] == [f"a photo of a {name}." for name in names]


def test_the_general_prompt_set_has_40_different_templates():
    general = load_general_prompts()
    assert general.source == "zebra"
    assert len(set(general.templates)) == 40
    assert all(template.count("{}") == 1 and template.endswith((".", "picture.")) for template in general.templates)


def test_a_clip_benchmark_folder_is_read(tmp_path):
    (tmp_path / "classnames.txt").write_text("horse\nzebra\n", encoding="utf-8")
    (tmp_path / "zeroshot_classification_templates.txt").write_text("a photo of a {c}.\r\nart\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="'art' has no placeholder"):
        read_prompt_dir(tmp_path)
    (tmp_path / "zeroshot_classification_templates.txt").write_text("a photo of a {c}.\n{c}", encoding="utf-8")
    assert read_prompt_dir(tmp_path).prompts()[1] == ("a photo of a zebra.", "zebra")
    with pytest.raises(DataError, match=r"cannot read .*classnames\.txt"):
        read_prompt_dir(tmp_path / "nowhere")


def write_json(path, document):
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def test_custom_files_of_clip_benchmark_are_read(tmp_path):
    templates = write_json(tmp_path / "t.json", {"farm": ["a photo of a {c}."], "other": ["{c}"]})
    names = write_json(tmp_path / "n.json", {"farm": ["horse", "zebra"]})
    assert read_prompt_json("farm", templates, names).prompts()[1] == ("a photo of a zebra.",)
    assert read_prompt_json("farm", templates).classnames is None
    with pytest.raises(DataError, match=r"has no entry 'fram'\. Did you mean 'farm'"):
        read_prompt_json("fram", templates)


def test_custom_sentences_for_every_class_are_read(tmp_path):
    file = write_json(tmp_path / "t.json", {"farm": {"zebra": ["It has stripes."], "horse": ["It neighs."]}})
    assert read_prompt_json("farm", file).with_classnames(["horse", "zebra"]).prompts() == (
        ("It neighs.",),
        ("It has stripes.",),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "t.json:1: invalid JSON"),
        ("[]", "no entry"),
        ('{"farm": "{}"}', "expected a list of strings"),
        ('{"farm": []}', "expected a list of strings"),
        ('{"farm": [3]}', "expected a list of strings"),
        ('{"farm": {"zebra": "It has stripes."}}', "farm: zebra: expected a list"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, text, message):
    path = tmp_path / "t.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_prompt_json("farm", path)


MARKDOWN = """# Prompts

What this is.

## Faces

```bash
classes = [
    ['happy', 'smiling'],
    ['angry'],
]

templates = [
    'a {} face.',
]
```


## Farm

```bash
classes = [
    'horse',
    "mother's hen",
]

templates = [
    'a photo of a {}.',
    'a {}.',
]
```

## Broken

```bash
classes = open('x')
```

## Half

```bash
classes = ['a']
```
"""


def test_openais_sections_are_read_with_their_synonyms(tmp_path):
    path = tmp_path / "prompts.md"
    path.write_text(MARKDOWN, encoding="utf-8")
    assert read_prompt_markdown(path, "Faces").prompts() == (("a happy face.", "a smiling face."), ("a angry face.",))
    assert read_prompt_markdown(path, "Farm").prompts()[1] == ("a photo of a mother's hen.", "a mother's hen.")


def test_a_section_is_found_by_any_name_of_the_dataset(tmp_path):
    path = tmp_path / "prompts.md"
    path.write_text(MARKDOWN, encoding="utf-8")
    for name, aliases in (("farm", ()), ("F-A_R M", ()), ("animals", ("wds_farm", "Farm"))):
        assert read_prompt_markdown(path, name, aliases=aliases).name == "Farm"
    entry = write_json(tmp_path / "t.json", {"imagenet1k": ["{c}"]})
    assert read_prompt_json("imagenet_sketch", entry, aliases=("sketch", "ImageNet1k")).templates == ("{c}",)


def test_one_name_with_two_lists_of_synonyms_is_refused(tmp_path):
    path = tmp_path / "prompts.md"
    path.write_text("## A\n```bash\nclasses = [['crane', 'bird'], ['crane', 'machine']]\ntemplates = ['{}']\n```\n")
    with pytest.raises(DataError, match="two classes have the name 'crane' with different synonyms"):
        read_prompt_markdown(path, "A")


@pytest.mark.parametrize(
    ("section", "message"),
    [("Frm", "Did you mean 'Farm'"), ("Broken", "cannot parse lists"), ("Half", "expected the lists")],
)
def test_an_invalid_section_is_named_and_no_code_is_run(tmp_path, section, message):
    path = tmp_path / "prompts.md"
    path.write_text(MARKDOWN, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_prompt_markdown(path, section)


def test_class_vectors_average_the_unit_vectors_of_the_prompts():
    prompts = np.array([[2, 0], [0, 5], [0, 3]], dtype=np.float32)
    head = average_prompt_vectors(prompts, [2, 1])
    assert head == pytest.approx(np.array([[0.5**0.5, 0.5**0.5], [0, 1]]))
    assert head.dtype == np.float32


def test_a_wrong_number_of_prompt_vectors_is_refused():
    with pytest.raises(ShapeError, match="3 prompt vectors for 2 classes with 4"):
        average_prompt_vectors(np.ones((3, 2), np.float32), [2, 2])
    with pytest.raises(ShapeError):
        average_prompt_vectors(np.ones((3, 2), np.float32), [3, 0])
    with pytest.raises(DataError, match="cannot normalize vector 1"):
        average_prompt_vectors(np.array([[1, 0], [0, 0]], np.float32), [1, 1])
