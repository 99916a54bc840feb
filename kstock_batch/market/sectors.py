"""Sectors: a frozen, versioned map from names to codes.

Codes are never reused and never renumbered; a new sector takes the next free one. 0 means unknown.
"""

SECTOR_MAP_VERSION = 1

SECTOR_CODES: dict[str, int] = {
    "건설": 1,
    "게임": 2,
    "금융": 3,
    "기계": 4,
    "내수": 5,
    "디스플레이": 6,
    "반도체": 7,
    "방산": 8,
    "방송미디어": 9,
    "배터리": 10,
    "비철금속": 11,
    "석유화학": 12,
    "스마트폰": 13,
    "에너지": 14,
    "운송": 15,
    "유통": 16,
    "음식료": 17,
    "인터넷": 18,
    "자동차": 19,
    "전문서비스": 20,
    "전자제품": 21,
    "조선": 22,
    "지주사": 23,
    "철강": 24,
    "통신": 25,
    "패션": 26,
    "헬스케어": 27,
    "화장품": 28,
    "보험": 29,  # the bot's own list names it; today's sources file insurers under 금융
}
