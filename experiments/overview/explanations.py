"""Explanations: why findings are not those of their sources, and what shows it."""

from typing import NamedTuple


class Explanation(NamedTuple):
    """Of one entry.

    Attributes:
        english, korean: two sentences.
        evidence: entries that support them, as ``entries.name_of`` names them, or
            pages below ``docs``.
        arm: of the study itself, where that is what shows it; none that a finding
            compares which was not reproduced.
    """

    english: str
    korean: str
    evidence: tuple[str, ...]
    arm: str = ""


# entry, as ``entries.name_of`` names it -> the one that answers in its place, as its
# task can show the effect, each arm has its own rate, or runs are longer
ANSWERED = {
    "activation": "activation:text",
    "banded_attention": "banded_attention:rotary",
    "diffusion_conditioning": "diffusion_conditioning:longer",
    "dropout_smoothing": "dropout_smoothing:tuned",
    "few_shot": "few_shot:more",
    "flamingo_gate": "flamingo_gate:tuned",
    "head_size": "head_size:nearest",
    "heads": "heads:relations",
    "length_extrapolation": "length_extrapolation:text",
    "norm_kind": "norm_kind:tuned",
    "patch_size": "patch_size:longer",
    "positions": "positions:tuned",
    "prediction_target": "prediction_target:longer",
    "qformer_masks": "qformer_masks:tuned",
    "recurrent_score": "recurrent_score:tuned",
    "residual": "residual:tuned",
    "score": "score:tuned",
    "sentence_objective": "sentence_objective:counting",
    "size": "size:text",
}

# entry -> why it is not as published
EXPLANATIONS = {
    "banded_attention": Explanation(
        "A model this small does not learn from a table of positions which words are "
        "near, and a narrow band tells it. With rotary positions, which tell it as "
        "well, the narrow band's lead of 0.14 nats is gone.",
        "이렇게 작은 모델은 위치 표에서 어느 낱말이 가까운지 배우지 못하는데, 좁은 "
        "띠가 그것을 알려 줍니다. 마찬가지로 가까움을 알려 주는 회전 위치를 쓰면 "
        "좁은 띠가 앞서던 0.14나트가 사라집니다.",
        ("banded_attention:rotary",),
    ),
    "lm_norm_positions": Explanation(
        "So small a model does not learn by itself which word stands just before "
        "another. Where its first layer sees no more than a word and that before it, "
        "no positions are as good as learned ones, each at its best rate 3.655 and "
        "3.656 nats.",
        "이렇게 작은 모델은 어느 낱말이 바로 앞에 있는지 스스로 배우지 못합니다. 첫 "
        "층이 한 낱말과 그 앞 낱말만 보게 하면, 저마다 가장 좋은 학습률에서 위치가 "
        "없어도 3.655나트로 배운 위치의 3.656나트와 같습니다.",
        ("lm_norm_positions:neighbours",),
    ),
    "lm_norm_positions:deep": Explanation(
        "Depth does not teach a model this small which word stands just before "
        "another: six layers, too, lose 0.144 nats without positions. Two layers of "
        "which the first sees no more than a word and that before it have 3.655 nats "
        "without positions, where six have 3.755 with learned ones.",
        "이렇게 작은 모델은 깊어도 어느 낱말이 바로 앞에 있는지 배우지 못해, 여섯 층도 "
        "위치가 없으면 0.144나트를 잃습니다. 두 층뿐이어도 첫 층이 한 낱말과 그 앞 "
        "낱말만 보면 위치 없이 3.655나트로, 배운 위치를 쓰는 여섯 층의 3.755나트보다 "
        "낫습니다.",
        ("lm_norm_positions:neighbours",),
    ),
    "predecessors:multi30k": Explanation(
        "Two passes over the captions are few for a Transformer: a larger one, from "
        "English to German, has 6.7 BLEU after 500 steps, 24.5 after 1,500 and 38.7 "
        "after 7,500. So the order of models after two passes is contradicted, and "
        "nothing is said of models that are trained to the end.",
        "트랜스포머에게 캡션을 두 번 훑는 것은 적습니다: 더 큰 모델이 영어에서 "
        "독일어로 옮길 때 500 스텝에 6.7, 1,500 스텝에 24.5, 7,500 스텝에 38.7 "
        "BLEU입니다. 그러므로 어긋난 것은 두 번 훑은 뒤의 순서이며, 끝까지 학습한 "
        "모델에 대해서는 아무것도 말하지 않습니다.",
        ("multi30k.md",),
    ),
    "head_size": Explanation(
        "Numerals are spelled by rule, and their few words are told apart by two "
        "numbers as well as by sixteen. Where a query has to find the nearest of eight "
        "vectors of 16 entries, keys of 2, 4 and 8 entries are worse, as published.",
        "수사는 규칙대로 적히고 낱말이 몇 개 안 되어, 숫자 두 개로도 열여섯 개만큼 "
        "잘 구별됩니다. 쿼리가 16차원 벡터 여덟 개 가운데 가장 가까운 것을 찾아야 "
        "하는 과제에서는 2, 4, 8차원의 키가 발표된 대로 더 나쁩니다.",
        ("head_size:nearest",),
    ),
    "augmentation": Explanation(
        "RandAugment moves and shears, and digits of 8 x 8 pixels that are moved by a "
        "pixel lose what tells them apart. To shift them alone costs 12 points of "
        "accuracy, RandAugment alone 4, as much as with mixup, which alone costs "
        "nothing.",
        "RandAugment는 그림을 옮기고 기울이는데, 8 x 8 픽셀의 숫자는 한 픽셀만 옮겨도 "
        "구별에 필요한 것을 잃습니다. 옮기기만 해도 정확도가 12점 떨어지고, "
        "RandAugment만 쓰면 mixup과 함께 쓸 때만큼인 4점이 떨어지며, mixup만 쓰면 "
        "떨어지지 않습니다.",
        ("augmentation",),
        arm="shift",
    ),
    "flamingo_gate": Explanation(
        "What costs here is not the gate but its start at zero, in runs of 400 steps. "
        "A gate that starts at one is about as good as none, 0.160 and 0.152 nats, "
        "where one that starts at zero has 0.305.",
        "여기서 손해를 보는 까닭은 게이트가 아니라, 400 스텝의 학습을 0에서 "
        "시작하는 데 있습니다. 1에서 시작하는 게이트는 0.160나트로 게이트가 없을 때의 "
        "0.152나트와 비슷하지만, 0에서 시작하는 게이트는 0.305나트입니다.",
        ("flamingo_gate",),
        arm="tanh_one",
    ),
    "flamingo_gate:tuned": Explanation(
        "At one rate for all arms gates from zero cost 0.153 nats, at the best rate of "
        "each 0.013, as they want a larger one. What is left comes of their start, as "
        "gates from one have 0.131 nats, where there are 0.137 without gates.",
        "모든 조건에 한 학습률을 쓰면 0에서 시작하는 게이트로 0.153나트를 잃지만, "
        "저마다 가장 좋은 학습률을 쓰면 더 큰 학습률이 알맞아 0.013나트만 잃습니다. "
        "남은 손해는 시작 값에서 오는데, 1에서 시작하는 게이트는 0.131나트로 게이트가 "
        "없을 때의 0.137나트보다 낮습니다.",
        ("flamingo_gate:tuned", "flamingo_gate"),
        arm="tanh_one",
    ),
    "pretraining:gpt1": Explanation(
        "What models this small carry over is how letters make words, and word pieces "
        "tell that by themselves: in one run each, read by the mean of its states, "
        "BERT gains 0.08 of accuracy with 80 pieces, 0.04 with 300, and loses 0.01 "
        "with 4,000. GPT-1 reads word pieces here, too.",
        "이렇게 작은 모델이 넘겨주는 것은 글자가 낱말을 이루는 방식인데, 단어 조각은 "
        "그것을 이미 말해 줍니다: 한 번씩 실행하여 상태의 평균을 읽으면, BERT는 조각이 "
        "80개일 때 정확도 0.08, 300개일 때 0.04를 얻고, 4,000개일 때는 0.01을 "
        "잃습니다. 여기서 GPT-1도 단어 조각을 읽습니다.",
        ("pretraining.md",),
    ),
    "resampler": Explanation(
        "It is not the other resamplers that are good here: to have none is better "
        "than the perceiver, too, 0.234 nats for 0.412 after 600 steps. The language "
        "model then reads all 64 patches, where the perceiver leaves it 32 latents, "
        "which have to be learnt first.",
        "여기서는 다른 리샘플러가 좋은 것이 아닙니다: 600 스텝 뒤에는 리샘플러가 "
        "없어도 0.234나트로, 퍼시버의 0.412나트보다 낫습니다. 그때 언어 모델은 패치 "
        "64개를 모두 읽지만, 퍼시버를 쓰면 먼저 배워야 하는 잠재 벡터 32개만 "
        "읽습니다.",
        ("resampler",),
        arm="none",
    ),
    "resolution": Explanation(
        "Fine-tuning on the larger images lasts 50 steps, after which a model from "
        "scratch is right about 38 of 100 digits, and one with interpolated positions "
        "about 79. So a gain within so few steps is contradicted, and nothing is said "
        "of longer fine-tuning.",
        "큰 이미지로 하는 미세 조정은 50 스텝뿐이고, 그동안 처음부터 배운 모델은 숫자 "
        "100개 가운데 38개쯤을, 위치를 보간한 모델은 79개쯤을 맞힙니다. 그러므로 "
        "어긋난 것은 그렇게 짧은 동안의 이득이며, 더 긴 미세 조정에 대해서는 아무것도 "
        "말하지 않습니다.",
        ("resolution",),
        arm="untrained",
    ),
    "teacher_forcing": Explanation(
        "There is nothing to gain: with half of its own tokens, too, a model writes "
        "98.8 of 100 numbers that it has not seen without an error. A number has one "
        "name, where a caption may be said in many ways; whether that is why a model "
        "does without the reference here was not measured.",
        "얻을 것이 없습니다: 절반을 자기 토큰으로 읽어도 모델은 본 적 없는 수 100개 "
        "가운데 98.8개를 틀림없이 적습니다. 캡션은 여러 가지로 말할 수 있지만 수의 "
        "이름은 하나뿐인데, 여기서 참조 없이도 되는 까닭이 그것인지는 재지 "
        "않았습니다.",
        ("teacher_forcing",),
        arm="0.5",
    ),
    "vit_positions": Explanation(
        "It is not sines and cosines that cost here, but their split by row and "
        "column: those of the number of a patch are as good as the table, 0.969 and "
        "0.971 of accuracy. Whether wider models lose by it was not measured.",
        "여기서 손해를 보는 까닭은 사인과 코사인이 아니라, 그것을 행과 열로 나누는 "
        "데 있습니다: 패치 번호의 사인과 코사인은 정확도 0.969로 표의 0.971만큼 "
        "좋습니다. 더 넓은 모델도 그만큼 잃는지는 재지 않았습니다.",
        ("vit_positions",),
        arm="sinusoidal",
    ),
    "length_extrapolation": Explanation(
        "To go on with a list of numbers a decoder has to count them, and no scheme "
        "does so beyond the three it was trained on: all lose 4.5 nats or more. On "
        "running text, where near words tell most, ALiBi is 0.35 nats better than T5's "
        "biases on rows four times as long, and these 0.31 better than sinusoids.",
        "수 목록을 이어 가려면 디코더가 수를 세어야 하는데, 학습한 세 개를 넘어서까지 "
        "그렇게 하는 방식은 없습니다: 모두 4.5나트 이상을 잃습니다. 가까운 낱말이 "
        "대부분을 알려 주는 글에서는, 네 배 긴 줄에서 ALiBi가 T5의 편향보다 0.35나트, "
        "그 편향은 사인파보다 0.31나트 더 좋습니다.",
        ("length_extrapolation:text",),
    ),
    "flamingo_frozen": Explanation(
        "Gates that start at zero slow a frozen model down, with 0.305 nats: without "
        "them it has 0.152, with gates that start at one 0.160, where a fine-tuned one "
        "has 0.098 with gates from zero. Whether that one, too, is better without them "
        "was not measured, nor what it forgets of other text.",
        "고정한 모델은 0에서 시작하는 게이트 탓에 느려 0.305나트입니다: 게이트가 "
        "없으면 0.152, 1에서 시작하면 0.160이고, 미세 조정한 모델은 0에서 시작하는 "
        "게이트로 0.098입니다. 미세 조정한 모델도 게이트가 없으면 더 나은지, 다른 글을 "
        "얼마나 잊는지는 재지 않았습니다.",
        ("flamingo_gate",),
    ),
    "multimodal_few_shot": Explanation(
        "Colours are seen, and with their usual names all answers are right; what 400 "
        "steps do not teach is to look a name up in the examples. So it makes no "
        "difference how many there are, or which images are seen.",
        "색은 보이고 원래 이름을 쓰면 답이 모두 맞지만, 예시에서 이름을 찾는 일은 400 "
        "스텝으로 배우지 못합니다. 그래서 예시가 몇 개이든, 어느 그림을 보든 차이가 "
        "없습니다.",
        ("multimodal_few_shot",),
        arm="usual_names",
    ),
    "electra_ladder": Explanation(
        "Most of the loss, 0.029 of 0.040, is there where replaced letters are only "
        "restored, and equal operations leave 1,455 steps for 2,000, as a generator is "
        "trained, too. Finding replaced letters is hard besides: after 2,000 steps of "
        "another study 8 to 14 of 100 are found.",
        "손실 0.040 가운데 0.029는 바뀐 글자를 되돌리기만 해도 생기며, 생성기도 함께 "
        "학습하므로 연산이 같으면 2,000 스텝 대신 1,455 스텝뿐입니다. 바뀐 글자를 "
        "찾기도 어려워, 다른 연구에서 2,000 스텝 뒤에 100개 가운데 8~14개를 찾습니다.",
        ("pretraining.md",),
    ),
    "recurrent_score:tuned": Explanation(
        "A plain product asks that states of decoder and encoder lie in one space, "
        "which 600 steps do not teach at any of six rates: 0.467 nats. With a matrix "
        "between them (`general`) it is 0.062, where additive scores have 0.017.",
        "곱만 쓰려면 디코더와 인코더의 상태가 한 공간에 있어야 하는데, 600 스텝으로는 "
        "여섯 학습률 어느 것에서도 배우지 못해 0.467나트입니다. 그 사이에 행렬을 "
        "두면(`general`) 0.062나트이고, 덧셈 점수는 0.017나트입니다.",
        ("recurrent_score:tuned",),
        arm="general",
    ),
    "sentence_objective": Explanation(
        "In Python's documentation so small a model does not even learn to tell the "
        "next sentence, 57.8 of 100 pairs. Where each document has one topic and "
        "counts on, all four findings are there: the next sentence is told in 87.5 of "
        "100 pairs, order in 97.6 if it was taught and in 49.8 if not.",
        "파이썬 문서에서는 이렇게 작은 모델이 다음 문장조차 가려내지 못합니다(100쌍 "
        "가운데 57.8쌍). 문서마다 주제가 하나이고 수를 이어 세는 글에서는 네 가지가 "
        "모두 나타납니다: 다음 문장은 100쌍 가운데 87.5쌍, 순서는 배웠으면 97.6쌍, "
        "배우지 않았으면 49.8쌍을 맞힙니다.",
        ("sentence_objective:counting",),
    ),
    "patch_size:longer": Explanation(
        "Small patches need time: those of one pixel are 0.010 of accuracy behind "
        "those of 4 x 4 pixels after 4,000 steps, where they were 0.086 behind after "
        "800. There is little that they could gain, as the four patches of 4 x 4 "
        "pixels already tell 99.1 of 100 digits.",
        "작은 패치는 시간이 걸립니다: 한 픽셀 패치는 4 x 4 픽셀 패치보다 800 스텝 "
        "뒤에는 정확도가 0.086, 4,000 스텝 뒤에는 0.010 낮습니다. 4 x 4 픽셀 패치 네 "
        "개로도 이미 숫자 100개 가운데 99.1개를 맞히므로 더 얻을 것이 적습니다.",
        ("patch_size",),
    ),
    "prediction_target": Explanation(
        "After 2,000 steps a model that predicts velocity leads by a Fréchet distance "
        "of 6.56, as the others have learnt less. After 10,000 it leads by 0.23, and "
        "all three draw alike, within half the distance of held-out digits, 0.84.",
        "2,000 스텝 뒤에는 다른 모델이 덜 배워서, 속도를 예측하는 모델이 프레셰 거리로 "
        "6.56 앞섭니다. 10,000 스텝 뒤에는 0.23만 앞서며, 셋의 차이는 본 적 없는 "
        "숫자의 거리 0.84의 절반이 안 됩니다.",
        ("prediction_target:longer", "digits.md"),
    ),
    "diffusion_conditioning": Explanation(
        "2,000 steps are too few: after 10,000 adaLN draws better than cross-attention "
        "by a Fréchet distance of 0.149, and adaLN-Zero than adaLN by 0.121, as "
        "published. Of cross-attention and tokens in context, 0.508 apart after 2,000 "
        "steps, these runs then cannot tell which draws better.",
        "2,000 스텝은 너무 적습니다: 10,000 스텝 뒤에는 발표된 대로 adaLN이 교차 "
        "어텐션보다 프레셰 거리로 0.149, adaLN-Zero가 adaLN보다 0.121 더 낫습니다. "
        "2,000 스텝 뒤에 0.508 차이가 나던 교차 어텐션과 문맥 속 토큰은 그때는 어느 "
        "쪽이 나은지 알 수 없습니다.",
        ("diffusion_conditioning:longer",),
    ),
    "size": Explanation(
        "Numbers are spelled by rule, and feed-forward layers a quarter as wide learn "
        "the rule as well, 0.003 nats apart. On running text, at the best rate of each "
        "model, they cost 0.095 nats, one layer for two 0.067 and half the width "
        "0.254, as published.",
        "수는 규칙대로 적으므로, 순방향 층의 너비가 4분의 1이어도 규칙을 그만큼 배워 "
        "차이가 0.003나트입니다. 글에서는 모델마다 가장 좋은 학습률로도 그 때문에 "
        "0.095나트, 층이 둘 대신 하나면 0.067나트, 너비가 절반이면 0.254나트를 잃어 "
        "발표된 대로입니다.",
        ("size:text",),
    ),
    "activation:text": Explanation(
        "Gated units gain little here, GEGLU 0.011 nats and SwiGLU 0.003, though they "
        "have half as many parameters more and every arm has its best rate. It is not "
        "that feed-forward layers do not matter, as a quarter of their width costs "
        "0.095 nats; whether gates gain in larger models was not measured.",
        "여기서는 활성화마다 가장 좋은 학습률을 쓰고 게이트가 매개변수를 절반 더 "
        "가져도 얻는 것이 적어, GEGLU는 0.011, SwiGLU는 0.003나트입니다. 순방향 층이 "
        "중요하지 않은 것은 아니어서 너비를 4분의 1로 줄이면 0.095나트를 잃으며, 더 큰 "
        "모델에서 게이트가 나은지는 재지 않았습니다.",
        ("activation:text", "size:text"),
        arm="geglu",
    ),
}
