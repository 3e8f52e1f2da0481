import itertools

import numpy as np
import pytest
from PIL import Image

from zebra.menagerie.animals import ANIMALS, GAIT_RANGES, Animal, Paint, get_animal
from zebra.menagerie.attributes import ImageAttributes
from zebra.menagerie.coats import COATS
from zebra.menagerie.rng import SampleRng
from zebra.menagerie.sprite import build_sprite

GRAIN = {"striped": "medium", "spotted": "medium", "checkered": "medium"}


def attributes_of(name: str, coat: str, **more: str) -> ImageAttributes:
    colors = ("white",) if coat == "plain" else ("white", "black")
    return ImageAttributes(
        topic="animal",
        scene="meadow",
        animal=name,
        coat=coat,
        colors=colors,
        grain=GRAIN.get(coat, ""),
        pose=get_animal(name).poses[0],
        **{"side": "right" if get_animal(name).is_side_view else ""} | more,
    )


def draw_sprite(attributes: ImageAttributes, seed: int = 0, side: int = 96) -> np.ndarray:
    """Draw the sprite alone on black, as large as possible."""
    sprite = build_sprite(attributes, SampleRng(seed, "test", 0))
    canvas = Image.new("RGB", (side, side))
    sprite.draw(canvas, 2, 2, (side - 4) / max(sprite.width, sprite.height))
    return np.asarray(canvas)


def test_there_are_at_least_twelve_animals_and_each_has_a_drawing() -> None:
    assert len(set(ANIMALS)) == len(ANIMALS) >= 12
    for name in ANIMALS:
        assert any(part.paint is Paint.COAT for part in get_animal(name).parts)


def test_every_pose_has_a_gait_and_every_plural_is_another_word_or_fish() -> None:
    for name in ANIMALS:
        assert set(get_animal(name).poses) <= set(GAIT_RANGES)
        assert get_animal(name).plural != name or name == "fish"


def test_no_two_animals_have_nearly_the_same_silhouette() -> None:
    masks = {name: draw_sprite(attributes_of(name, "plain"), side=64).any(axis=2) for name in ANIMALS}
    for one, two in itertools.combinations(ANIMALS, 2):
        both, either = (masks[one] & masks[two]).sum(), (masks[one] | masks[two]).sum()
        assert both / either < 0.75, (one, two)


def test_at_rest_nothing_moves_and_at_full_gait_only_hinged_parts_do() -> None:
    for species in map(get_animal, ANIMALS):
        assert np.allclose(species.pose_vertices(0.0), species.vertices)
        moved = species.pose_vertices(1.0)
        for part, cut in zip(species.parts, species.part_slices, strict=True):
            assert np.allclose(moved[cut], part.outline) == (part.swing_degrees == 0.0)


@pytest.mark.parametrize("coat", [coat for coat in COATS if coat != "plain"])
@pytest.mark.parametrize("name", ANIMALS)
def test_both_colors_of_a_patterned_coat_cover_a_good_part_of_every_animal(name: str, coat: str) -> None:
    for seed in range(5):
        pixels = draw_sprite(attributes_of(name, coat), seed).astype(int)
        white, black = (pixels.min(axis=2) > 225).sum(), _near(pixels, (38, 36, 42)).sum()
        assert 0.13 < black / (white + black) < 0.8, seed


def test_an_animal_faces_the_side_in_its_attributes() -> None:
    for side in ("left", "right"):
        drawn = draw_sprite(attributes_of("giraffe", "plain", side=side)).any(axis=2)
        middle = np.nonzero(drawn.any(axis=0))[0].mean()
        head = np.nonzero(drawn[np.nonzero(drawn.any(axis=1))[0][0]])[0].mean()  # its highest point
        assert (head > middle) == (side == "right")


def test_animals_that_face_the_viewer_are_symmetric_and_have_no_side() -> None:
    unsided: list[Animal] = [get_animal(name) for name in ANIMALS if not get_animal(name).is_side_view]
    assert {species.name for species in unsided} == {"owl", "butterfly"}
    for species in unsided:
        x = np.sort(species.vertices[:, 0])
        assert np.allclose(x - 50, 50 - x[::-1], atol=3)


def _near(pixels: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    return np.abs(pixels - np.array(color)).max(axis=2) <= 10
