"""What the overview says in each of its languages."""

from collections.abc import Mapping
from typing import NamedTuple

from experiments.overview.questions import QUESTIONS, STUDIES
from experiments.statistics import answers
from experiments.statistics.findings import (
    INCOMPLETE,
    NOT_REPRODUCED,
    REPRODUCED,
    UNDERPOWERED,
)


class Words(NamedTuple):
    """One language.

    Attributes:
        language: field of a ``Question``. page, figure, template: files.
        verdicts: of a study -> (word, what it says). short: of a finding, in the plot.
        check: what became of a check -> how the plot says that it blocks. reproduced:
            how many of how many findings. opposite, same: sides of the plot. axis, key:
            what it says of its axis and marks. published, small, expected, seen: beside
            an effect. tally: of all results. reservations: how many are exploratory,
            how many of several versions. exploratory: such a verdict. other: a verdict
            in place of which another one answers; kept: how many there are. arm: of
            the study that is explained.
    """

    language: str
    page: str
    figure: str
    template: str
    verdicts: Mapping[str, tuple[str, str]]
    short: Mapping[str, str]
    check: Mapping[str, str]
    reproduced: str
    opposite: str
    same: str
    axis: str
    key: tuple[str, str, str]
    published: str
    small: str
    expected: str
    seen: str
    tally: str
    reservations: str
    exploratory: str
    other: str
    kept: str
    arm: str

    def question(self, number: int) -> str:
        """Heading of a group."""
        return f"{number}. {getattr(QUESTIONS[number], self.language)}"

    def asked(self, entry: Mapping) -> str:
        """The question of one study."""
        korean = STUDIES[entry["name"]][1]
        return korean if self.language == "korean" and korean else entry["question"]

    def blocked(self, entry: Mapping) -> str:
        """Why nothing is concluded from an entry's findings; "" if something is."""
        checks = [e["verdict"] for e in entry["expectations"] if e["claim"] == "check"]
        return next((self.check[word] for word in self.check if word in checks), "")


ENGLISH = Words(
    language="english",
    page="README.md",
    figure="forest.svg",
    template="overview/README.md.jinja",
    verdicts={word: (word, said) for word, said in answers.VERDICTS.items()},
    short={
        REPRODUCED: "reproduced",
        NOT_REPRODUCED: "not reproduced",
        UNDERPOWERED: "cannot tell",
        INCOMPLETE: "incomplete",
    },
    check={NOT_REPRODUCED: "check failed", UNDERPOWERED: "check undecided"},
    reproduced="{} of {} reproduced",
    opposite="← the opposite",
    same="as published →",
    axis="in units of the smallest effect of interest",
    key=(
        "effect here, with its 95 % interval",
        "effect in the publication",
        "where the interval lies if it is as published",
    ),
    published="published {}",
    small="below ±{}, the smallest of interest",
    expected="expected {} to {}",
    seen="smallest detectable {}",
    tally="{} results of {} studies: {}",
    reservations="{} are exploratory, as their studies were changed after runs of them "
    "existed, and {} have runs of two versions of the code: their pages name both",
    exploratory="{} (exploratory)",
    other="{}; answered by {}",
    kept="{} other results are kept beside those that answer",
    arm="arm {} of this study",
)
KOREAN = Words(
    language="korean",
    page="README.ko.md",
    figure="forest.ko.svg",
    template="overview/README.ko.md.jinja",
    verdicts={
        REPRODUCED: ("재현됨", "연구가 기대한, 발표된 결과가 모두 나왔습니다."),
        NOT_REPRODUCED: ("재현되지 않음", "그 가운데 하나가 반대로 나왔습니다."),
        UNDERPOWERED: (
            "검정력 부족",
            "어긋난 것은 없지만, 결과나 점검 하나를 이 실행들로는 판단할 수 없습니다.",
        ),
        answers.BETTER: ("더 나음", "기준보다 나은 조건이 있습니다."),
        answers.CANNOT_TELL: (
            "판단 불가",
            "더 나은 조건이 없고, 하나는 이 실행들로는 판단할 수 없습니다.",
        ),
        answers.EQUIVALENT: (
            "동등함",
            "더 나은 조건이 없고, 일부의 차이는 의미를 두기에는 너무 작습니다.",
        ),
        answers.WORSE: ("더 나쁨", "모든 조건이 기준보다 나쁩니다."),
        answers.HOLDS: (
            "성립함",
            "발표된 결과는 없고, 조건마다 점검한 것이 모두 성립합니다.",
        ),
        answers.MEASURED: ("측정함", "조건이 하나이고, 비교한 것이 없습니다."),
        answers.CHECK_FAILED: (
            "점검 실패",
            "있어야 할 것이 나오지 않아, 아무 결론도 내리지 않습니다.",
        ),
        INCOMPLETE: (
            "미완료",
            "빠진 실행이 있거나, 조정한 값이 시도한 범위의 끝에 있습니다.",
        ),
    },
    short={
        REPRODUCED: "재현됨",
        NOT_REPRODUCED: "재현되지 않음",
        UNDERPOWERED: "판단 불가",
        INCOMPLETE: "미완료",
    },
    check={NOT_REPRODUCED: "점검 실패", UNDERPOWERED: "점검 미결"},
    reproduced="{1}개 중 {0}개 재현",
    opposite="← 반대",
    same="발표된 대로 →",
    axis="관심 있는 최소 효과를 1로 한 크기",
    key=(
        "여기서 잰 효과와 95 % 신뢰 구간",
        "논문에 발표된 효과",
        "발표된 대로라면 구간이 놓일 자리",
    ),
    published="발표값 {}",
    small="관심 있는 최소 효과 ±{}보다 작음",
    expected="기대 {}~{}",
    seen="검출할 수 있는 최소 {}",
    tally="연구 {1}개의 결과 {0}개: {2}",
    reservations="{}개는 실행이 있은 뒤에 연구를 고쳐 탐색적이고, {}개에는 두 버전의 "
    "코드로 실행한 것이 섞여 있으며, 무엇인지는 각 페이지에 있습니다",
    exploratory="{} (탐색적)",
    other="{} (답: {})",
    kept="답이 되는 결과 곁에 다른 결과 {}개를 남겨 둡니다",
    arm="이 연구의 조건 {}",
)
LANGUAGES = (ENGLISH, KOREAN)
