"""The Bolt app: what Slack may call, and nothing that takes time.

Every event is stored by the intake, which answers it; listeners are left for commands, buttons, forms and the App
Home. Each acks first and then does a few short calls.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog
from slack_bolt import Ack, App, BoltResponse
from slack_bolt.error import BoltUnhandledRequestError
from slack_sdk import WebClient

from bot.approval import Approval
from bot.asking import Asking
from bot.commands import Commands
from bot.corrections import Corrections
from bot.delivery import Delivery
from bot.digest import Digest
from bot.far import Far
from bot.home import home
from bot.intake import Intake
from bot.model_view import ModelView
from bot.models import Models, models_of
from bot.once import Once
from bot.people import People
from bot.privacy import Privacy
from bot.queue_notes import QueueNotes
from bot.reactions import Reactions
from bot.reasons import Reasons
from bot.reconcile import Reconcile
from bot.retrain_form import RetrainForm
from bot.review import Review
from bot.roles import Roles
from bot.run_watch import RunWatch
from bot.shadow import Shadow
from bot.slack import Me, PacedClient
from bot.teaching import Teaching
from bot.trial import Trial
from bot.watch_notes import WatchNotes
from bot.workers import Workers
from storage.ledger import Ledger
from storage.settings import Settings

log = structlog.get_logger()
SEEN_S = 0.1  # Bolt looks for an ack every 10 ms, and takes it back when its listener breaks before it looked
LISTENERS = 32  # Bolt's own five would let five slow listeners delay the sixth's ack


@dataclass(frozen=True, slots=True, kw_only=True)
class Bot:
    """Everything that one bot process is made of."""

    bolt: App
    intake: Intake
    workers: Workers
    asking: Asking
    people: People
    reconcile: Reconcile
    reactions: Reactions
    shadow: Shadow
    watch: RunWatch
    approval: Approval
    trial: Trial
    digest: Digest
    notes: WatchNotes
    models: Models

    def close(self) -> None:
        """Finish what is being worked on, as far as 20 seconds allow; the rest keeps its lease and is taken up later."""
        self.workers.stop()
        self.shadow.close()
        self.models.close()


def build_bot(settings: Settings, ledger: Ledger, client: PacedClient, me: Me) -> Bot:
    """The parts, wired. Nothing runs yet."""
    roles = Roles(client, me, admins=settings.admins, agents=settings.agents)
    models = models_of(settings, ledger)
    delivery = Delivery(client=client, ledger=ledger, me=me)
    workers = Workers()
    shadow = Shadow(ledger=ledger, models=models, deadline_s=settings.answer_deadline_s)
    asking = Asking(
        settings=settings, ledger=ledger, me=me, models=models, delivery=delivery, shadow=shadow,
        far=Far(settings=settings, ledger=ledger), wake=workers.wake)  # fmt: skip
    reasons = Reasons(ledger=ledger, client=client, roles=roles)
    reactions = Reactions(settings=settings, ledger=ledger, roles=roles, reasons=reasons)
    draw = partial(show_home, client, roles, ledger, settings)
    corrections = Corrections(settings=settings, ledger=ledger, client=client, roles=roles, show_home=draw)
    once = Once(ledger=ledger, client=client)
    watch = RunWatch(settings=settings, ledger=ledger, client=client, once=once)
    trial = Trial(settings=settings, ledger=ledger, client=client, models=models)
    people = People(settings=settings, ledger=ledger, client=client, delivery=delivery, roles=roles)
    intake = Intake(settings, ledger, me, workers.wake, workers.acking)
    workers.add("questions", asking.step, count=settings.answer_workers)
    workers.add("ratings", reactions.step)
    workers.add("people", people.step)
    workers.add("queue", QueueNotes(ledger=ledger, delivery=delivery, open=asking.open).step, pause_s=0.5)
    workers.add("spool", intake.spool.step, pause_s=0.5)
    reconcile = Reconcile(ledger=ledger, client=client, me=me, intake=intake)
    workers.add("reconcile", reconcile.step, pause_s=1.0)
    workers.add("shadow", shadow.step)
    workers.add("runs", watch.step, pause_s=1.0)
    workers.add("trial", trial.step, pause_s=0.5)
    digest = Digest(settings=settings, ledger=ledger, once=once)
    workers.add("digest", digest.step, pause_s=30.0)
    notes = WatchNotes(settings=settings, ledger=ledger, once=once)
    workers.add("watch", notes.step, pause_s=10.0)
    if models.follows:
        workers.add("adapters", models.follow, pause_s=1.0)
    workers.add("leases", asking.extend_leases, pause_s=asking.lease_s / 4)
    bolt = build_app(settings, ledger, client, roles=roles, intake=intake)
    commands = Commands(settings=settings, ledger=ledger, roles=roles)
    approval = Approval(ledger=ledger, client=client, commands=commands, watch=watch, trial=trial)
    approval.listen(bolt)
    Privacy(settings=settings, ledger=ledger, client=client, intake=intake, delivery=delivery).listen(bolt)
    Review(settings=settings, ledger=ledger, client=client, roles=roles).listen(bolt)
    reasons.listen(bolt)
    corrections.listen(bolt)
    Teaching(ledger=ledger, client=client, me=me, corrections=corrections).listen(bolt)
    return Bot(
        bolt=bolt,
        intake=intake,
        workers=workers,
        asking=asking,
        people=people,
        reconcile=reconcile,
        reactions=reactions,
        shadow=shadow,
        watch=watch,
        approval=approval,
        trial=trial,
        digest=digest,
        notes=notes,
        models=models,
    )


def build_app(settings: Settings, ledger: Ledger, client: WebClient, *, roles: Roles, intake: Intake) -> App:
    """The Bolt app with the intake in front and the listeners behind."""
    app = App(
        client=client,
        signing_secret=settings.slack_signing_secret.get_secret_value() or None,
        before_authorize=intake,
        raise_error_for_unhandled_request=True,
        listener_executor=ThreadPoolExecutor(LISTENERS, thread_name_prefix="listener"),
    )
    commands = Commands(settings=settings, ledger=ledger, roles=roles)
    commands.listen(app, client)
    RetrainForm(commands=commands, client=client).listen(app)
    ModelView(commands=commands, client=client).listen(app)

    @app.event("app_home_opened")
    def on_home(event: dict[str, Any]) -> None:
        if event.get("tab", "home") == "home":
            show_home(client, roles, ledger, settings, event["user"])

    @app.error
    def on_error(error: Exception, ack: Ack, body: dict[str, Any]) -> BoltResponse | None:
        """What was acked stays acked, and what nobody listens to (an older version's button) is acked, too."""
        if isinstance(error, BoltUnhandledRequestError):
            log.warning("nobody_listens", kind=body.get("type"))
            return BoltResponse(status=200, body="")
        log.error("listener_failed", error=type(error).__name__)
        if ack.response is not None:
            time.sleep(SEEN_S)
        return None

    return app


def show_home(client: WebClient, roles: Roles, ledger: Ledger, settings: Settings, user: str) -> None:
    client.views_publish(user_id=user, view=home(roles.role_of(user), ledger, settings, user=user))
