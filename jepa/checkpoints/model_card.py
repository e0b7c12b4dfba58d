"""The README.md beside saved weights: what they are, and three lines that use them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

# Front matter as the Hugging Face hub reads it.
CARD = """---
library_name: jepa-planning
tags: [jepa, video, representation-learning]
---

# {title}

{source}

| part | parameters |
|---|---|
{parts}
{classes}
Every switch of the architecture is in `config.json`; `model.safetensors` holds the weights. The
licence of weights that were converted is that of their source.

```python
import jepa

model = jepa.from_pretrained("path/to/this/folder")
{usage}
```
"""
USAGE = {
    "JepaModel": "tokens = model.encoder(video)  # uint8 (batch, 3, time, height, width)",
    "LatentWorldModel": "latents = model.encode(frames)  # uint8 (batch, 3, time, height, width)",
}


def model_card(config: dict[str, Any], shapes: dict[str, Sequence[int]]) -> str:
    """Returns the text of the card.

    Args:
        config: as `jepa.checkpoints.native.describe` makes it.
        shapes: of all weights, by name.
    """
    counts: dict[str, int] = {}
    for name, shape in shapes.items():
        part = name.partition(".")[0]
        counts[part] = counts.get(part, 0) + math.prod(shape)
    encoder = config["encoder"]
    size = f"width {encoder['dim']}, depth {encoder['depth']}" if "dim" in encoder else ""
    title = " ".join(filter(None, [config["model"], size]))
    return CARD.format(
        title=title,
        source=config.get("source") or "Trained with jepa-planning.",
        parts="\n".join(f"| {part} | {count:,} |" for part, count in counts.items()),
        classes=_classes(config.get("probe", {}).get("class_names")),
        usage=USAGE[config["model"]],
    )


def _classes(class_names: dict[str, list[str]] | None) -> str:
    """Returns a paragraph on the names of classes, empty if there are none."""
    if class_names is None:
        return ""
    counts = ", ".join(f"{head} ({len(names)})" for head, names in class_names.items())
    return f"\nThe probe names its classes, see `model.top_classes(video)`: {counts}.\n"
