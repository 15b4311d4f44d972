"""Running the tagger's ONNX file with ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from tagger_data import LABELS, encode_words, first_pieces, length_batches, pad_batch


def open_model(path: Path, threads: int = 0) -> ort.InferenceSession:
    """Open a model on the CPU.

    Args:
        path: the ONNX file.
        threads: threads inside an operator; 0 leaves the choice to ONNX Runtime.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def best_labels(
    session: ort.InferenceSession, sequences: Sequence[Sequence[int]]
) -> NDArray[np.int64]:
    """Return the best label id of each piece, int64 [batch, sequence], padding included."""
    ids, mask = pad_batch(sequences)
    wanted = {value.name for value in session.get_inputs()}
    feeds = {"input_ids": ids, "attention_mask": mask}
    logits = session.run(["logits"], {name: feeds[name] for name in feeds if name in wanted})[0]
    best: NDArray[np.int64] = np.asarray(logits).argmax(axis=2)
    return best


def tag_encodings(
    session: ort.InferenceSession,
    encodings: Sequence[Encoding],
    counts: Sequence[int],
    batch_size: int = 32,
) -> list[tuple[str, ...]]:
    """Label the words of encoded sentences by the first piece of each.

    Args:
        session: an open model.
        encodings: one encoding a sentence, without padding.
        counts: number of words of each sentence; words without a piece are labelled O.
        batch_size: sentences a batch; those of similar length go together.
    """
    answers: list[tuple[str, ...]] = [()] * len(encodings)
    for batch in length_batches([len(encoding) for encoding in encodings], batch_size):
        best = best_labels(session, [encodings[index].ids for index in batch])
        for row, index in enumerate(batch):
            first = first_pieces(encodings[index])
            answers[index] = tuple(
                LABELS[best[row, first[word]]] if word in first else "O"
                for word in range(counts[index])
            )
    return answers


def tag_words(
    session: ort.InferenceSession, tokenizer: Tokenizer, sentences: Sequence[Sequence[str]]
) -> list[tuple[str, ...]]:
    """Label sentences that are already split into words, one label a word."""
    counts = [len(words) for words in sentences]
    return tag_encodings(session, encode_words(tokenizer, sentences), counts)
