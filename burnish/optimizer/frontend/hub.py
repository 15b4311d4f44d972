"""Hub ids: the folder of a model that lies in the local cache, or is fetched into it.

What the library of the hub does is kept: its cache, its tokens, its offline mode
(`HF_HUB_OFFLINE`), its endpoint.
"""

from __future__ import annotations

import re
from pathlib import Path

from burnish.optimizer.errors import StorageError, UsageError, first_line

ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
"""`organization/name`, or the bare name of the oldest models."""

WANTED = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "*.tiktoken"]
PICKLES = ["pytorch_model*.bin"]
CODE = ["*.py"]


def is_id(model: str) -> bool:
    """Whether a name that no file has may be that of a model on the hub."""
    return ID.fullmatch(model) is not None and not model.lower().endswith((".onnx", ".json"))


def folder_of(
    model: str, *, allow_pickle: bool, trust_code: bool, revision: str | None = None
) -> Path:
    """The folder of a hub id; fetched where the cache lacks it and the network may be used.

    Raises:
        UsageError: the extra is not installed, or the hub knows no such model.
        StorageError: neither the cache nor the network has it.
    """
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError:
        raise lacks_extra() from None
    patterns = WANTED + PICKLES * allow_pickle + CODE * trust_code
    kept = [] if allow_pickle else PICKLES
    try:
        found = huggingface_hub.snapshot_download(
            model, revision=revision, allow_patterns=patterns, ignore_patterns=kept or None
        )
    except errors.LocalEntryNotFoundError:
        how = "offline mode is on" if huggingface_hub.constants.HF_HUB_OFFLINE else "no connection"
        raise StorageError(
            f"no such file or folder; as a hub id it is not in the local cache either ({how})",
            hint="the path of a checkpoint, or a connection to the hub",
        ) from None
    except errors.GatedRepoError:
        raise UsageError(
            "the hub gives this model only to those who have accepted its terms",
            hint="accepting them there, and HF_TOKEN",
        ) from None
    except errors.RepositoryNotFoundError:
        raise UsageError(
            "there is no such file or folder, nor such a model on the hub (or it is private)",
            hint="another name, or HF_TOKEN",
        ) from None
    except (errors.HfHubHTTPError, errors.HFValidationError, OSError) as error:
        raise StorageError(f"the hub did not give it: {first_line(error)}") from None
    return Path(found)


def lacks_extra() -> UsageError:
    """What to say where the packages for checkpoints are not installed."""
    return UsageError(
        "checkpoints need torch and transformers, which are not installed",
        hint="pip install 'burnish[export]', or an .onnx file",
    )
