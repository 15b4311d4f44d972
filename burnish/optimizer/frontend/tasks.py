"""Tasks: what a model with a head is for, under the names that the hub uses."""

from __future__ import annotations

from dataclasses import dataclass

from burnish.optimizer.errors import UsageError

CACHED = "decoder"
PAIR = "encoder and decoder"


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        name: the hub's.
        loader: the class of Transformers that loads models for it.
        mapping: the table of Transformers that says which classes are for it.
        outputs: what the model gives, by the names of its fields.
        kind: `CACHED` for a decoder with its caches, `PAIR` for an encoder and a decoder of their
            own, empty for one graph that runs once.
    """

    name: str
    loader: str
    mapping: str
    outputs: tuple[str, ...]
    kind: str = ""


TASKS = {
    task.name: task
    for task in (
        Task("text-generation", "AutoModelForCausalLM", "CAUSAL_LM", ("logits",), CACHED),
        Task(
            "text2text-generation", "AutoModelForSeq2SeqLM", "SEQ_TO_SEQ_CAUSAL_LM", ("logits",),
            PAIR,
        ),
        Task(
            "automatic-speech-recognition", "AutoModelForSpeechSeq2Seq", "SPEECH_SEQ_2_SEQ",
            ("logits",), PAIR,
        ),
        Task("fill-mask", "AutoModelForMaskedLM", "MASKED_LM", ("logits",)),
        Task(
            "text-classification", "AutoModelForSequenceClassification",
            "SEQUENCE_CLASSIFICATION", ("logits",),
        ),
        Task(
            "token-classification", "AutoModelForTokenClassification", "TOKEN_CLASSIFICATION",
            ("logits",),
        ),
        Task(
            "question-answering", "AutoModelForQuestionAnswering", "QUESTION_ANSWERING",
            ("start_logits", "end_logits"),
        ),
        Task(
            "image-classification", "AutoModelForImageClassification", "IMAGE_CLASSIFICATION",
            ("logits",),
        ),
        Task(
            "zero-shot-image-classification", "AutoModelForZeroShotImageClassification",
            "ZERO_SHOT_IMAGE_CLASSIFICATION",
            ("logits_per_image", "logits_per_text", "text_embeds", "image_embeds"),
        ),
        Task("ctc", "AutoModelForCTC", "CTC", ("logits",)),
        Task(
            "audio-classification", "AutoModelForAudioClassification", "AUDIO_CLASSIFICATION",
            ("logits",),
        ),
        Task("feature-extraction", "AutoModel", "", ("last_hidden_state",)),
    )
}  # fmt: skip
"""By name; a class that is in the tables of several is for the first."""

ALIASES = {
    "embeddings": "feature-extraction",
    "sentence-similarity": "feature-extraction",
    "ner": "token-classification",
    "sentiment-analysis": "text-classification",
    "translation": "text2text-generation",
    "summarization": "text2text-generation",
    "chat": "text-generation",
}
"""Other words for them."""

BARE = "feature-extraction"
"""The task of a model without a head."""


def named(name: str) -> Task:
    """The task of that name.

    Raises:
        UsageError: there is none.
    """
    task = TASKS.get(ALIASES.get(name, name))
    if task is None:
        raise UsageError(f"--task {name} is not known", hint=", ".join([*TASKS, *ALIASES]))
    return task
