"""Why an image is as it is: its layers, which of them were there before, and what the nearest other one has
that it has not."""

from __future__ import annotations

from collections.abc import Sequence

from glowplug.images.records import Record
from glowplug.model.image_spec import ImageSpec
from glowplug.ports.images import (
    ImageBuilder,
    ImageLayer,
    ImageStory,
    KnownImage,
    LayeredBuilder,
    NearImage,
)

END = "(nothing more)"


def tell_story(
    record: Record, builder: ImageBuilder | None, image: KnownImage, others: Sequence[Record]
) -> ImageStory:
    """Reads every file of the image."""
    spec = record.image_spec
    reused = [*record.reused, *[False] * len(spec.steps)]
    keys: dict[str, str] = {}
    damaged: dict[str, list[str]] = {}
    if isinstance(builder, LayeredBuilder):
        keys = {text: key for key, text in builder.layers_of(spec)}
        damaged = builder.examine(spec)
    layers = [
        ImageLayer(text, keys.get(text, spec.digest_after(number + 1))[:16], reused[number])
        for number, text in enumerate(image.steps)
    ]
    return ImageStory(image, layers, damaged, nearest(record, others))


def nearest(record: Record, others: Sequence[Record]) -> NearImage | None:
    """Of those with the longest common beginning the one used last."""
    own = record.image_spec
    best: tuple[int, Record, ImageSpec] | None = None
    for other in others:
        if other.image_id == record.image_id:
            continue
        theirs = other.image_spec
        common = common_steps(own, theirs)
        if common and (best is None or common > best[0]):
            best = (common, other, theirs)
    if best is None:
        return None
    common, other, theirs = best
    return NearImage(other.image_id, other.name, common, _step(theirs, common), _step(own, common))


def common_steps(first: ImageSpec, second: ImageSpec) -> int:
    count = 0
    while (
        count < min(len(first.steps), len(second.steps))
        and ImageSpec((first.steps[count],)).digest == ImageSpec((second.steps[count],)).digest
    ):
        count += 1
    return count


def _step(spec: ImageSpec, number: int) -> str:
    if number >= len(spec.steps):
        return END
    step = spec.steps[number]
    return step.text or step.operation
