"""The ledger keeps what it accepted, once, and says so when a row was changed behind its back."""

import json
import sqlite3
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path

import pytest

from storage.clock import utc_now
from storage.errors import Busy, EvenkeelError, GateSaidNo, LedgerError, LostLease, UsageError
from storage.ledger import Ledger
from storage.promotions import decision_digest
from storage.records import Adapter, Answer, Comparison, Decision, Question, RatingEvent
from storage.standing import standing


def question(ts: str = "10.0", thread: str = "10.0") -> Question:
    text = f"question at {ts}"
    return Question(
        team="T",
        channel="C",
        thread_ts=thread,
        ts=ts,
        asker="U",
        text=text,
        messages=({"role": "user", "content": text},),
        asked_at=utc_now(),
    )


def promoted(ledger: Ledger, made: Decision) -> None:
    number = ledger.promotions.decide(made, run_id=None, actor="gate")
    ledger.promotions.promote(number, actor="gate", reason="")


def decision(candidate: str, champion: str | None = None, verdict: str = "PROMOTE") -> Decision:
    shown = Comparison(
        benchmark="support",
        metric="bits_per_byte",
        domain="target",
        against="base",
        reference=1.2,
        candidate=1.0,
        gain=0.2,
        low=0.1,
        high=0.3,
        margin=0.0,
        n=40,
        unit="bits/byte",
        confidence=0.95,
        gates=True,
        state="gain",
    )
    return Decision(
        verdict=verdict,
        reasons=("because",),
        comparisons=(shown,),
        base_digest="b" * 64,
        champion_digest=champion,
        candidate_digest=candidate,
        policy={"margin_points": 7.5},
    )


def adapter(ledger: Ledger, digest: str) -> str:
    ledger.lessons.add_adapter(
        Adapter(
            digest=digest,
            base_digest="b" * 64,
            dataset_digest="d",
            path="p",
            recipe={},
            run_id=None,
            stats={},
            created_at=utc_now(),
        )
    )
    return digest


class TestInbox:
    def test_the_same_event_is_accepted_once(self, ledger: Ledger) -> None:
        def accept(event: str, ts: str) -> bool:
            return ledger.inbox.accept(event_id=event, kind="question", team="T", channel="C", ts=ts, payload={})

        assert [accept("E1", "1"), accept("E1", "1"), accept("E2", "1"), accept("E3", "2")] == [
            True,
            False,
            False,
            True,
        ]
        assert ledger.inbox.depth() == 2

    def test_reactions_on_one_message_are_all_accepted(self, ledger: Ledger) -> None:
        for event in ("R1", "R2"):
            assert ledger.inbox.accept(event_id=event, kind="reaction", team="T", channel="C", ts="1", payload={})

    def test_an_item_whose_lease_ran_out_goes_to_another_worker_and_the_first_can_no_longer_finish_it(
        self, tmp_path: Path
    ) -> None:
        now = utc_now()
        moments = iter(
            [now, now, now + timedelta(seconds=31), now + timedelta(seconds=31), now + timedelta(seconds=31)]
        )
        ledger = Ledger(tmp_path / "l.db", clock=lambda: next(moments))
        ledger.inbox.accept(event_id="E1", kind="question", team="T", channel="C", ts="1", payload={"a": "ü"})
        first = ledger.inbox.claim(owner_kinds=("question",), lease_s=30)
        second = ledger.inbox.claim(owner_kinds=("question",), lease_s=30)
        assert first and second and (second.fence, second.attempts, second.payload) == (2, 2, {"a": "ü"})

        with pytest.raises(LostLease):
            ledger.inbox.finish(first)
        ledger.inbox.finish(second)
        assert ledger.inbox.depth() == 0
        ledger.close()

    def test_an_item_that_was_put_back_waits(self, ledger: Ledger) -> None:
        ledger.inbox.accept(event_id="E1", kind="question", team="T", channel="C", ts="1", payload={})
        item = ledger.inbox.claim(owner_kinds=("question",), lease_s=30)
        assert item
        ledger.inbox.put_back(item, delay_s=60, reason="engine is down")

        assert ledger.inbox.claim(owner_kinds=("question",), lease_s=30) is None

    def test_what_is_pressed_under_a_call_waits_for_the_call_and_for_earlier_presses(self, ledger: Ledger) -> None:
        kinds = ("person", "handover")

        def accept(event: str, kind: str, thread_ts: str) -> None:
            payload = {"thread_ts": thread_ts}
            ledger.inbox.accept(event_id=event, kind=kind, team="T", channel="C", ts=event, payload=payload)

        accept("1", "person", "90.1")
        accept("2", "handover", "90.1")
        accept("3", "handover", "90.1")
        accept("4", "handover", "80.1")
        call = ledger.inbox.claim(owner_kinds=kinds, lease_s=30)
        other = ledger.inbox.claim(owner_kinds=kinds, lease_s=30)
        assert call and other and (call.event_id, other.event_id) == ("1", "4")
        assert ledger.inbox.claim(owner_kinds=kinds, lease_s=30) is None

        ledger.inbox.finish(call)
        first = ledger.inbox.claim(owner_kinds=kinds, lease_s=30)
        assert first and first.event_id == "2" and ledger.inbox.claim(owner_kinds=kinds, lease_s=30) is None


class TestExchanges:
    def test_an_exchange_is_opened_once_and_answered_once_a_role(self, ledger: Ledger) -> None:
        first, again = ledger.exchanges.open(question()), ledger.exchanges.open(question())
        spoken = Answer(role="tuned", status="ok", text="one", base_digest="b", adapter_digest=adapter(ledger, "a"))

        assert first == again
        assert ledger.exchanges.record(first, spoken)
        assert not ledger.exchanges.record(first, Answer(role="tuned", status="ok", text="two", base_digest="b"))
        found = ledger.exchanges.get(first)
        assert (
            found and found.tuned and (found.tuned.text, found.tuned.adapter_digest, found.base) == ("one", "a", None)
        )

    def test_a_base_answer_cannot_claim_an_adapter(self, ledger: Ledger) -> None:
        exchange = ledger.exchanges.open(question())

        ledger.exchanges.record(
            exchange, Answer(role="base", status="ok", text="x", base_digest="b", adapter_digest="a")
        )

        found = ledger.exchanges.get(exchange)
        assert found and found.base is None

    def test_the_thread_is_remembered_oldest_first(self, ledger: Ledger) -> None:
        for ts in ("10.0", "11.0", "12.0"):
            number = ledger.exchanges.open(question(ts))
            ledger.exchanges.record(number, Answer(role="tuned", status="ok", text=f"answer {ts}", base_digest="b"))

        history = ledger.exchanges.history("T", "C", "10.0", before_ts="12.0", turns=6)

        assert [m["content"] for m in history] == ["question at 10.0", "answer 10.0", "question at 11.0", "answer 11.0"]

    def test_closed_exchanges_wait_for_their_shadow_and_are_counted(self, ledger: Ledger) -> None:
        number = ledger.exchanges.open(question())
        ledger.exchanges.record(number, Answer(role="tuned", status="ok", text="x", base_digest="b"))
        assert ledger.exchanges.awaiting_shadow(max_age_s=60) == ()
        ledger.exchanges.close(number, "answered")
        assert [e.exchange_id for e in ledger.exchanges.awaiting_shadow(max_age_s=60)] == [number]
        assert ledger.exchanges.shadow_coverage() == (0, 1)

        ledger.exchanges.record(number, Answer(role="base", status="ok", text="y", base_digest="b"))

        assert ledger.exchanges.awaiting_shadow(max_age_s=60) == ()
        assert ledger.exchanges.shadow_coverage() == (1, 1)


class TestLessonsFromSlack:
    @pytest.fixture
    def exchange(self, ledger: Ledger) -> int:
        number = ledger.exchanges.open(question())
        ledger.exchanges.record(number, Answer(role="tuned", status="ok", text="liked answer", base_digest="b"))
        message, _ = ledger.exchanges.intend_message(number, 0, team="T", channel="C")
        ledger.exchanges.message_posted(message.message_id, "10.5")
        return number

    @staticmethod
    def rate(ledger: Ledger, user: str, role: str, sign: int, event_ts: str, action: str = "add") -> None:
        reaction = "+1" if sign > 0 else "-1"
        ledger.ratings.add(
            RatingEvent(
                event_id=f"{user}{event_ts}{action}",
                team="T",
                channel="C",
                ts="10.5",
                user=user,
                reaction=reaction,
                sign=sign,
                action=action,
                event_ts=event_ts,
                role=role,
            )
        )

    def test_only_an_agents_thumb_makes_a_lesson_and_all_votes_are_kept(self, ledger: Ledger, exchange: int) -> None:
        self.rate(ledger, "U1", "customer", 1, "11.0")
        assert ledger.lessons.liked() == ()
        self.rate(ledger, "U2", "agent", 1, "12.0")

        assert [x.answer for x in ledger.lessons.liked()] == ["liked answer"]
        assert {r.user for r in ledger.ratings.of(exchange)} == {"U1", "U2"}

    def test_a_conflict_between_agents_is_no_lesson(self, ledger: Ledger, exchange: int) -> None:
        self.rate(ledger, "U2", "agent", 1, "12.0")
        self.rate(ledger, "U3", "agent", -1, "13.0")

        assert ledger.lessons.liked() == ()

    def test_the_newest_correction_of_an_agent_replaces_the_answer(self, ledger: Ledger, exchange: int) -> None:
        self.rate(ledger, "U2", "agent", 1, "12.0")
        for role, text in (("agent", "first"), ("agent", "second"), ("customer", "third")):
            ledger.lessons.correct(exchange, author="U2", role=role, text=text)

        assert ledger.lessons.liked() == ()
        assert [x.answer for x in ledger.lessons.corrections()] == ["second"]


class TestRuns:
    def test_there_is_one_run_at_a_time_whoever_asks(self, ledger: Ledger) -> None:
        ledger.runs.request(reason="cron", requested_by="clock", overrides={})

        with pytest.raises(Busy, match="run 1 .requested, asked by clock. is active"):
            ledger.runs.request(reason="command", requested_by="U1", overrides={})

    def test_who_asks_in_the_same_transaction_as_another_hears_which_run_that_is(self, ledger: Ledger) -> None:
        def ask(user: str) -> str:
            try:
                return str(ledger.runs.request(reason="command", requested_by=user, overrides={}))
            except Busy as error:
                return str(error)

        with ThreadPoolExecutor(9) as pool:
            with ledger.connections.write():  # the nine queue behind it: one transaction
                asked = [pool.submit(ask, f"U{n}") for n in range(9)]
                while ledger.connections._commits._waiting < 9:
                    pass
            said = sorted(each.result(timeout=20) for each in asked)
        (run,) = ledger.runs.recent()
        named = f"run 1 (requested, asked by {run.requested_by}) is active"
        assert said[0] == "1" and len(said) == 9 and all(named in text for text in said[1:])

    def test_a_worker_whose_lease_was_taken_over_can_write_nothing_more(self, tmp_path: Path) -> None:
        moment = [utc_now()]
        ledger = Ledger(tmp_path / "l.db", clock=lambda: moment[0])
        ledger.runs.request(reason="cli", requested_by="me", overrides={"learning_rate": 0.001})
        first = ledger.runs.claim(owner="one", lease_s=30)
        assert first and ledger.runs.claim(owner="two", lease_s=30) is None
        moment[0] += timedelta(seconds=31)
        second = ledger.runs.claim(owner="two", lease_s=30)
        assert second and second.fence == first.fence + 1

        with pytest.raises(LostLease):
            ledger.runs.advance(first, state="training", lease_s=30)
        assert ledger.runs.advance(second, state="training", lease_s=30).state == "training"
        ledger.close()

    def test_cancelling_ends_a_waiting_run_at_once_and_asks_a_working_one(self, ledger: Ledger) -> None:
        waiting = ledger.runs.request(reason="cli", requested_by="me", overrides={})
        assert ledger.runs.cancel(waiting)
        assert ledger.runs.active() is None
        ledger.runs.request(reason="cli", requested_by="me", overrides={})
        run = ledger.runs.claim(owner="one", lease_s=30)
        assert run and not ledger.runs.report_progress(run, {"stage": "training"}, lease_s=30)

        assert ledger.runs.cancel(run.run_id)

        assert ledger.runs.report_progress(run, {}, lease_s=30) is True


class TestPromotions:
    def test_the_champion_is_the_last_promotion_and_a_rollback_is_one_more(self, ledger: Ledger) -> None:
        one, two = adapter(ledger, "1" * 64), adapter(ledger, "2" * 64)
        assert ledger.promotions.champion() is None
        ledger.promotions.promote(
            ledger.promotions.decide(decision(one), run_id=None, actor="gate"), actor="gate", reason=""
        )
        ledger.promotions.promote(
            ledger.promotions.decide(decision(two, one), run_id=None, actor="gate"), actor="gate", reason=""
        )

        back = ledger.promotions.rollback(actor="U1", reason="worse tone")
        base = ledger.promotions.rollback(actor="U1", reason="worse still")

        assert (back.version, back.adapter_digest) == (1, one)
        assert (base.version, base.adapter_digest) == (0, None)
        assert [p.kind for p in ledger.promotions.history()] == ["promote", "promote", "rollback", "rollback"]
        with pytest.raises(UsageError):
            ledger.promotions.rollback(actor="U1", reason="", to_version=7)

    def test_a_rollback_goes_to_who_answered_before_not_to_the_next_lower_number(self, ledger: Ledger) -> None:
        one, two, three = (adapter(ledger, digit * 64) for digit in "123")
        promoted(ledger, decision(one))
        promoted(ledger, decision(two, one))
        ledger.promotions.rollback(actor="watch", reason="👎")
        promoted(ledger, decision(three, one))

        back = ledger.promotions.rollback(actor="gate", reason="the engine refused v3")

        assert (back.version, back.adapter_digest) == (1, one)

    def test_a_champion_of_another_base_keeps_nobody_out(self, ledger: Ledger) -> None:
        one, two = adapter(ledger, "1" * 64), adapter(ledger, "2" * 64)
        promoted(ledger, decision(one))
        on_new_base = replace(decision(two), base_digest="c" * 64)
        number = ledger.promotions.decide(on_new_base, run_id=None, actor="gate")

        waits = standing(ledger.connections, number).state
        ledger.promotions.promote(number, actor="gate", reason="")
        back = ledger.promotions.rollback(actor="U1", reason="")

        assert waits == "waiting"
        assert (back.adapter_digest, back.base_digest) == (one, "b" * 64)
        assert ledger.promotions.champion_on("b" * 64) == one
        assert ledger.promotions.champion_on("c" * 64) is None

    def test_a_promotion_cut_off_the_end_is_missed(self, ledger: Ledger) -> None:
        promoted(ledger, decision(adapter(ledger, "1" * 64)))
        back = ledger.promotions.rollback(actor="U1", reason="")
        with ledger.connections.write() as db:
            db.execute("DELETE FROM promotions WHERE promotion_id=?", (back.promotion_id,))

        (fault,) = ledger.promotions.faults()

        assert fault.startswith(f"promotion {back.promotion_id}: the rollback of") and fault.endswith("is gone")

    def test_only_a_promote_decision_about_the_serving_champion_goes_live(self, ledger: Ledger) -> None:
        one, two = adapter(ledger, "1" * 64), adapter(ledger, "2" * 64)
        refused = ledger.promotions.decide(decision(one, verdict="REFUSE"), run_id=None, actor="gate")
        good = ledger.promotions.decide(decision(one), run_id=None, actor="gate")
        stale = ledger.promotions.decide(decision(two), run_id=None, actor="gate")
        with pytest.raises(GateSaidNo, match="REFUSE"):
            ledger.promotions.promote(refused, actor="U1", reason="")
        ledger.promotions.promote(good, actor="gate", reason="")

        with pytest.raises(GateSaidNo, match="serves now"):
            ledger.promotions.promote(stale, actor="gate", reason="")

    def test_a_changed_decision_breaks_the_chain(self, ledger: Ledger) -> None:
        for digest in ("1" * 64, "2" * 64):
            ledger.promotions.decide(decision(adapter(ledger, digest), verdict="HOLD"), run_id=None, actor="gate")
        assert ledger.verify() == ()

        with ledger.connections.write() as db:
            db.execute(
                "UPDATE decisions SET body = replace(body, 'because', 'because I said so') WHERE decision_id = 1"
            )

        assert ledger.verify() == ("decision 1: the chain is broken here",)

    def test_a_ledger_of_before_the_chains_is_chained_as_it_stands(self, tmp_path: Path) -> None:
        old = Ledger(tmp_path / "old.db")
        made = old.promotions.decide(decision(adapter(old, "1" * 64)), run_id=None, actor="gate")
        old.promotions.promote(made, actor="gate", reason="")
        with old.connections.write() as db:
            stored = old.promotions.decision(made)
            body = json.loads(json.dumps(asdict(stored)))
            db.execute("UPDATE decisions SET form=1, digest=?", (decision_digest(body, "", None),))
            db.execute("ALTER TABLE decisions DROP COLUMN form")
            db.execute("ALTER TABLE promotions DROP COLUMN digest")
            db.execute("ALTER TABLE scorecards DROP COLUMN template_digest")
            db.execute("DELETE FROM _sqlite_migrations WHERE name='m004_chained_promotions'")
        old.close()

        migrated = Ledger(tmp_path / "old.db")

        assert migrated.verify() == () and migrated.promotions.champion()
        with migrated.connections.write() as db:
            db.execute("UPDATE promotions SET actor='somebody'")
        assert migrated.verify() == ("promotion 1: the chain is broken here",)

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ("UPDATE decisions SET verdict='PROMOTE', body=replace(body, 'REFUSE', 'PROMOTE') WHERE decision_id=2", "decision 2: the chain is broken"),
            ("UPDATE decisions SET body=replace(body, 'because', 'all is well') WHERE decision_id=1", "decision 1: the chain is broken"),
            ("UPDATE promotions SET adapter_digest=(SELECT max(digest) FROM adapters)", "promotion 1: the chain is broken"),
            ("DELETE FROM promotions", "promotion 1: the promote of"),
        ],
        ids=["a refusal made a promotion", "an older decision", "who serves", "a promotion that is gone"],
    )  # fmt: skip
    @pytest.mark.parametrize("actor", ["gate", "U0ADMIN"])
    def test_nothing_is_promoted_on_a_chain_that_was_changed(
        self, ledger: Ledger, change: str, said: str, actor: str
    ) -> None:
        first, second = adapter(ledger, "1" * 64), adapter(ledger, "2" * 64)
        ledger.promotions.promote(
            ledger.promotions.decide(decision(first), run_id=None, actor="gate"), actor="gate", reason=""
        )
        refused = ledger.promotions.decide(decision(second, first, verdict="REFUSE"), run_id=None, actor="gate")
        good = ledger.promotions.decide(decision(second, first), run_id=None, actor="gate")
        with ledger.connections.write() as db:
            db.execute(change)
        before = ledger.promotions.history()

        with pytest.raises(GateSaidNo, match=f"rests on a ledger that was changed: {said}"):
            ledger.promotions.promote(good, actor=actor, reason="")
        with pytest.raises(GateSaidNo):
            ledger.promotions.promote(refused, actor=actor, reason="")
        assert ledger.promotions.history() == before


class TestTheFile:
    def test_it_is_private_and_a_backup_is_whole(self, ledger: Ledger, tmp_path: Path) -> None:
        ledger.exchanges.open(question())
        ledger.backup(tmp_path / "copy.db")

        copy = Ledger(tmp_path / "copy.db")
        assert copy.verify() == () and len(copy.exchanges.recent()) == 1
        copy.close()
        assert stat.S_IMODE(ledger.path.stat().st_mode) == stat.S_IMODE((tmp_path / "copy.db").stat().st_mode) == 0o600
        with pytest.raises(LedgerError, match="exists already"):
            ledger.backup(tmp_path / "copy.db")

    def test_a_backup_that_fails_leaves_nothing(self, ledger: Ledger, tmp_path: Path) -> None:
        with pytest.raises(LedgerError, match="cannot be written"):
            ledger.backup(Path("/proc/nowhere/copy.db"))
        with (
            ledger.connections.write(),
            pytest.raises(LedgerError, match="no copy was made"),
        ):  # nor within a transaction
            ledger.backup(tmp_path / "copy.db")
        assert not (tmp_path / "copy.db").exists()

    @pytest.mark.parametrize(
        "content",
        [
            b"this is a text file, no database at all, and long enough to be looked at",
            b"SQLite format 3\x00" + b"\x00" * 50,
        ],
        ids=["text", "truncated"],
    )
    def test_a_file_that_is_no_ledger_is_refused_and_left_alone(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "evenkeel.db"
        path.write_bytes(content)

        with pytest.raises(EvenkeelError, match="cannot be used as the ledger"):
            Ledger(path)

        assert path.read_bytes() == content

    def test_another_programs_database_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "evenkeel.db"
        other = sqlite3.connect(path)
        other.execute("CREATE TABLE recipes(name)")
        other.close()

        with pytest.raises(LedgerError, match="another program"):
            Ledger(path)

    def test_a_newer_schema_is_refused(self, ledger: Ledger) -> None:
        with ledger.connections.write() as db:
            db.execute(
                "INSERT INTO _sqlite_migrations(migration_set, name, applied_at) VALUES ('evenkeel', 'm999_future', '2030')"
            )

        with pytest.raises(LedgerError, match="newer Evenkeel"):
            Ledger(ledger.path)

    def test_a_lock_of_another_process_is_a_busy_error_not_a_traceback(
        self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("storage.database.PATIENCE_S", 0.1)
        holder = sqlite3.connect(ledger.path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        other = Ledger.__new__(Ledger)

        with pytest.raises(Busy, match="locked"):
            other.__init__(ledger.path)

        holder.close()

    def test_a_folder_that_cannot_be_written_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")

        with pytest.raises(LedgerError, match="DATA_DIR"):
            Ledger(tmp_path / "file" / "evenkeel.db")

    def test_what_was_committed_survives_sigkill(self, tmp_path: Path) -> None:
        script = (
            "import os, signal, sys; from pathlib import Path; from storage.ledger import Ledger\n"
            "ledger = Ledger(Path(sys.argv[1]))\n"
            "for n in range(50): ledger.inbox.accept(event_id=f'E{n}', kind='question', team='T', channel='C', ts=str(n), payload={})\n"
            "os.kill(os.getpid(), signal.SIGKILL)"
        )
        done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "l.db")], check=False)

        ledger = Ledger(tmp_path / "l.db")

        assert done.returncode == -9
        assert ledger.inbox.depth() == 50 and ledger.verify() == ()
        ledger.close()
