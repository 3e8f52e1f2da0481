"""Captions that are labels or lists of keywords, put into sentences."""

from collections.abc import Sequence
from dataclasses import replace

from zebra.data.sources import BatchedSource, Source, read_many
from zebra.errors import BadSample
from zebra.text.templates import fill_template
from zebra.values import Record


class TemplatedSource:
    """A source whose samples have each of their captions in each of the templates.

    Whatever reads captions then sees the sentences: training, which draws one of them, the tokenizer, and the
    validation, whose prompt templates follow from them. A sample without a group gets its first caption as its group,
    so that the sentences of one label are no negatives of each other with `objective.multi_positive`.
    """

    def __init__(self, source: Source, templates: Sequence[str]) -> None:
        """Wrap a source.

        Raises:
            ConfigError: A template does not have one placeholder.
        """
        for template in templates:
            fill_template(template, "")
        self.source, self.templates = source, tuple(templates)
        self.name, self.digest, self.ignored = source.name, source.digest, source.ignored

    def __len__(self) -> int:
        return len(self.source)

    def sample_id(self, index: int) -> str:
        """Return the ID of a sample without reading it."""
        return self.source.sample_id(index)

    def read(self, index: int) -> Record:
        """Read one sample; raise BadSample if it cannot be used."""
        return self._fill_templates(self.source.read(index))

    def _fill_templates(self, record: Record) -> Record:
        if not record.captions:
            return record
        sentences = [fill_template(template, label.strip()) for label in record.captions for template in self.templates]
        probabilities = [
            probability / len(self.templates) for probability in record.caption_probabilities for _ in self.templates
        ]
        # No caption of another sample is equal to this group, because captions have no NUL.
        group = f"\0{record.captions[0]}" if record.group is None else record.group
        negatives = [
            fill_template(template, label.strip()) for label in record.negatives for template in self.templates
        ]
        return replace(
            record,
            captions=tuple(sentences),
            caption_probabilities=tuple(probabilities),
            group=group,
            negatives=tuple(negatives),
        )


class BatchedTemplatedSource(TemplatedSource):
    """The same for a source that reads many samples faster together than one by one."""

    def read_many(self, indices: Sequence[int]) -> list[Record | BadSample]:
        """Read samples in the given order; a sample that cannot be used is returned as BadSample."""
        records = read_many(self.source, indices)
        return [record if isinstance(record, BadSample) else self._fill_templates(record) for record in records]


def fill_caption_templates(source: Source, templates: Sequence[str]) -> Source:
    """Return the source with its captions in sentences, or the source itself without templates."""
    if not templates:
        return source
    return (BatchedTemplatedSource if isinstance(source, BatchedSource) else TemplatedSource)(source, templates)
