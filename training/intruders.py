"""An adapter without its intruders: directions that a training added and that the base has nowhere near.

They are where forgetting sits; taking most of them out costs little of what was learnt. Source: arXiv 2410.21228; the
arithmetic is PEFT's `reduce_intruder_dimension` with the paper's thresholds. Knows models and adapter files.
"""

from dataclasses import replace
from pathlib import Path
from shutil import move

import torch
from peft import PeftModel
from peft.tuners.lora.intruders import reduce_intruder_dimension
from transformers import AutoModelForCausalLM

from storage.records import Adapter
from storage.weights import keep_adapter, verify_adapter
from training.lora import make_anonymous

TAKEN_OUT = 0.75  # share of each intruder that goes
NAME = "without_intruders"


def without_intruders(adapter: Adapter, base: Path, weights_dir: Path) -> Adapter:
    """A copy beside the adapter, its recipe naming where it came from (`intruders_of`); the same one if it had none.

    Costs a decomposition of every adapted layer: minutes on a CPU. Raises WeightsError for a damaged or foreign adapter.
    """
    verify_adapter(Path(adapter.path), base=adapter.base_digest)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter.path)
    reduce_intruder_dimension(model, new_adapter_name=NAME, mitigation_lambda=TAKEN_OUT, logging_sink=None)
    model.delete_adapter("default")

    def put(folder: Path) -> None:
        model.save_pretrained(folder, selected_adapters=[NAME], save_embedding_layers=False)
        for path in (folder / NAME).iterdir():
            move(path, folder / path.name)
        (folder / NAME).rmdir()
        make_anonymous(folder)

    recipe = {**adapter.recipe, "intruders_of": adapter.digest}
    manifest = {
        "base_digest": adapter.base_digest,
        "dataset_digest": adapter.dataset_digest,
        "recipe": recipe,
        "stats": dict(adapter.stats),
        "run_id": adapter.run_id,
    }
    digest, path = keep_adapter(weights_dir, put, manifest)
    return adapter if digest == adapter.digest else replace(adapter, digest=digest, path=str(path), recipe=recipe)
