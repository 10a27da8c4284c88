"""The heavy steps as a child process does them: tune, weaken and score of a run, and diverge of the watch after it.

Knows models. Runs where torch may be loaded; the worker itself never does that.
"""

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bot.engine.model import LoadedModel
from eval.again import measured_again
from eval.benchmark import Answerer
from eval.desk import Progress
from eval.gate import decide_on
from eval.hosted import HostedModel
from eval.judge import Pair, asker, in_words, judge
from eval.learned import check_corrections
from eval.policy import Policy, for_scales, policy_from
from eval.sealed import Subject, final_look
from eval.suite import plan_from, score
from eval.target import answered
from eval.watch import Watch
from storage.clock import to_text, utc_now
from storage.digests import short
from storage.errors import WeightsError
from storage.ledger import Ledger
from storage.recipe import Recipe
from storage.records import Dataset, Lesson, Message, Scorecard
from storage.servers import base_server, tuned_server
from storage.settings import Settings, load_settings
from storage.weights import adapter_path
from training.crew import processes, start
from training.dataset import load_dataset
from training.divergence import MOST
from training.loop import TrainingProgress
from training.lora import tune
from training.scales import scaled

Tell = Callable[[Mapping[str, Any]], None]
ALIVE: Mapping[str, Any] = {}  # shows nothing new, but is no silence either (training/child.py)


def tune_step(job: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
    """Train an adapter; the result is the Adapter record as JSON. SIGTERM saves a checkpoint and stops.

    Where there are several GPUs, this process becomes the launcher of one for each.
    """
    settings, recipe, asked = load_settings(**job["settings"], _env_file=None), Recipe(**job["recipe"]), []
    start(processes(recipe.batch_size), job)
    signal.signal(signal.SIGTERM, lambda *_: asked.append(True))

    def show(p: TrainingProgress) -> None:
        stage = f"{p.stage}: " if p.stage else ""
        text = f"{stage}step {p.step}/{p.steps}, loss {p.loss:.3f}, {p.tokens_per_s:.0f} tokens/s, {p.eta_s:.0f} s left"
        tell(
            {
                "done": p.step,
                "total": p.steps,
                "unit": "steps",
                "loss": round(p.loss, 4),
                "tokens_per_s": round(p.tokens_per_s, 1),
                "eta_s": round(p.eta_s),
                "text": text,
            }
        )

    adapter = tune(
        base=Path(job["base"]), dataset=load_dataset(Path(job["dataset"])), recipe=recipe,
        weights_dir=settings.weights_dir, checkpoints=Path(job["checkpoints"]), run_id=job["run_id"], progress=show,
        cancelled=lambda: bool(asked), clock=utc_now, alive=lambda: tell(ALIVE))  # fmt: skip
    return asdict(adapter) | {"created_at": to_text(adapter.created_at)}


def weaken_step(job: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
    """A copy of an adapter at a scale: its digest, path and recipe."""
    settings = load_settings(**job["settings"], _env_file=None)
    ledger = Ledger(settings.ledger_path)
    try:
        trained = ledger.lessons.adapter(job["adapter"])
    finally:
        ledger.close()
    if trained is None:
        raise WeightsError(f"adapter {short(job['adapter'])} is not in the ledger. Next: train again.")
    copy = scaled(trained, settings.weights_dir, job["scale"])
    return {"digest": copy.digest, "path": copy.path, "recipe": copy.recipe}


def score_step(job: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
    """Score base, champion and candidate; cards and scores go to the ledger, the result names their sizes.

    The candidate's suite ends early once its refusal is certain; one that would be promoted is looked at once more, on
    the sealed items.
    """
    settings = load_settings(**job["settings"], _env_file=None)
    dataset, ledger = load_dataset(Path(job["dataset"])), Ledger(settings.ledger_path)
    try:
        with _base_of(job, settings) as model:
            cards = _cards(model, job, dataset, ledger, settings, tell)
            if settings.learn_from_slack:
                candidate = Answerer(model=model, adapter=cards["candidate"].adapter_digest)
                look_at_corrections(candidate, ledger, settings, job["run_id"])
            if settings.judge_url:
                ask_the_judge(
                    model, cards["candidate"].adapter_digest, dataset.holdout, ledger, settings, job["run_id"], tell
                )
    finally:
        ledger.close()
    return {"scores": {subject: len(card.scores) for subject, card in cards.items()}}


def _cards(
    model: LoadedModel | HostedModel, job: Mapping[str, Any], dataset: Dataset, ledger: Ledger, settings: Settings, tell: Tell
) -> dict[Subject, Scorecard]:  # fmt: skip
    """The whole cards of a run's subjects, each in the ledger as soon as it is there. What base and candidate say is kept in
    the dataset's folder; of a champion nobody is shown it."""
    policy, turn = for_scales(policy_from(settings), job["looks"]), ledger.scores.runs_before(job["run_id"])
    plan, cards = plan_from(settings, turn=turn, train=dataset.train), dict[Subject, Scorecard]()
    for number, (subject, digest) in enumerate(job["subjects"]):
        if digest is not None:
            model.add_adapter(adapter_path(settings.weights_dir, digest))
        watch = (
            Watch(base=cards["base"], champion=cards.get("champion"), policy=policy) if subject == "candidate" else None
        )
        cards[subject] = score(
            model, digest, plan=plan, holdout=dataset.holdout, train=dataset.train, ledger=ledger,
            progress=_shown(tell, subject, number, len(job["subjects"])), run_id=job["run_id"],
            general=subject != "champion", watch=watch,
            dataset=None if subject == "champion" else Path(job["dataset"]))  # fmt: skip
        ledger.scores.add_card(cards[subject], run_id=job["run_id"], subject=subject)
        if subject == "champion":
            model.remove_adapter(digest)
    if _would_be_promoted(cards, policy):
        cards["again"] = measured_again(
            model, cards, plan=plan, holdout=dataset.holdout, ledger=ledger, run_id=job["run_id"],
            progress=_shown(tell, "the base again", 0, 1))  # fmt: skip
        ledger.scores.add_card(cards["again"], run_id=job["run_id"], subject="again")
    if _would_be_promoted(cards, policy):
        sealed = plan_from(settings, turn=turn, sealed=True, train=dataset.train)
        show = _shown(tell, "the final look", 0, 1)
        cards = final_look(model, cards, plan=sealed, ledger=ledger, progress=show, run_id=job["run_id"])
        for subject, card in cards.items():
            ledger.scores.add_card(card, run_id=job["run_id"], subject=subject)
    return cards


@contextmanager
def _base_of(job: Mapping[str, Any], settings: Settings) -> Iterator[LoadedModel | HostedModel]:
    """The base in memory, or at its server; a job carries no secret, so the keys are read here."""
    if not settings.is_hosted:
        yield LoadedModel.load(Path(job["base"]))
        return
    mine = load_settings()
    keyed = settings.model_copy(update={"base_key": mine.base_key, "tuned_key": mine.tuned_key})
    with closing(HostedModel(base_server(keyed), tuned_server(keyed))) as model:
        yield model


def _shown(tell: Tell, what: str, number: int, of: int) -> Progress:
    def show(done: int, total: int, text: str) -> None:
        tell({"done": number * total + done, "total": of * total, "unit": "items", "text": f"{what}: {text}"})

    return show


def _would_be_promoted(cards: Mapping[Subject, Scorecard], policy: Policy) -> bool:
    return decide_on(cards, policy).verdict == "PROMOTE"


def look_at_corrections(answerer: Answerer, ledger: Ledger, settings: Settings, run_id: int) -> None:
    """Which corrections the candidate passes, for those who wrote them; it decides nothing and so never fails a run."""
    began = time.monotonic()
    try:
        passed, checked = check_corrections(answerer, ledger, max_new_tokens=settings.max_new_tokens)
    except Exception as error:  # the named place: what went wrong is a line of the run's history
        ledger.runs.note(run_id, "scoring", f"corrections were not checked: {type(error).__name__}: {error}")
        return
    if checked:
        seconds = time.monotonic() - began
        ledger.runs.note(run_id, "scoring", f"{passed} of {checked} corrections pass ({seconds:.0f} s)")


def ask_the_judge(
    model: LoadedModel | HostedModel,
    adapter: str | None,
    holdout: Sequence[Lesson],
    ledger: Ledger,
    settings: Settings,
    run_id: int,
    tell: Tell,
) -> None:
    """What a judge makes of candidate and base on held-out questions; advice, so whatever goes wrong fails no run."""
    try:
        base, tuned = (
            answered(Answerer(model=model, adapter=who), holdout, count=settings.target_generations,
                     max_new_tokens=settings.max_new_tokens, seed=settings.seed, tell=_words(tell, "answers for the judge"))
            for who in (None, adapter))  # fmt: skip
        pairs = [
            Pair(question=lesson.question, approved=lesson.answer, base=plain, tuned=said)
            for (lesson, plain), (_, said) in zip(base, tuned, strict=True)
        ]
        key = load_settings().judge_key.get_secret_value()  # a job carries no secret
        asked = _counted(pairs, _words(tell, "pairs that the judge reads"))
        text = in_words(judge(asked, asker(settings.judge_url, key, settings.judge_model)))
    except Exception as error:  # the named place: what went wrong is a line of the run's history
        text = f"the judge at {settings.judge_url} could not be asked: {type(error).__name__}: {error}"
    ledger.runs.note(run_id, "scoring", text)


def _words(tell: Tell, what: str) -> Callable[[int, int], None]:
    return lambda done, total: tell({"text": f"{what}: {done}/{total}"})


def _counted(pairs: Sequence[Pair], told: Callable[[int, int], None]) -> Iterator[Pair]:
    for number, pair in enumerate(pairs, 1):
        told(number, len(pairs))
        yield pair


def diverge_step(job: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
    """How far a promotion's adapter is from the base, nats a token of each answer: of the newest that it gave (`live`)
    and of as many that it gives to held-out questions here (`held_out`), both read again from their texts.
    """
    settings = load_settings(**job["settings"], _env_file=None)
    ledger = Ledger(settings.ledger_path)
    try:
        champion = next(p for p in ledger.promotions.history() if p.promotion_id == job["promotion"])
        live = ledger.watches.answered_by(champion, most=MOST)
        adapter = ledger.lessons.adapter(champion.adapter_digest or "")
    finally:
        ledger.close()
    model = LoadedModel.load(Path(job["base"]))
    speaker = Answerer(
        model=model, adapter=model.add_adapter(adapter_path(settings.weights_dir, champion.adapter_digest or ""))
    )
    held_out = _held_out(settings.datasets_dir / adapter.dataset_digest if adapter else None, model, settings)
    given = answered(
        speaker,
        held_out,
        count=len(live),
        max_new_tokens=settings.max_new_tokens,
        seed=settings.seed,
        tell=_words(tell, "held-out answers"),
    )
    return {
        "newest": live[0].exchange_id if live else None,
        "live": _divergences(speaker, [(one.messages, one.text) for one in live]),
        "held_out": _divergences(speaker, [(lesson.messages, text) for lesson, text in given]),
    }


def _held_out(folder: Path | None, model: LoadedModel, settings: Settings) -> list[Lesson]:
    """One held-out lesson of each conversation that can be answered here; none where the dataset is not on this disk."""
    if folder is None or not folder.is_dir():
        return []
    holdout = sorted(load_dataset(folder).holdout, key=lambda lesson: lesson.lesson_id)
    room = model.context - settings.max_new_tokens
    fitting = [one for one in holdout if one.answer.strip() and len(model.renderer.prompt(one.messages)) <= room]
    return list({one.conversation_id: one for one in fitting}.values())


def _divergences(speaker: Answerer, said: Sequence[tuple[Sequence[Message], str]]) -> list[float]:
    """The mean of each answer's tokens, its end token's place included; what does not fit the context is left out."""
    model = speaker.model
    assert isinstance(model, LoadedModel)
    examples = [model.renderer.example(messages, text) for messages, text in said]
    fitting = [(ids, sum(mask)) for ids, mask in examples if len(ids) <= model.context]
    found = model.divergence([ids for ids, _ in fitting], [size for _, size in fitting], adapter=speaker.adapter)
    return [round(float(places.mean()), 6) for places in found]


STEPS: Mapping[str, Callable[[Mapping[str, Any], Tell], dict[str, Any]]] = {
    "tune": tune_step,
    "weaken": weaken_step,
    "score": score_step,
    "diverge": diverge_step,
}
