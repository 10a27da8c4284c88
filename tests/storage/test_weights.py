"""An adapter on disk is whole or not there, and one that was damaged can be made again."""

from pathlib import Path

from storage.weights import keep_adapter, verify_adapter

BASE = "b" * 64


def write(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(b"weights")


def test_training_again_replaces_an_adapter_that_was_damaged(tmp_path: Path) -> None:
    _, kept = keep_adapter(tmp_path, write, {"base_digest": BASE})
    (kept / "adapter_model.safetensors").write_bytes(b"rotten")

    _, again = keep_adapter(tmp_path, write, {"base_digest": BASE})

    assert again == kept and verify_adapter(kept, base=BASE)["base_digest"] == BASE


def test_a_whole_adapter_keeps_its_first_manifest(tmp_path: Path) -> None:
    _, kept = keep_adapter(tmp_path, write, {"base_digest": BASE, "run": 1})

    keep_adapter(tmp_path, write, {"base_digest": BASE, "run": 2})

    assert verify_adapter(kept, base=BASE)["run"] == 1
    assert [path.name for path in (tmp_path / "adapters").iterdir()] == [kept.name], "no draft is left"
