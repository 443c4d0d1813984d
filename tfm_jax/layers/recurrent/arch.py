"""What a recurrent sequence-to-sequence model is made of."""

import dataclasses

from tfm_jax.config import Above, check_numbers, knob
from tfm_jax.layers.arch import Execution
from tfm_jax.layers.linear import PLAIN_INITS
from tfm_jax.layers.recurrent.alignment import ALIGNMENTS
from tfm_jax.layers.recurrent.bridge import BOTH, BRIDGES
from tfm_jax.layers.recurrent.decoder import READOUTS
from tfm_jax.layers.recurrent.layer import DROPOUT_MASKS, RECURRENT_INITS
from tfm_jax.ops.recurrence import CELLS

QUERIES = ("previous", "current")
CONTEXTS = ("first_step", "every_step")
_ATTENDING = tuple(name for name, row in ALIGNMENTS.items() if row)
_ALIGNING = tuple(n for n in _ATTENDING if ALIGNMENTS[n].maps_key)
_MAPPING = tuple(name for name, row in READOUTS.items() if row.maps)


@dataclasses.dataclass(frozen=True)
class RecurrentArch(
    Execution,
    choices={
        "layout": ("unrolled",),
        "remat": ("none", "full", "dots"),
        "attention": ("auto", "xla"),
    },
):
    """Defaults are Bahdanau et al. 2015 with the readout of Luong et al. 2015."""

    cell: str = knob("gru", "recurrent unit", choices=CELLS)
    width: int = knob(512, "units of a layer and direction", low=1, high=2**20)
    embedding_width: int = knob(256, "of token vectors", low=1, high=2**20)
    encoder_depth: int = knob(1, "layers", low=1, high=1_000)
    decoder_depth: int = knob(1, "layers", low=1, high=1_000)
    bidirectional: bool = knob(True, "the encoder reads both ways")
    source_order: str = knob(
        "forward", "in which one direction reads", choices=("forward", "reversed")
    )
    score: str = knob(
        "additive", "logit of a decoder's and an encoder's state", choices=ALIGNMENTS
    )
    alignment_width: int = knob(
        0, "of additive and concat scores; 0: width", low=0, high=2**20
    )
    query: str = knob("previous", "the decoder's state that attends", choices=QUERIES)
    context: str = knob(
        "first_step",
        "where a decoder without attention is given what the encoder has read",
        choices=CONTEXTS,
    )
    input_feeding: bool = knob(False, "the readout joins the next step's input")
    bridge: str = knob("tanh", "encoder's last states to the first", choices=BRIDGES)
    readout: str = knob("tanh", "what logits are a map of", choices=READOUTS)
    readout_width: int = knob(
        0, "of the readouts tanh and maxout; 0: width", low=0, high=2**20
    )
    output_bias: bool = knob(True, "a bias on the logits")
    teacher_forcing: float = knob(
        1.0,
        "probability that a training step reads the reference, not the model's own "
        "likeliest token",
        role="training",
        low=0,
        high=1,
    )
    dropout: float = knob(
        0.0, "on embeddings and between layers", role="training", low=0, below=1
    )
    dropout_mask: str = knob(
        "per_step",
        "whether the steps of a row share what is dropped",
        role="training",
        choices=DROPOUT_MASKS,
    )
    init: str = knob(
        "glorot",
        "distribution of kernels and tables",
        role="initial",
        choices=PLAIN_INITS,
    )
    recurrent_init: str = knob(
        "orthogonal", "of the maps of states", role="initial", choices=RECURRENT_INITS
    )
    forget_bias: float = knob(
        1.0, "added to the forget gates' biases", role="initial", low=-100, high=100
    )

    READ_WITH = {
        ("bidirectional", (False,)): ("source_order",),
        ("score", _ALIGNING): ("alignment_width",),
        ("score", _ATTENDING): ("query",),
        ("score", ("none",)): ("context",),
        ("readout", _MAPPING): ("readout_width",),
        ("dropout", Above(0.0)): ("dropout_mask",),
        ("cell", ("lstm",)): ("forget_bias",),
    }

    def __post_init__(self):
        check_numbers(self, "model")
        if self.score == "dot" and self.width != self.memory_width:
            raise ValueError(
                f"model.score='dot' needs model.width={self.width} of both sides, not "
                f"an encoder's {self.memory_width}; set model.bidirectional=false or "
                f"choose from ({', '.join(n for n in _ATTENDING if n != 'dot')})"
            )
        if self.input_feeding and self.readout not in _MAPPING:
            raise ValueError(
                f"model.input_feeding=true has nothing to feed with model.readout="
                f"{self.readout!r}; choose from ({', '.join(_MAPPING)})"
            )
        reads = BRIDGES[self.bridge].reads
        if reads and not set(reads) & set(self.directions):
            raise ValueError(
                f"model.bridge={self.bridge!r} reads the encoder's backward states, "
                "which there are not; set model.bidirectional=true or "
                "model.source_order='reversed'"
            )
        if self.bridge == "copy" and (
            self.bidirectional or self.encoder_depth < self.decoder_depth
        ):
            raise ValueError(
                "model.bridge='copy' needs model.bidirectional=false and a "
                f"model.encoder_depth={self.encoder_depth} of at least "
                f"model.decoder_depth={self.decoder_depth}; choose from "
                f"({', '.join(n for n in BRIDGES if n != 'copy')})"
            )

    @property
    def attends(self) -> bool:
        return ALIGNMENTS[self.score] is not None

    @property
    def directions(self) -> tuple[str, ...]:
        """Of the encoder, in the order in which their outputs are joined."""
        if self.bidirectional:
            return BOTH
        return ("backward",) if self.source_order == "reversed" else ("forward",)

    @property
    def memory_width(self) -> int:
        """D, of what the encoder has read."""
        return self.width * len(self.directions)

    @property
    def alignment_size(self) -> int:
        """Of queries and keys."""
        if self.score in _ALIGNING:
            return self.alignment_width or self.width
        return self.memory_width

    @property
    def has_context(self) -> bool:
        """Whether steps read what was seen of the source."""
        return self.attends or self.context == "every_step"

    @property
    def joins_context(self) -> bool:
        """Whether it joins the input of a step."""
        return self.has_context and not (self.attends and self.query == "current")

    @property
    def readout_inputs(self) -> int:
        """Numbers that a readout is made of."""
        return (
            self.width
            + self.memory_width * self.has_context
            + self.embedding_width * READOUTS[self.readout].embedding
        )

    @property
    def readout_size(self) -> int:
        """R, of the readout."""
        if READOUTS[self.readout].maps:
            return self.readout_width or self.width
        return self.readout_inputs

    @property
    def joined_width(self) -> int:
        """Numbers that join the embedding in the first layer's input."""
        fed = self.readout_size * self.input_feeding
        return self.memory_width * self.joins_context + fed
