"""Wording: a number and its noun agree, and a command's seconds stand beside what took them."""

import re

import pytest

from factories import LAST, done
from kstock_batch.wording import counted


@pytest.mark.parametrize(
    ("n", "told"), [(0, "0 sessions"), (1, "1 session"), (2, "2 sessions"), (2731, "2,731 sessions")]
)
def test_a_number_and_its_noun_agree(n, told):
    assert counted(n, "session") == told


TOOK = r"in \d+\.\d s"


def test_the_seconds_of_a_command_stand_beside_what_took_them(trained_root, tmp_path):
    out = tmp_path / "out"
    for args, told in (
        (("ingest", "files", trained_root / "next"), r"read [\d,]+ rows TOOK: [\d,]+ new, 0 changed, 0 rejected"),
        (("features",), rf"computed 3\d feature rows, \d+ labels for {LAST} … {LAST} TOOK"),
        (("features", "--as-known-at", f"{LAST}T18:30"), r"computed, as known then, 3\d rows .* TOOK: identical to .*"),
        (("score", "--as-of", LAST), rf"scored 3\d of 3\d stocks as-of {LAST} with \S+ TOOK"),
        (
            ("export", "--out", out, "--from", LAST),
            rf"exported 3\d rows of \w+, {LAST} … {LAST}, to {out} TOOK: 1 of .*",
        ),
    ):
        lines = done(trained_root, *args).stdout.splitlines()
        assert any(re.fullmatch(told.replace("TOOK", TOOK), line) for line in lines), lines
