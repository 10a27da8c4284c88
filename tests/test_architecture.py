"""Imports run one way, and the bot's host never needs a model."""

import subprocess
import sys

from importlinter.cli import lint_imports


def test_imports_run_one_way() -> None:
    """training → eval → bot.engine → storage; the Slack side reaches no model. Source: pyproject.toml."""
    assert lint_imports(cache_dir=None) == 0


def test_importing_the_bot_imports_no_torch() -> None:
    script = (
        "import sys, pkgutil, importlib, bot\n"
        "for module in pkgutil.iter_modules(bot.__path__):\n"
        "    if not module.ispkg: importlib.import_module('bot.' + module.name)\n"
        "import bot.workspace.server\n"
        "print(','.join(sorted({'torch', 'transformers', 'peft', 'training', 'eval'} & set(sys.modules))))"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == ""


def test_importing_the_command_line_builds_nothing() -> None:
    script = "import sys, evenkeel; print('torch' in sys.modules, 'slack_bolt' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["False", "False"]
