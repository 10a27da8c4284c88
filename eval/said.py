"""What was said: the texts that a benchmark had generated, item by item, beside the lessons that they answer.

Layout: datasets/<digest>/said/<key of a score>.json, {item id: text}. They lie in a dataset's folder on purpose: it goes when
somebody in it is forgotten, and they with it. No score, digest or decision depends on them: what cannot be read is not there.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from storage.records import Scorecard
from storage.weights import write_whole

FOLDER = "said"


def keep_said(dataset: Path, key: str, texts: Mapping[str, str]) -> None:
    """Keep these texts under the key of their score, for us alone. Raises OSError; a dataset's folder that is gone stays gone."""
    folder = dataset / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    write_whole(folder / f"{key}.json", json.dumps(dict(texts), sort_keys=True).encode())


def find_said(datasets: Path, card: Scorecard) -> dict[tuple[str, str], str]:
    """By (benchmark, item id), what this answerer said, from whichever dataset has it: the base is measured once, and a
    later run knows its scores from the ledger."""
    found = dict[tuple[str, str], str]()
    for folder in sorted(datasets.glob(f"*/{FOLDER}")):
        for score in card.scores:
            texts = _read(folder / f"{score.key}.json")
            found |= {(score.benchmark, item_id): text for item_id, text in texts.items()}
    return found


def _read(path: Path) -> dict[str, str]:
    try:
        body = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return {item_id: text for item_id, text in body.items() if isinstance(text, str)} if isinstance(body, dict) else {}
