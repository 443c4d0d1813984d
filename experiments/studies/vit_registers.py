"""What do learned tokens beside the patches, which no head reads, do to accuracy?

Darcet et al. 2024, arXiv:2309.16588: large models that were trained for long keep what
they know of an image in patches of little content, whose states grow ten times as long;
with registers they do not. Accuracy on ImageNet, without and with four (table 2): 84.7
and 84.7 (DeiT-III), 78.2 and 78.1 (OpenCLIP), 84.3 and 84.8 (DINOv2).
"""

from experiments.scales import CIFAR10, DIGITS
from experiments.study import Study, axis, equivalent, reported


def get_study(scale="cpu"):
    return Study(
        **{"cpu": DIGITS, "gpu": CIFAR10}[scale],
        arms=axis("model.registers", (0, 1, 4, 8)),
        baseline="0",
        expect=(reported(equivalent("4", "0", "accuracy stays"), 0.0),),  # DeiT-III
        caveat="accuracy alone: long states of patches appear in large models",
    )
