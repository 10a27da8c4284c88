"""A server with OpenAI's fine-tuning API, asked with patience: models, files, jobs, events, checkpoints.

Promises: what is made once there is made once, over lost responses and kills: it is written down before and after, and looked
for before it is made again. A server that is away or busy is asked again, as late as it wishes; its no is an error in its
own words. Nothing follows a redirect. Knows the OpenAI protocol; knows no lessons and no ledger.
"""

import json
import time
from collections.abc import Callable, Iterable
from email.utils import parsedate_to_datetime
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

import openai
from openai.types import Model
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint

from storage.errors import EvenkeelError
from storage.weights import write_whole
from training.hosted_rows import Which

READ_S, UPLOAD_S = 60.0, 900.0
PATIENCE_S = 3_600.0  # of waiting for a server that is away, in one request
LONGEST_PAUSE_S, LONGEST_BACKOFF_S = 600.0, 60.0
LOOKS, LOOK_S = 3, 5.0  # at a server that shows late what it has made
LOOKED_AT = 1_000  # newest files or jobs that are looked through
MARK = "evenkeel"  # the key of our mark in a job's metadata
T = TypeVar("T")
Tell = Callable[[str], None]
Noted = Literal["mark", "train", "validation", "job"]


class NotThere(EvenkeelError):
    """The server does not know what was asked for."""


class Unreadable(Exception):
    """A reply that is not in the OpenAI protocol: a proxy's page, half a document."""


Trouble = openai.APIError | Unreadable


class Notebook:
    """What a run has begun and made at a server: a small JSON file that survives a kill at any moment."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._notes: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}

    def get(self, name: Noted) -> str:
        return self._notes.get(name, "")

    def begun(self, name: Noted) -> bool:
        return f"{name} begun" in self._notes

    def begin(self, name: Noted) -> None:
        self._write(self._notes | {f"{name} begun": "yes"})

    def keep(self, name: Noted, value: str) -> None:
        self._write(self._notes | {name: value})

    def _write(self, notes: dict[str, str]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self._path, json.dumps(notes).encode())
        self._notes = notes


class TuningApi:
    """One server. `tell` gets a sentence while it is away; `patience_s` is how long it may be."""

    def __init__(
        self,
        url: str,
        key: str,
        *,
        tell: Tell,
        wait: Callable[[float], None] = time.sleep,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.url, self.wait = url, wait
        self._tell, self._patience_s = tell, patience_s
        self._client = openai.OpenAI(
            base_url=url, api_key=key or "none", max_retries=0, timeout=READ_S,
            http_client=openai.DefaultHttpxClient(follow_redirects=False))  # fmt: skip

    def close(self) -> None:
        self._client.close()

    # What is there

    def model(self, name: str) -> Model:
        """Raises NotThere that names some of the models there are."""
        try:
            return self._asked(f"the model {name}", lambda: shaped(self._client.models.retrieve(name), "id"))
        except NotThere:
            listed = self._asked("the list of models", lambda: listing(self._client.models.list(), "id"))
        if found := next((model for model in listed if model.id == name), None):
            return found
        names = ", ".join(model.id for model in listed[:5]) or "none"
        raise NotThere(f"{self.url} has no model {name}; it has {names}. Next: correct BASE_NAME.")

    def require_tuning(self) -> None:
        """Raises EvenkeelError where the server has no fine-tuning API, or the key may not use it."""
        try:
            self._asked("the list of jobs", lambda: self._client.fine_tuning.jobs.list(limit=1))
        except NotThere:
            raise EvenkeelError(
                f"{self.url} has no fine-tuning API (/fine_tuning/jobs). Next: a BASE_URL that has it, or weights of your "
                "own as BASE_MODEL."
            ) from None

    def file_fault(self, file_id: str) -> str:
        """Why the server cannot read a file, or nothing; one that it does not show is left to the job to complain of."""
        try:
            file = self._asked(f"the file {file_id}", lambda: shaped(self._client.files.retrieve(file_id), "status"))
        except NotThere:
            return ""
        return (file.status_details or "it gave no reason") if file.status == "error" else ""

    def job(self, job_id: str) -> FineTuningJob:
        """Raises NotThere only when it stays away: a server may show late what it has made."""
        ask = self._client.fine_tuning.jobs.retrieve
        for look in range(LOOKS):
            try:
                return self._asked(f"job {job_id}", lambda: shaped(ask(job_id), "id", "status", "created_at"))
            except NotThere:
                if look < LOOKS - 1:
                    self.wait(LOOK_S)
        raise NotThere(f"job {job_id} has vanished from {self.url}. Next: start the run again.")

    def events(self, job_id: str, newest: int = LOOKED_AT) -> list[FineTuningJobEvent]:
        """The newest events, newest first; none where the server has none."""
        page = self._client.fine_tuning.jobs.list_events
        try:
            return self._asked(
                f"the events of job {job_id}",
                lambda: listing(page(job_id, limit=min(newest, 100)), "message", most=newest),
            )
        except NotThere:
            return []

    def checkpoints(self, job_id: str) -> list[FineTuningJobCheckpoint]:
        """None where the server keeps none."""
        ask = self._client.fine_tuning.jobs.checkpoints.list
        try:
            return self._asked(f"the checkpoints of job {job_id}", lambda: listing(ask(job_id), "metrics"))
        except NotThere:
            return []

    # What is made once

    def upload(self, notes: Notebook, which: Which, data: bytes) -> str:
        """The id of a file, uploaded once."""
        name = f"{notes.get('mark')}-{which}.jsonl"

        def find() -> str | None:
            known = listing(self._client.files.list(purpose="fine-tune"), "id", "filename", "bytes")
            return next((file.id for file in known if file.filename == name and file.bytes == len(data)), None)

        def create() -> str:
            file = (name, data, "application/jsonl")
            made = self._client.files.create(file=file, purpose="fine-tune", timeout=UPLOAD_S)
            return shaped(made, "id").id

        return self._once(f"the {which} file", notes, which, find, create)

    def start(self, notes: Notebook, *, model: str, hyperparameters: Any, seed: int) -> str:
        """The id of the job over the uploaded files, started once."""
        mark, train = notes.get("mark"), notes.get("train")
        body: dict[str, Any] = {
            "model": model, "training_file": train, "seed": seed, "suffix": mark, "metadata": {MARK: mark},
            "extra_headers": {"Idempotency-Key": mark},
        }  # fmt: skip
        if validation := notes.get("validation"):
            body["validation_file"] = validation

        def create() -> str:
            jobs = self._client.fine_tuning.jobs
            method: Any = {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}}
            try:
                made = jobs.create(**body, method=method)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                if "method" not in str(error):
                    raise
                made = jobs.create(**body, hyperparameters=hyperparameters)  # a server of the older form
            return str(shaped(made, "id").id)

        return self._once("the job", notes, "job", lambda: self._job_of(notes), create)

    def find_job(self, notes: Notebook) -> str:
        """The id of the job, even if it was started without our hearing of it; "" when there is none."""
        if known := notes.get("job"):
            return known
        return (self._looked_for(lambda: self._job_of(notes)) or "") if notes.begun("job") else ""

    def _job_of(self, notes: Notebook) -> str | None:
        """Told by its file, which is ours alone, or by our mark, which not every server keeps."""
        for job in listing(self._client.fine_tuning.jobs.list(limit=100), "id", "training_file"):
            if job.training_file == notes.get("train") or (job.metadata or {}).get(MARK) == notes.get("mark"):
                return job.id
        return None

    # What ends

    def cancel(self, job_id: str) -> None:
        self._asked(f"the end of job {job_id}", lambda: self._client.fine_tuning.jobs.cancel(job_id))

    def delete(self, file_id: str) -> None:
        """A file that is gone already is as good."""
        try:
            self._asked(f"the end of file {file_id}", lambda: self._client.files.delete(file_id))
        except NotThere:
            return

    # How it is asked

    def _once(
        self, what: str, notes: Notebook, name: Noted, find: Callable[[], str | None], create: Callable[[], str]
    ) -> str:
        if known := notes.get(name):
            return known
        waited, attempt = 0.0, 0
        while True:
            made = self._looked_for(find) if notes.begun(name) else None
            try:
                if made is None:
                    notes.begin(name)
                    made = _read(create)
            except (openai.APIError, Unreadable) as error:
                waited, attempt = self._pause(what, error, waited, attempt), attempt + 1
                continue
            notes.keep(name, made)
            return made

    def _looked_for(self, find: Callable[[], str | None]) -> str | None:
        for look in range(LOOKS):
            if found := self._asked("what was made before", find):
                return found
            if look < LOOKS - 1:
                self.wait(LOOK_S)
        return None

    def _asked(self, what: str, ask: Callable[[], T]) -> T:
        """What `ask` returns; for what may be asked as often as one likes. Raises EvenkeelError, NotThere."""
        waited, attempt = 0.0, 0
        while True:
            try:
                return _read(ask)
            except openai.NotFoundError as error:
                raise NotThere(f"{self.url} does not know {what} ({said(error)})") from None
            except (openai.APIError, Unreadable) as error:
                waited, attempt = self._pause(what, error, waited, attempt), attempt + 1

    def _pause(self, what: str, error: Trouble, waited: float, attempt: int) -> float:
        """Seconds waited so far, after a pause that the trouble calls for. Raises EvenkeelError for a no, or without patience."""
        trouble = f"it said {error.status_code}" if isinstance(error, openai.APIStatusError) else said(error)
        if isinstance(error, openai.APIStatusError) and not is_curable(error):
            raise EvenkeelError(f"{self.url} refused {what}: {said(error)}. Next: {next_step(error)}.") from None
        pause = pause_after(error, attempt)
        if waited + pause > self._patience_s:
            raise EvenkeelError(
                f"{self.url} could not be asked for {what} for {self._patience_s / 60:.0f} minutes: {trouble}. "
                "Next: start the run again when it is back."
            ) from None
        self._tell(f"{what}: {trouble}, asked again in {pause:.0f} s")
        self.wait(pause)
        return waited + pause


def _read(ask: Callable[[], T]) -> T:
    """What `ask` returns. The openai client stumbles over replies of another shape: then Unreadable is raised."""
    try:
        return ask()
    except (AttributeError, TypeError, json.JSONDecodeError) as error:
        raise Unreadable(f"its reply could not be read ({type(error).__name__})") from None


def shaped(reply: T, *names: str) -> T:
    """The reply, if it has these attributes. Raises Unreadable."""
    if missing := [name for name in names if not hasattr(reply, name)]:
        raise Unreadable(f"its reply has no {missing[0]}: it does not speak the OpenAI protocol")
    return reply


def listing(page: Iterable[T], *names: str, most: int = LOOKED_AT) -> list[T]:
    """The newest of a list, page after page. Raises Unreadable."""
    return [shaped(one, *names) for one in islice(page, most)]


def is_curable(error: openai.APIStatusError) -> bool:
    """Whether another try may help: a busy or broken server, not an empty account."""
    if error.status_code == 429:
        return error.code != "insufficient_quota"
    return error.status_code in (408, 409, 425) or error.status_code >= 500


def pause_after(error: Trouble, attempt: int) -> float:
    """Seconds until the next try: what the server asks for, else twice as long each time."""
    asked = error.response.headers.get("retry-after") if isinstance(error, openai.APIStatusError) else None
    seconds = _seconds(asked)
    return min(LONGEST_PAUSE_S, seconds) if seconds is not None else min(LONGEST_BACKOFF_S, 2.0**attempt)


def _seconds(asked: str | None) -> float | None:
    """A Retry-After in seconds, or None: it may be a number, a date, or neither."""
    try:
        return max(0.0, float(asked or ""))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(asked or "").timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def said(error: Trouble) -> str:
    """The server's own words, short."""
    body = error.body if isinstance(error, openai.APIError) else None
    words = body.get("message") if isinstance(body, dict) else None
    return " ".join(str(words or error).split())[:300]


def next_step(error: openai.APIStatusError) -> str:
    status = error.status_code
    if status in (401, 403):
        return "check BASE_KEY, and that it may tune"
    return (
        "see the plan and the bill of that account"
        if status == 429
        else "correct what it names, then start the run again"
    )
