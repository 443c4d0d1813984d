"""Questions: the eleven that the studies answer, and which study answers which."""

from typing import NamedTuple


class Question(NamedTuple):
    """A group of studies, in both languages."""

    english: str
    korean: str


QUESTIONS = (
    Question("Seed noise", "시드에 따른 변동"),
    Question("Positions", "위치 정보"),
    Question("Post-LN or Pre-LN", "Post-LN과 Pre-LN"),
    Question("Scores of attention and their scale", "어텐션 점수와 그 스케일"),
    Question("Masks", "마스크"),
    Question("Heads, sizes, dropout", "헤드 수, 모델 크기, 드롭아웃"),
    Question(
        "Activations, norms, residuals, embeddings",
        "활성화 함수, 정규화, 잔차 연결, 임베딩",
    ),
    Question("Recurrence, convolution, attention", "순환, 합성곱, 어텐션"),
    Question(
        "Pre-training: objectives, shared parameters",
        "사전 학습: 목적 함수와 파라미터 공유",
    ),
    Question("Size and examples in the prompt", "모델 크기와 프롬프트의 예시"),
    Question("Images, images with text, diffusion", "이미지, 이미지와 글, 디퓨전"),
)

# study -> number of its question, what it asks in Korean ("": as in English)
STUDIES = {
    "seed_noise": (0, "시드만 바꾸면 결과가 얼마나 달라지는가?"),
    "positions": (
        1,
        "인코더-디코더에 단어의 순서를 알려 주는지, 어떻게 알려 주는지가 중요한가?",
    ),
    "length_extrapolation": (
        1,
        "학습 때보다 긴 문장에서도 통하는 위치 정보는 무엇인가?",
    ),
    "lm_norm_positions": (
        1,
        "인과적 언어 모델에 위치를 알려 주어야 하는가, 그것이 정규화에 따라 다른가?",
    ),
    "norm_gradients": (
        2,
        "학습 전, 초기 상태의 기울기는 깊이에 따라 달라지는가?",
    ),
    "warmup": (2, "Pre-LN과 달리 Post-LN에는 학습률 웜업이 필요한가?"),
    "score": (3, "어떤 점수 함수가 가장 잘 학습되고, 비용은 얼마인가?"),
    "score_scale": (3, "내적을 왜 키 크기의 제곱근으로 나누는가?"),
    "recurrent_score": (
        3,
        "순환 모델에는 두 상태의 어떤 점수가 알맞고, 없는 것보다 나은가?",
    ),
    "mask_style": (
        4,
        "마스크를 소프트맥스 앞이 아니라 뒤에서 가중치에 적용해도 되는가?",
    ),
    "banded_attention": (
        4,
        "모든 층, 또는 한 층 걸러 띠 모양 어텐션을 쓰면 언어 모델은 무엇을 잃는가?",
    ),
    "heads": (5, "전체 크기가 같다면 어텐션 헤드는 몇 개가 좋은가?"),
    "head_size": (5, "쿼리와 키는 얼마나 커야 하는가?"),
    "size": (5, "모델이 클수록 좋은가?"),
    "dropout_smoothing": (5, "드롭아웃과 레이블 스무딩은 도움이 되는가?"),
    "activation": (6, "순방향 층에는 어떤 활성화 함수가 좋은가?"),
    "norm_kind": (6, "정규화에서 평균을 꼭 빼야 하는가?"),
    "residual": (6, "잔차 연결은 필요한가?"),
    "embedding": (
        6,
        "임베딩을 공유하는지, 크기를 조정하는지가 중요한가?",
    ),
    "cost_of_length": (7, "순환, 합성곱, 어텐션에서 길이의 비용은 얼마인가?"),
    "predecessors": (
        7,
        "파라미터 수가 같을 때 순환에서 자기 어텐션까지 한 걸음마다 나아지는가?",
    ),
    "source_length": (
        7,
        "길이는 원문을 기억해야 하는 모델에 해가 되고, 어텐션하는 모델에는 그렇지 "
        "않은가?",
    ),
    "mechanisms": (7, "합성 과제는 필요한 기제가 있는 모델과 없는 모델을 가려내는가?"),
    "source_reversal": (7, "원문을 거꾸로 읽으면 도움이 되는가?"),
    "teacher_forcing": (
        7,
        "디코더는 학습 중에 정답을 얼마나, 자기 출력을 얼마나 읽어야 하는가?",
    ),
    "sharing": (8, "마스크 언어 모델의 모든 층이 하나라면 무엇을 잃는가?"),
    "sentence_objective": (
        8,
        "다음 문장을 가려내는 일은 너무 쉽고, 순서를 가려내는 일은 그렇지 않은가?",
    ),
    "masking": (
        8,
        "80 % 마스크, 10 % 무작위, 10 % 그대로라는 비율은 무엇을 가져다주는가?",
    ),
    "electra_ladder": (
        8,
        "바뀐 단어 찾기는 가려진 단어 채우기보다 연산당 더 많이 가르치는가?",
    ),
    "pretraining": (8, "레이블이 적을 때 글로 하는 사전 학습은 도움이 되는가?"),
    "few_shot": (9, "언어 모델이 클수록 문맥 속 예시에서 더 많이 얻는가?"),
    "multimodal_few_shot": (
        9,
        "모델은 이미지, 질문, 답의 예시에서 낱말의 뜻을 배우는가?",
    ),
    "vit_positions": (
        10,
        "비전 트랜스포머에 패치의 위치를 알려 주어야 하는가, 방법이 중요한가?",
    ),
    "vit_pool": (
        10,
        "비전 트랜스포머는 클래스를 전용 토큰에서 읽어야 하는가, 패치에서인가?",
    ),
    "vit_registers": (
        10,
        "어떤 출력도 읽지 않는 학습된 토큰을 더하면 정확도는 어떻게 되는가?",
    ),
    "patch_size": (10, "패치가 작을수록 좋은가?"),
    "resolution": (
        10,
        "작은 이미지에서 배운 위치 정보가 큰 이미지에서도 쓸모가 있는가?",
    ),
    "augmentation": (
        10,
        "이미지가 적을 때 어떤 변형이 비전 트랜스포머를 돕는가?",
    ),
    "composition": (
        10,
        "이미지와 글의 모델은 본 적 없는 색과 모양의 짝으로 일반화하는가?",
    ),
    "flamingo_gate": (
        10,
        "교차 어텐션은 처음에 고정된 언어 모델을 그대로 두어야 하는가?",
    ),
    "flamingo_frozen": (10, "시각 언어 모델의 언어 모델은 고정해야 하는가?"),
    "cross_attention_every": (
        10,
        "언어 모델의 층 가운데 몇 개가 이미지에 어텐션해야 하는가?",
    ),
    "resampler": (
        10,
        "몇 개의 잠재 쿼리가 언어 모델에 필요한 것을 이미지에서 뽑아내는가?",
    ),
    "qformer_masks": (
        10,
        "캡션을 배우는 Q-Former에서 잘못된 마스크는 어떤 일을 일으키는가?",
    ),
    "qformer_objectives": (
        10,
        "Q-Former의 검색에서 대조 학습에 매칭과 생성을 더하면 무엇을 얻는가?",
    ),
    "qformer_queries": (10, "Q-Former에는 쿼리가 몇 개 필요한가?"),
    "noise_schedule": (
        10,
        "어떤 잡음 스케줄이 차원당 비트가 가장 적고, 가장 잘 그리는가?",
    ),
    "prediction_target": (
        10,
        "잡음 제거 모델은 잡음, 이미지, 속도 가운데 무엇을 예측해야 하는가?",
    ),
    "diffusion_attention": (
        10,
        "잡음을 제거하는 U-Net에서 어텐션은 어디에 필요한가?",
    ),
    "diffusion_conditioning": (
        10,
        "디퓨전 트랜스포머에 시간과 레이블을 어떻게 알려 주어야 하는가?",
    ),
    "guidance": (
        10,
        "가이던스는 충실도를 얼마나 높이고, 다양성을 얼마나 잃게 하는가?",
    ),
}
