"""The language that is spoken: that of the settings, or that of the locale if we speak it."""

import locale
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from kstock_batch.settings import FILE_NAME, LANGUAGES, Settings

_LOCALE_VARIABLES = ("LC_ALL", "LC_MESSAGES", "LANG")  # the first that is set decides, as everywhere


def chosen_language(settings: Settings) -> str:
    """Return the language of the settings, or that of the locale if we speak it: en or ko."""
    return settings.language if settings.language != "auto" else _of_the_locale(os.environ)


def asked_language(args: Sequence[str], environ: Mapping[str, str]) -> str:
    """Return the language before the settings are read, or where they cannot be: for help, and for what is wrong."""
    told = environ.get("KSTOCK_LANGUAGE") or _in_file(_root(args, environ) / FILE_NAME)
    return told if told in LANGUAGES else _of_the_locale(environ)


def _of_the_locale(environ: Mapping[str, str]) -> str:
    # The variables first: a machine that lacks the locale they name, like most containers, falls back to "C".
    name = next((environ[key] for key in _LOCALE_VARIABLES if environ.get(key)), None)
    if name is None:
        name = locale.getlocale()[0] or ""
    return "ko" if name.startswith(("ko", "Korean")) else "en"


def _root(args: Sequence[str], environ: Mapping[str, str]) -> Path:
    """Return the folder that --root names, as far as can be told before options are read."""
    for n, arg in enumerate(args):
        if arg == "--root" and n + 1 < len(args):
            return Path(args[n + 1])
        if arg.startswith("--root="):
            return Path(arg.removeprefix("--root="))
    return Path(environ.get("KSTOCK_ROOT") or ".")


def _in_file(file: Path) -> str | None:
    try:
        told = tomllib.loads(file.read_text(encoding="utf-8")).get("language")
    except (OSError, ValueError):  # no file, or one that Settings will refuse with a reason
        return None
    return told if isinstance(told, str) else None
