"""The stations of the line as frozen records. What they mean is in docs/glossary.md.

    Question → (tuned, base) Answers → Exchange → Rating → Dataset → Adapter → Scorecard → Decision → Promotion

Knows no database and no model: the tables in this package turn rows into these and back.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from storage.digests import digest_of

Message = dict[str, str]  # {"role": "system" | "user" | "assistant", "content": str}, the OpenAI shape
Role = Literal["tuned", "base"]
AnswerStatus = Literal["ok", "failed", "timeout", "skipped"]
RaterRole = Literal["customer", "agent", "admin", "unknown"]
Source = Literal["ticket", "rating", "correction", "taught", "pick", "replay"]
Direction = Literal["higher", "lower"]
Verdict = Literal["PROMOTE", "REFUSE", "HOLD"]
Domain = Literal["target", "general"]
ComparisonState = Literal["gain", "kept", "undecided", "lost", "unknown"]
RunState = Literal["requested", "building", "training", "scoring", "decided", "failed", "cancelled"]

ACTIVE_STATES: tuple[RunState, ...] = ("requested", "building", "training", "scoring")


def _aware(name: str, moment: datetime | None) -> None:
    if moment is not None and moment.tzinfo is None:
        raise ValueError(f"{name} is a naive datetime ({moment!r}): pass an aware one")


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxItem:
    """One accepted Slack event, claimed by one worker. `fence` grows by one with every claim."""

    inbox_id: int
    event_id: str
    kind: str  # question | remark | excess | reaction | person | handover | stop | deletion
    team: str
    channel: str
    ts: str
    payload: dict[str, Any]
    received_at: datetime
    attempts: int
    fence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What somebody asked, where, and with what context. `messages` is exactly what both models are sent."""

    team: str
    channel: str
    thread_ts: str
    ts: str
    asker: str
    text: str
    messages: tuple[Message, ...]
    asked_at: datetime
    source: str = "slack"  # slack | cli
    language: str | None = None

    def __post_init__(self) -> None:
        _aware("asked_at", self.asked_at)

    @property
    def conversation_id(self) -> str:
        """All questions of one thread: they stay on one side of the holdout line."""
        return f"{self.team}:{self.channel}:{self.thread_ts}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one model said, with the proof of who spoke. A failed answer has no text but a reason.

    A "digest" that opens with `name:` is the name of weights that only their server knows; `params["proof"]` says how
    it is known who spoke.
    """

    role: Role
    status: AnswerStatus
    text: str = ""
    reason: str = ""
    base_digest: str = ""
    adapter_digest: str | None = None
    template_digest: str = ""
    prompt_digest: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    tokens_in: int = 0
    tokens_out: int = 0
    ttft_s: float | None = None
    latency_s: float | None = None
    answered_at: datetime | None = None

    def __post_init__(self) -> None:
        _aware("answered_at", self.answered_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One question with both answers. `base` is None while the shadow has not spoken yet."""

    exchange_id: int
    question: Question
    tuned: Answer | None
    base: Answer | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PostedMessage:
    """One Slack message that carries (a part of) an exchange's answer. `ts` is None before Slack confirmed it."""

    message_id: int
    exchange_id: int
    part: int
    team: str
    channel: str
    ts: str | None
    state: str  # intended | posted | final
    kind: str = "post"  # post | stream: how it was begun


@dataclass(frozen=True, slots=True, kw_only=True)
class RatingEvent:
    """One add or removal of a verdict on one message. Append-only; the fold of them is the rating."""

    event_id: str
    team: str
    channel: str
    ts: str
    user: str
    reaction: str  # as Slack sent it, skin tone included; "feedback:up" for buttons
    sign: int  # +1, -1; 0 for an emoji outside the map
    action: Literal["add", "remove"]
    event_ts: str
    role: RaterRole
    source: str = "reaction"  # reaction | button


@dataclass(frozen=True, slots=True, kw_only=True)
class Rating:
    """A person's verdict that stands now."""

    exchange_id: int
    user: str
    role: RaterRole
    reaction: str
    sign: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """One imported question with its approved (or not) answer.

    `customer` asked and `agent` answered ("" where the file does not say); `row` is its place in the file. `origin` (file
    and row), `consent` (who imported it) and `began` (when its conversation began, as the ledger saw it first; "" for
    unknown) are read from the ledger, never stored from here.
    """

    ticket_id: str
    conversation_id: str
    question: str
    answer: str
    category: str = ""
    language: str = ""
    approved: bool = True
    created_at: str = ""
    customer: str = ""
    agent: str = ""
    row: str = ""
    origin: str = ""
    consent: str = ""
    began: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """One row that training may see: messages up to the question, the answer to learn, and its lineage.

    `author` wrote, taught, liked or picked the answer; `customer` asked; `origin` is the file and row, or the exchange;
    `consent` says why it may be learned from; `at` is when it came about and `began` when its conversation did (ISO 8601,
    "" for unknown).
    """

    lesson_id: str
    source: Source
    conversation_id: str
    messages: tuple[Message, ...]
    answer: str
    category: str = ""
    language: str = ""
    author: str = ""
    customer: str = ""
    origin: str = ""
    consent: str = ""
    at: str = ""
    began: str = ""

    @property
    def question(self) -> str:
        return self.messages[-1]["content"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference(Lesson):
    """What `judges` found: `answer` is better than `rejected`; where one of the two is "", the other is good, or bad, alone.

    `how`: an agent corrected a disliked answer; tuned or base was picked blind; a tuned answer was liked, or disliked.
    """

    how: Literal["corrected", "tuned", "base", "liked", "disliked"]
    rejected: str = ""
    judges: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Training rows and holdout rows, disjoint by conversation. `digest` names the bytes of its files."""

    digest: str
    train: tuple[Lesson, ...]
    holdout: tuple[Lesson, ...]
    manifest: dict[str, Any]
    preferences: tuple[Preference, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """LoRA weights on disk and where they came from. `digest` names config and weights."""

    digest: str
    base_digest: str
    dataset_digest: str
    path: str
    recipe: dict[str, Any]
    run_id: int | None
    stats: dict[str, Any]
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemScore:
    """One item's number. `cluster` groups items that are not independent (conversation, passage, subject)."""

    item_id: str
    cluster: str
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A measured number of one benchmark for one answerer, with its items.

    `value` is the mean of the items (or the corpus number where a metric is no mean; then the items are what is
    paired). `stderr` is that of `value`. `chance` is what guessing gives, None where guessing means nothing.
    `key` is the digest of (base, adapter, template, task, generation): equal keys mean the same measurement.
    `signature` says how the metric was computed where that can be done in several ways (sacrebleu's).
    `look`: how many slices of its hand were measured in a trial that may end early; 0: measured at once.
    """

    key: str
    benchmark: str
    metric: str  # acc | p_correct | bits_per_byte | rouge_l | bleu | f1 | pass | …
    domain: Domain
    direction: Direction
    unit: str  # share | bits/byte | points
    value: float
    stderr: float
    n: int
    items: tuple[ItemScore, ...]
    chance: float | None = None
    seconds: float = 0.0
    signature: str = ""
    look: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scorecard:
    """All scores of one answerer: base (adapter_digest None), champion or candidate."""

    base_digest: str
    adapter_digest: str | None
    suite_digest: str
    scores: tuple[Score, ...]
    template_digest: str = ""

    def get(self, benchmark: str, metric: str) -> Score | None:
        found = (s for s in self.scores if s.benchmark == benchmark and s.metric == metric)
        return next(found, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """Below which confidence an answerer's answer is held back as a guess, measured on the holdout.

    `value` None: nothing is held back, for `reason`. `auc` (between `low` and `high`): how often a good answer is surer
    than a bad one; None where there were too few. `coverage`: share of the holdout answers that are given; `good_above`
    and `good_below`: the share of good ones among those given and those held back, None where there is no value.
    """

    value: float | None
    auc: float | None
    low: float | None
    high: float | None
    n: int
    coverage: float
    good_above: float | None
    good_below: float | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One benchmark, candidate against a reference, paired per item. Positive `gain` is better, whatever the metric.

    `low`, `high`: the interval at `confidence`. `margin`: the largest loss that is tolerated (0 for a target
    that must gain). `state` says what is proven against the margin. All general shares together are one comparison, too
    (`benchmark` "general", `metric` "pooled").
    """

    benchmark: str
    metric: str
    domain: Domain
    against: str  # base | champion
    reference: float
    candidate: float
    gain: float
    low: float
    high: float
    margin: float
    n: int
    unit: str
    confidence: float
    gates: bool  # False: shown, but decides nothing (at chance, advisory)
    state: ComparisonState
    note: str = ""
    p_loss: float | None = None  # that nothing was lost, after Holm; None where unknown or shown only
    supports: float | None = None  # the margin that these items certify for nine of ten unchanged candidates
    before: float | None = None  # the champion's gain against the base: what of the budget it has spent
    at_chance: bool = False  # it gates all the same: a safety that the base does not have can still be lost further


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The gate's outcome with its reasons and everything that it was computed from.

    `evidence`: for "base", "candidate" and, if there is one, "champion", which card was judged: its digests and
    [key, digest] of each score, items and all. With the policy, it makes the decision again.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    base_digest: str
    champion_digest: str | None
    candidate_digest: str
    policy: dict[str, Any]
    evidence: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """One change of champion. `adapter_digest` None means: the base alone serves. The last row is the truth."""

    promotion_id: int
    kind: Literal["promote", "rollback"]
    adapter_digest: str | None
    base_digest: str
    decision_id: int | None
    actor: str
    reason: str
    at: datetime
    version: int  # what people call it: v1, v2 …; a rollback shows the version that it went back to
    confirmed: str = ""  # "" until the engine's canary ran; then "ok" or the reason of its refusal
    percent: int = 100  # of the conversations that it answers until it graduates; who served before answers the others


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """A champion that answers a part of the conversations, and who answers the others (None: the base, as ever)."""

    champion: Promotion
    before: Promotion | None

    @property
    def other(self) -> str | None:
        """The adapter that answers the others."""
        return self.before.adapter_digest if self.before else None

    def is_champions(self, conversation_id: str) -> bool:
        """Whether the champion speaks in this conversation: by hash, so the same for as long as they share."""
        lot = int(digest_of([conversation_id, self.champion.promotion_id])[:8], 16)
        return lot % 100 < self.champion.percent


@dataclass(frozen=True, slots=True, kw_only=True)
class Watching:
    """One look at what came after a promotion, in words (`said`) and as data that it can be judged again from (`seen`).

    `kind`: votes (of the team; they may roll back), customers (their votes), disagreement (with the base, in words),
    divergence (from the base, in nats), drift (of the questions; of no promotion). Append-only.
    """

    watch_id: int
    promotion_id: int | None
    kind: Literal["votes", "customers", "disagreement", "divergence", "drift"]
    verdict: Literal["watching", "rollback", "graduated", "alert"]
    said: str
    seen: dict[str, Any]
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One pass of the cycle, as its row stands."""

    run_id: int
    state: RunState
    reason: str  # command | cron | lessons | cli
    requested_by: str
    requested_at: datetime
    overrides: dict[str, Any]
    channel: str | None
    message_ts: str | None
    dataset_digest: str | None
    adapter_digest: str | None
    decision_id: int | None
    progress: dict[str, Any]
    error: str
    cancel_requested: bool
    fence: int
    started_at: datetime | None
    finished_at: datetime | None
