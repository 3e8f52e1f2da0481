"""The task `zebra explain`: heat maps of what in an image matches texts."""

from pathlib import Path

from zebra.config.explain import ExplainConfig
from zebra.images.inputs import load_image
from zebra.pretrained.load import load
from zebra.report.heat_map import HeatMaps, save_heat_maps, write_heat_map_page


def run(config: ExplainConfig) -> HeatMaps:
    """Compute a heat map per text and write them to `config.out`.

    Raises:
        DataError: The image file is missing or unusable; the message names it.
        ConfigError: There are no texts, or the file has another suffix than .html or .png.
        WeightsError: The model is incomplete, damaged, or has no image tower or no tokenizer.
    """
    clip = load(config.model, device=config.device)
    image = load_image(Path(config.image), "the image", clip.preprocess.decode, clip.preprocess.max_aspect_ratio)
    image_1E, text_TE = clip.encode_images([image]), clip.encode_texts(config.texts)
    heat_maps = HeatMaps(
        image=image,
        box=clip.preprocess.visible_box(*image.size),
        texts=tuple(config.texts),
        cosines=tuple((text_TE @ image_1E[0]).tolist()),
        maps_THW=clip.heat_map(image, config.texts).numpy(),
    )
    out = Path(config.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix.lower() == ".png":
        save_heat_maps(heat_maps, out)
    else:
        write_heat_map_page(heat_maps, f"What matches in {Path(config.image).name}", out)
    return heat_maps
