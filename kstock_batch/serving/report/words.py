"""The report's words, in English and Korean."""

from collections.abc import Mapping

LANGUAGES = ("en", "ko")

# key = (English, Korean). Words inside drawings are keys of themselves.
_WORDS: dict[str, tuple[str, str]] = {
    "title": ("Predictions as-of {as_of}", "{as_of} 기준 예측"),
    "lead": (
        "{n_scored} of {n_known} stocks were scored. Over the years {base_rate} of stocks rise 3 % within five"
        " sessions; tonight's mean forecast is {mean}.",
        "{n_known}개 종목 중 {n_scored}개를 평가했습니다. 5거래일 안에 3 % 오르는 종목은 평균 {base_rate}이고,"
        " 오늘 밤 예측의 평균은 {mean}입니다.",
    ),
    "degraded": ("Published although something is missing: {why}", "일부 자료가 빠진 채 발행되었습니다: {why}"),
    "no_advice": (
        "A probability, no advice: of 100 stocks said to rise with 30 %, about 30 do.",
        "투자 권유가 아닌 확률입니다. 30 %라고 한 종목 100개 가운데 약 30개가 오릅니다.",
    ),
    "contents": ("Contents", "차례"),
    "top": ("Highest tonight", "오늘 밤 상위 종목"),
    "bottom": ("Lowest tonight", "오늘 밤 하위 종목"),
    "ticker": ("Ticker", "종목코드"),
    "name": ("Name", "종목명"),
    "sector": ("Sector", "업종"),
    "probability": ("Probability", "확률"),
    "lift": ("× base rate", "기준율 대비"),
    "label": ("Label", "판정"),
    "members": ("LGBM / XGB / LSTM", "LGBM / XGB / LSTM"),
    "reasons": ("Reasons (log-odds)", "주요 근거 (로그오즈)"),
    "closes": ("Four months", "4개월 주가"),
    "spark": (
        "Closes of {name} over four months, from {first} to {last} won, adjusted",
        "{name}의 최근 4개월 수정 종가: {first}원에서 {last}원",
    ),
    "agreement": ("Do the members agree?", "모델끼리 일치하는가"),
    "agreement_says": (
        "What each member says, on average, in each tenth of the blend. Lines that rise together agree.",
        "종합 확률을 열 묶음으로 나눠 각 모델의 평균 예측을 보입니다. 함께 올라가면 서로 일치합니다.",
    ),
    "reliability": ("Are the probabilities true?", "확률은 맞는가"),
    "reliability_says": (
        "Judged sessions {first} … {last}: forecast against the share that rose. On the dashed line they are equal.",
        "{first} … {last} 결과가 나온 거래일: 예측 확률과 실제 상승 비율입니다. 점선 위에서는 둘이 같습니다.",
    ),
    "deciles": ("Do the highest rise more often?", "상위 종목이 더 자주 오르는가"),
    "deciles_says": (
        "Share that rose in the highest and the lowest tenth, over 20 judged sessions each.",
        "상위 10 %와 하위 10 %에서 실제로 오른 비율입니다. 결과가 나온 20거래일 이동 평균입니다.",
    ),
    "ranking": ("Ranking within a session", "거래일 안의 순위 정확도"),
    "ranking_says": (
        "AUC within sessions over 20 judged sessions each: the chance that a stock which rises stands above one which"
        " does not.",
        "20거래일 이동 평균 AUC: 오를 종목이 오르지 않을 종목보다 위에 놓일 확률입니다.",
    ),
    "skill": ("Skill over both floors", "두 기준선 대비 성과"),
    "skill_says": (
        "Part of the Brier score saved against forecasting the base rate, and against trailing volatility alone.",
        "기준율만 쓸 때와 변동성만 쓸 때에 비해 줄인 브라이어 점수의 비율입니다.",
    ),
    "drift": ("Drift by feature", "특성별 분포 변화"),
    "drift_says": (
        "PSI against the month before as a share of what is no finding: the darker, the more unlike. A cross is a"
        " finding.",
        "한 달 전과 비교한 PSI를 허용 한도에 대한 비율로 나타냅니다. 짙을수록 많이 다르고, ×는 한도를 넘은 것입니다.",
    ),
    "verdict": ("Verdict: {sentence}.", "판정: {sentence}."),
    "coverage": ("Coverage", "평가 범위"),
    "coverage_says": (
        "Share of the stocks with features that were scored; the newest session was first scored {hours} after its"
        " cut-off.",
        "특성이 있는 종목 가운데 평가한 비율입니다. 최근 거래일은 마감 시각 {hours} 뒤에 처음 평가되었습니다.",
    ),
    "incidents": ("Data-quality incidents", "자료 품질 사건"),
    "kind": ("Kind", "종류"),
    "what": ("What", "내용"),
    "date": ("Date", "날짜"),
    "count": ("Rows", "건수"),
    "detail": ("Detail", "비고"),
    "no_incidents": ("None.", "없음."),
    "card": ("Model card", "모델 카드"),
    "card_says": (
        "{version}, trained on {n_rows} windows of {first} … {last}; judged out of fold on {judged_first} …"
        " {judged_last}.",
        "{version}: {first} … {last}의 창 {n_rows}개로 학습했고, {judged_first} … {judged_last}의 표본 밖 자료로"
        " 평가했습니다.",
    ),
    "card_gone": ("The model {version} is no longer stored.", "모델 {version}은 더 이상 보관되어 있지 않습니다."),
    "gate": ("Gate: {reason}", "관문: {reason}"),
    "member": ("Out of fold", "표본 밖"),
    "weight": ("Weight", "가중치"),
    "lstm_training": ("The LSTM's training", "LSTM 학습 과정"),
    "lstm_training_says": (
        "Log-loss after each pass over its windows; it stopped by {stopped_by}.",
        "학습 창을 한 번 돌 때마다의 로그 손실입니다. 종료 사유: {stopped_by}.",
    ),
    "run_times": ("Run times", "실행 시간"),
    "run_times_says": (
        "Seconds of the newest nights; the last one took {seconds} s.",
        "최근 야간 실행의 소요 시간(초)입니다. 마지막 실행은 {seconds}초 걸렸습니다.",
    ),
    "stage": ("Stage", "단계"),
    "seconds": ("Seconds", "초"),
    "numbers": ("The numbers", "수치 보기"),
    "nothing_judged": (
        "No session is judged yet: outcomes are known five sessions later.",
        "아직 결과가 나온 거래일이 없습니다. 결과는 5거래일 뒤에 알 수 있습니다.",
    ),
    "too_few": ("Too few stocks or sessions to tell.", "판단하기에 종목이나 거래일이 너무 적습니다."),
    "made": ("Made {made_at} UTC by kstock-batch {version}.", "{made_at} UTC, kstock-batch {version} 작성."),
    "skip": ("Skip to the predictions", "예측으로 건너뛰기"),
    "hours": ("{n} hours", "{n}시간"),
    # In drawings
    "forecast": ("forecast", "예측"),
    "rose 3 %": ("rose 3 %", "3 % 상승"),
    "ideal": ("ideal", "이상적"),
    "out of fold": ("out of fold", "표본 밖"),
    "came true": ("came true", "실제"),
    "highest tenth": ("highest tenth", "상위 10 %"),
    "lowest tenth": ("lowest tenth", "하위 10 %"),
    "all": ("all", "전체"),
    "by chance": ("by chance", "무작위"),
    "AUC in session": ("AUC in session", "거래일 내 AUC"),
    "no skill": ("no skill", "성과 없음"),
    "over the base rate": ("over the base rate", "기준율 대비"),
    "over volatility alone": ("over volatility alone", "변동성 대비"),
    "tenth of the blend": ("tenth of the blend", "종합 확률의 십분위"),
    "blend": ("blend", "종합"),
    "share of stocks scored": ("share of stocks scored", "평가한 종목 비율"),
    "training": ("training", "학습"),
    "validation": ("validation", "검증"),
    "pass": ("pass", "회차"),
    "log-loss": ("log-loss", "로그 손실"),
    "newest nights, oldest first": ("newest nights, oldest first", "최근 실행 (오래된 순)"),
}


def words(language: str) -> Mapping[str, str]:
    """Return every word of the report in ``language``, by key."""
    at = LANGUAGES.index(language)
    # A percent sign stays with its number at a line's end.
    return {key: said[at].replace(" %", "\N{NO-BREAK SPACE}%") for key, said in _WORDS.items()}
