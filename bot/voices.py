"""Who speaks as tuned and as base: at which server, under which name, and how that is proven.

Our engine follows promotions by itself and proves each reply. At a server of others this promises: tuned is only asked of
an adapter that this process has proven there by canary. A promotion is followed: the new adapter is loaded beside the old
one, proven, then asked, and the ledger says "ok" or why not; until then, and when it is refused, who served before goes on
serving. A server that forgot its adapters gets them again.
Knows vLLM's way to load adapters, and that what was tuned at a server is there under its own name; knows no Slack.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event, RLock
from typing import Literal

import httpx2
import openai
import structlog

from bot.canary import Away, NoSuchModel, asked, prove, read
from bot.completion import Voice
from bot.lines import Lines, left_s, within
from storage.digests import NAMED, short
from storage.errors import EvenkeelError, WeightsError
from storage.ledger import Ledger
from storage.records import Promotion, Role
from storage.servers import base_server, tuned_server
from storage.settings import ADAPTER, Settings
from storage.weights import adapter_path, hosted_name, verify_adapter

log = structlog.get_logger()
LOAD_S = 180.0
PROOF_LASTS_S = 300.0  # then the canary is asked again: a server may have been restarted under us
AWAY_S = 1.0  # until a server that was away is asked again


class Voices:
    """`step` is a worker's; everything else may be called from any thread."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._settings, self._ledger, self.lines = settings, ledger, Lines()
        self._tuned, self._base = tuned_server(settings), base_server(settings)
        self._serving: Voice | None = None
        self._why, self._refused = "its adapter is not proven yet", False
        self._proven: dict[str, tuple[Voice, float]] = {}  # by name at the server: until when the voice is believed
        self._followed, self._until = 0, 0.0  # the promotion that was dealt with, and when to look again at the latest
        self._tried: list[str] = []  # digests that were asked for by name, the last one last
        self._lost, self._lock = Event(), RLock()

    @property
    def follows(self) -> bool:
        """Whether tuned is at a server that does not follow promotions itself, so that `step` has something to do."""
        return not self._tuned.ours

    @property
    def base_url(self) -> str:
        return self._base.url

    @property
    def apart(self) -> bool:
        """Whether base is at a server that no customer waits for."""
        return self._base.url != self._tuned.url

    def of(self, role: Role) -> Voice:
        """Who speaks in this role. Raises Away while nobody is proven, WeightsError when the one that is set was refused."""
        server = self._base if role == "base" else self._tuned
        if server.ours:
            return Voice(server=server, model=server.name)
        if role == "base":
            return self._named_base()
        if self._serving is None:
            raise (WeightsError if self._refused else Away)(self._why)
        return self._serving

    def adapter(self, digest: str) -> Voice:
        """The voice of any adapter that is on disk, loaded and proven now, within the caller's deadline.

        Raises Away, WeightsError.
        """
        if self._tuned.ours:
            return Voice(server=self._tuned, model=f"adapter-{short(digest)}")
        if not self._tuned.follows:
            raise WeightsError(f"TUNED_NAME={self._tuned.name} is fixed: no other adapter can be asked there")
        known = self._ledger.lessons.adapter(digest)
        if known is None:
            raise WeightsError(f"adapter {short(digest)} is not known here")
        if not self._lock.acquire(timeout=left_s(LOAD_S)):
            raise Away("it is loading another adapter")
        try:
            self._tried.append(digest)
            return self._loaded(digest, known.base_digest)
        finally:
            self._lock.release()

    def other(self, digest: str | None) -> Voice:
        """Who speaks beside a champion that shares: an earlier adapter, or the base (None); the champion itself where no
        other can be asked. `step` keeps it proven. Raises Away, WeightsError.
        """
        if digest is None:
            return Voice(server=self._base, model=self._base.name) if self._base.ours else self._named_base()
        if self._tuned.ours:
            return self.adapter(digest)
        try:
            known, _ = self._proven.get(self._name(digest), (None, 0.0))
            return known or self.adapter(digest)
        except WeightsError as error:
            log.warning("other_refused", adapter=short(digest), reason=str(error))
            return self.of("tuned")

    def lost(self, voice: Voice) -> None:
        """The server does not know this voice any more: load it again."""
        self._proven.pop(voice.model, None)
        self._lost.set()

    def step(self) -> bool:
        """Let whoever the ledger's last promotion names speak, as soon as that is proven."""
        if not self.follows:
            return False
        newest = self._ledger.promotions.champion()
        number = newest.promotion_id if newest else 0
        if number == self._followed and time.monotonic() < self._until and not self._lost.is_set():
            return False
        with self._lock:
            self._lost.clear()
            lasts_s = PROOF_LASTS_S
            try:
                self._serving = self._follow(newest) if self._tuned.follows else self._fixed()
                self._prove_other()
                self._unload()
            except Away as error:
                lasts_s = AWAY_S
                self._say_why(error, refused=False)
            except WeightsError as error:
                self._serving = None
                self._say_why(error, refused=True)
            else:
                self._why, self._refused = "", False  # the same trouble is news when it comes again
            self._followed, self._until = number, time.monotonic() + lasts_s
        return False

    # Who serves

    def _follow(self, newest: Promotion | None) -> Voice:
        """The newest promotion's adapter, else the last that was proven before, else the base. Raises Away."""
        for promotion in self._line(newest):
            try:
                voice, outcome = self._voice_of(promotion), "ok"
            except EvenkeelError as refusal:
                voice, outcome = None, str(refusal)
            if newest is not None and promotion.promotion_id == newest.promotion_id and newest.confirmed != outcome:
                self._ledger.promotions.confirm(newest.promotion_id, outcome)
                log.info("champion", version=newest.version, adapter=short(newest.adapter_digest), outcome=outcome)
            if voice is not None:
                return voice
        return self._named_base()

    def _line(self, newest: Promotion | None) -> Iterator[Promotion]:
        """The newest promotion, then those of other adapters that were confirmed before it, newest first."""
        if newest is None:
            return
        yield newest
        seen = {newest.adapter_digest}
        for promotion in reversed(self._ledger.promotions.history()):
            if promotion.confirmed == "ok" and promotion.adapter_digest not in seen:
                seen.add(promotion.adapter_digest)
                yield promotion

    def _prove_other(self) -> None:
        """So that no customer waits for the canary of who speaks beside a champion that shares. Raises Away."""
        sharing = self._ledger.promotions.sharing() if self._tuned.follows else None
        if sharing and sharing.before and sharing.before.adapter_digest:
            try:
                self._loaded(sharing.before.adapter_digest, sharing.before.base_digest)
            except WeightsError as error:
                log.warning("other_refused", adapter=short(sharing.other), reason=str(error))

    def _voice_of(self, promotion: Promotion) -> Voice:
        if promotion.adapter_digest is not None:
            return self._loaded(promotion.adapter_digest, promotion.base_digest)
        with within(LOAD_S):
            read(self.lines.to(self._base), self._base.name)
        return self._named_base()

    def _named_base(self) -> Voice:
        return Voice(server=self._base, model=self._base.name, proof="name", base=NAMED + self._base.name)

    def _fixed(self) -> Voice:
        """A model under a name of its own, such as a hosted fine-tune; its weights are known by that name alone."""
        return self._named_tuned(self._tuned.name, NAMED + self._tuned.name)

    def _named_tuned(self, name: str, adapter: str) -> Voice:
        """Where its server has the base, too, the canary must tell them apart; else there is only the server's word."""
        client = self.lines.to(self._tuned)
        proof: Literal["canary", "name"] = "canary"
        with within(LOAD_S):
            read(client, name)
            try:
                prove(client, base=self._base.name, tuned=name)
            except NoSuchModel:
                proof = "name"
        return Voice(server=self._tuned, model=name, proof=proof, base=NAMED + self._base.name, adapter=adapter)

    # Adapters at the server

    def _loaded(self, digest: str, base_digest: str) -> Voice:
        """The adapter's voice, its bytes verified, loaded and proven not long ago. Raises Away, WeightsError."""
        name = self._name(digest)
        known, until = self._proven.get(name, (None, 0.0))
        if known is not None and time.monotonic() < until:
            return known
        try:
            verify_adapter(adapter_path(self._settings.weights_dir, digest), base=base_digest)
        except OSError as error:
            raise WeightsError(f"adapter {short(digest)} cannot be read here: {error.strerror}") from None
        voice = self._named_tuned(name, digest) if self._tuned.hosted else self._put_there(name, digest)
        self._proven[name] = voice, time.monotonic() + PROOF_LASTS_S
        return voice

    def _put_there(self, name: str, digest: str) -> Voice:
        with within(LOAD_S):
            self._load(name, digest)
            try:
                prove(self.lines.to(self._tuned), base=self._base.name, tuned=name)
            except NoSuchModel as error:
                raise WeightsError(
                    f"{error}. The canary needs {self._base.name} (BASE_NAME) and {name} there"
                ) from None
        return Voice(server=self._tuned, model=name, proof="canary", base=NAMED + self._base.name, adapter=digest)

    def _load(self, name: str, digest: str) -> None:
        root = self._settings.adapters_root or str(Path(self._settings.weights_dir, "adapters").absolute())
        body = {"lora_name": name, "lora_path": f"{root.rstrip('/')}/{digest}"}
        client = self.lines.to(self._tuned)

        def load() -> None:
            try:
                client.post("/load_lora_adapter", body=body, cast_to=httpx2.Response)
            except openai.BadRequestError as error:
                if "already" not in str(error):  # the name is made of the content: what is there is what we want
                    raise

        try:
            asked(load, f"{name} could not be loaded", away_from=501)
        except NoSuchModel as error:
            raise WeightsError(
                f"{error}. Next: does the server read {body['lora_path']} (ADAPTERS_ROOT), and may it load adapters at run time?"
            ) from None

    def _unload(self) -> None:
        """Let go of our adapters that neither serve, nor served before, nor were asked for last; others' are left alone."""
        if not self._tuned.loads:
            return
        promoted = [p.adapter_digest for p in reversed(self._ledger.promotions.history()) if p.adapter_digest]
        serving = self._serving.adapter if self._serving else None
        before = next((digest for digest in promoted if digest != serving), None)
        sharing = self._ledger.promotions.sharing()
        kept = {serving, before, sharing.other if sharing else None, *self._tried[-1:]}
        unused = {self._name(digest) for digest in {*promoted, *self._tried} - kept}
        if not unused:
            return
        client = self.lines.to(self._tuned)

        def unload() -> None:
            for name in sorted(unused & {model.id for model in client.models.list()}):
                self._proven.pop(name, None)
                client.post("/unload_lora_adapter", body={"lora_name": name}, cast_to=httpx2.Response)

        try:
            with within(LOAD_S):
                asked(unload, "an adapter that is not used any more could not be unloaded")
        except (Away, WeightsError) as error:
            log.warning("not_unloaded", reason=str(error))

    def _name(self, digest: str) -> str:
        if self._tuned.hosted:
            return hosted_name(adapter_path(self._settings.weights_dir, digest))
        return self._tuned.name.replace(ADAPTER, short(digest))

    def _say_why(self, error: Exception, *, refused: bool) -> None:
        if str(error) != self._why:
            log.warning("model_server", reason=str(error))
        self._why, self._refused = str(error), refused
