"""Training data of a run: sources, held-out pairs and validators."""

import hashlib
from dataclasses import dataclass

from zebra.config.train import TrainConfig
from zebra.data.batches import require_full_batch
from zebra.data.rehearsal import RehearsalData, exclude_images, open_rehearsal
from zebra.data.sources import Source, open_source
from zebra.data.splits import hold_out
from zebra.data.templated import fill_caption_templates
from zebra.distributed import ProcessGroup
from zebra.evaluators.validation import RetrievalValidator, Validator, open_zero_shot_validators
from zebra.images.preprocess import build_preprocess
from zebra.train.finetune import FineTuning


@dataclass(frozen=True, slots=True)
class TrainData:
    """What a run trains on and is validated by."""

    source: Source
    """Training samples, without those held out."""
    validators: list[Validator]
    held_out: RetrievalValidator | None
    """Pairs for the final evaluation; None if the source is too small to hold any out."""
    fine_tuning: FineTuning | None
    """The initial model and its splits; None for training from random weights."""
    rehearsal: RehearsalData | None = None
    """Earlier data, of which each batch has some pairs."""

    @property
    def digest(self) -> str:
        """A SHA-256 in hex of everything that is trained on."""
        if self.rehearsal is None:
            return self.source.digest
        return hashlib.sha256(f"{self.source.digest} {self.rehearsal.source.digest}".encode()).hexdigest()


def open_data(config: TrainConfig, group: ProcessGroup) -> TrainData:
    """Open the training source, hold pairs out and open the validators; for fine-tuning, load the initial model.

    Raises:
        DataError: The data cannot be read or holds fewer samples than one batch.
    """
    source, templates = open_source(config.data, config.data_options), config.data_options.caption_templates
    validators: list[Validator] = [*open_zero_shot_validators(config.eval_sets, config.eval_samples, group)]
    if config.finetune:
        fine_tuning = FineTuning(config, source, validators, group)
        require_full_batch(fine_tuning.train_source, config.num_new)
        rehearsal = None
        if config.rehearse is not None:
            earlier = fill_caption_templates(open_rehearsal(config.rehearse, config.data_options), templates)
            rehearsal = exclude_images(earlier, fine_tuning.image_digests)
        return TrainData(
            fine_tuning.train_source, fine_tuning.validators, fine_tuning.test_validator, fine_tuning, rehearsal
        )
    train_source, val_source = hold_out(source, config.val_fraction)
    train_source = fill_caption_templates(train_source, templates)
    require_full_batch(train_source, config.batch_size)
    held_out = None
    if val_source is not None:
        preprocess = build_preprocess(config.model, config.image_seq_len)
        held_out = RetrievalValidator(fill_caption_templates(val_source, templates), preprocess, group)
        validators.append(held_out)
    return TrainData(train_source, validators, held_out, None)
