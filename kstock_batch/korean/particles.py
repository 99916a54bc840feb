"""Korean particles: which of two forms follows a word depends on the last sound of the word.

은/는, 이/가, 을/를, 과/와 ask whether the word ends in a consonant; 으로/로 and 이라/라 too, and 으로 not after ㄹ.
"""

import re

_HANGUL = ("\uac00", "\ud7a3")
_RIEUL = 8  # of the 28 final sounds of a syllable: 0 is none
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}$")
# 영 일 이 삼 사 오 육 칠 팔 구; 십, 백, 천 and 만 end in a consonant as 영 does
_DIGITS = {"0": 21, "1": _RIEUL, "2": 0, "3": 16, "4": 0, "5": 0, "6": 1, "7": _RIEUL, "8": _RIEUL, "9": 0}
_LETTERS = {"l": _RIEUL, "m": 16, "n": 4}  # 엘, 엠, 엔, and the end of a word read as one: 모델, 시스템, 라이선
_CAPITALS = _LETTERS | {"r": _RIEUL}  # 알: letters read one by one
_UNSPOKEN = " \t\n'\"`’”)]}»…*.,:;!?"


def with_final(word: str) -> int:
    """Return the final sound of ``word`` as it is read in Korean: 0 is none, 8 is ㄹ."""
    spoken = word.rstrip(_UNSPOKEN)
    if not spoken:
        return 0
    if _DATE.search(spoken):
        return _RIEUL  # …일
    last = spoken[-1]
    if _HANGUL[0] <= last <= _HANGUL[1]:
        return (ord(last) - ord(_HANGUL[0])) % 28
    if last in _DIGITS:
        return _DIGITS[last]
    if spoken.lower().endswith("ng"):
        return 21
    is_spelt = len(spoken) > 1 and spoken[-2:].isupper()
    return (_CAPITALS if is_spelt else _LETTERS).get(last.lower(), 0)


def chosen(word: str, consonant: str, vowel: str) -> str:
    """Return the form of a particle that follows ``word``: ``consonant`` like 은, or ``vowel`` like 는."""
    final = with_final(word)
    if consonant == "으로" and final == _RIEUL:
        return vowel
    return consonant if final else vowel
