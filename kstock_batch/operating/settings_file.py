"""The settings as a person reads them: a file of every key with its meaning, and where each value is from."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from kstock_batch.errors import ConfigError
from kstock_batch.files import write_atomically
from kstock_batch.settings import FILE_NAME, Settings, settled

_HEAD = """\
# Settings of kstock-batch. Each key is shown with its default: take the # away to change it.
# A variable KSTOCK_<KEY> comes before this file. Secrets (keys, passwords, addresses that hold one) are variables only:
# docs/operating.md names them.
"""


@dataclass(frozen=True)
class Setting:
    """One setting: what it means, its value, and where that is from."""

    key: str
    value: object
    origin: str
    meaning: str


def meanings() -> dict[str, str]:
    """Return what each key means, by the docstring of Settings."""
    attributes = (Settings.__doc__ or "").split("----------\n", 1)[1]
    found: dict[str, str] = {}
    for names, meaning in re.findall(r"^    ([\w, *]+) : (.*(?:\n        .*)*)", attributes, re.MULTILINE):
        for name in names.split(", "):
            for field in fields(Settings):
                if re.fullmatch(name.replace("*", ".*"), field.name):
                    found[field.name] = re.sub(r"\s+", " ", meaning).strip()
    return found


def settings_with_origins(root: Path, environ: Mapping[str, str] = os.environ) -> list[Setting]:
    """Return every setting in the order of Settings."""
    given, said = settled(root, environ, {}), meanings()
    settings = Settings.load(root, environ)
    return [
        Setting(name, getattr(settings, name), given[name][1] if name in given else "default", said[name])
        for name in (field.name for field in fields(Settings))
        if name != "root"
    ]


def write_settings_file(root: Path) -> Path:
    """Write a settings file with every key, its meaning and its default, all of them commented out."""
    file = root / FILE_NAME
    if file.exists():
        raise ConfigError(f"{file} exists", fix="edit it, or move it away and run this again")
    said = meanings()
    parts = [
        f"# {said[field.name]}\n# {field.name} = {_toml(field.default)}\n"
        for field in fields(Settings)
        if field.name != "root"
    ]
    root.mkdir(parents=True, exist_ok=True)
    write_atomically(file, "\n".join([_HEAD, *parts]).encode())
    return file


def _toml(value: object) -> str:
    """Return a scalar or a list of texts as TOML writes it, which JSON does too."""
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
