"""What is to be done for each member of a zoo, and what makes it the same work as earlier."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from burnish import __version__
from burnish.driver import checkpoints
from burnish.driver.recipe_options import fields_of
from burnish.driver.request import Request
from burnish.driver.zoo.members import Member, merged
from burnish.driver.zoo.needs import needed
from burnish.driver.zoo.survey import Facts, digest_of, error_of
from burnish.optimizer import tuner
from burnish.optimizer.errors import BurnishError, StorageError, UsageError, reason_of
from burnish.runtimes.onnxruntime import installed
from burnish.runtimes.providers import AUTO, CANDIDATES, versions

EXPORTERS = ("torch", "transformers")
"""What a checkpoint's graphs depend on besides."""

READ = ("data", "tokenizer", "corpus", "keep_tokens")
"""Fields of a request that name what it reads, whose content counts in their place."""

ELSEWHERE = (
    "model", "output", "json", "html", "turn", "vocabulary", "tuning", "time_limit", "dry_run",
)  # fmt: skip
"""Fields on which the result does not depend, or of which the zoo takes care."""


@dataclass(frozen=True)
class Job:
    """One member's work.

    Attributes:
        index: place in the zoo.
        member: whose it is.
        options: by their names at the prompt, those of the command included.
        request: what is compiled; the output is still open.
        target: where the result goes, below the zoo's output.
        facts: what looking at it gave; see `survey`.
        need: bytes of memory.
        key: the same for the same work: content, options, versions and processor.
        error: why there is nothing to do.
    """

    index: int
    member: Member
    options: Mapping[str, Any]
    request: Request
    target: Path
    facts: Facts
    need: int = 0
    key: str = ""
    error: BurnishError | None = None


def jobs_for(
    members: Sequence[Member],
    facts: Sequence[Facts],
    given: Mapping[str, Any],
    *,
    allow_pickle: bool,
    trust_code: bool,
) -> list[Job]:
    """A job for each member; `given` are the command's options, which win.

    Raises:
        UsageError: two members would be written to one place.
    """
    jobs = []
    for index, (member, found) in enumerate(zip(members, facts, strict=True)):
        options = merged(member.options, given)
        request = Request(
            str(member.path),
            **fields_of(options),
            allow_pickle=allow_pickle,
            trust_remote_code=trust_code,
        )
        job = Job(index, member, options, request, _target(member, request), found)
        jobs.append(_filled(job))
    taken: dict[Path, Job] = {}
    for job in jobs:
        if (other := taken.setdefault(job.target, job)) is not job:
            raise UsageError(
                f"{other.member.path} and {job.member.path} would both become {job.target}",
                hint="paths below the zoo's folder",
            )
    return jobs


def _filled(job: Job) -> Job:
    """The job with what it needs and what it is known by."""
    if (error := error_of(job.facts)) is not None:
        return replace(job, error=error)
    try:
        need = needed(job.request, job.facts)
        request = replace(job.request, memory_limit=need)
        return replace(job, request=request, need=need, key=_key(request, job.facts))
    except OSError as unread:
        reason = f"{unread.filename or 'a file of its options'} cannot be read: {reason_of(unread)}"
        return replace(job, error=StorageError(reason))


def _target(member: Member, request: Request) -> Path:
    """Where the result goes: named as the main job names it."""
    target = checkpoints.folder_for(request) if member.path.is_dir() else request.target
    return Path(member.name).parent / target.name


def _key(request: Request, facts: Facts) -> str:
    """The digest of everything that the result depends on, but for the tuning record."""
    fields = {name: value for name, value in asdict(request).items() if name not in ELSEWHERE}
    for name in READ:
        if fields[name] is not None:
            fields[name] = digest_of(Path(fields[name]))
    providers = CANDIDATES if request.provider == AUTO else (request.provider,)
    everything = {
        "burnish": __version__,
        "content": facts["sha256"],
        "beside": facts["beside"],
        "options": fields,
        "tuning": str(Path(request.tuning).absolute()) if request.tuning else None,
        "versions": [versions(name) for name in providers],
        "exporters": installed(EXPORTERS) if facts["checkpoint"] else {},
        "python": platform.python_version(),
        "processor": tuner.processor()[0],
        "threads": request.threads_used,
    }
    text = json.dumps(everything, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
