"""The ledger's schema as ordered steps. A step that has landed is never changed; a new one is added.

Source of the mechanism: sqlite-utils `Migrations`.
"""

from sqlite_utils import Database, Migrations

from storage.digests import digest_of

migrations = Migrations("evenkeel")


@migrations()
def m001_line(db: Database) -> None:
    _apply(db, _M001)


@migrations()
def m002_people(db: Database) -> None:
    _apply(db, _M002)


@migrations()
def m003_lesson_sources(db: Database) -> None:
    _apply(db, _LESSON_SOURCES)


@migrations()
def m004_chained_promotions(db: Database) -> None:
    """A decision's link covers who made it and when, too (`form` 2); promotions are chained, those of old as they are."""
    _apply(db, _CHAINED_PROMOTIONS)
    previous = ""
    columns = "promotion_id, kind, adapter_digest, base_digest, decision_id, actor, reason, at, version"
    for number, *said in db.execute(f"SELECT {columns} FROM promotions ORDER BY promotion_id").fetchall():
        previous = digest_of([previous, *said])
        db.execute("UPDATE promotions SET digest=? WHERE promotion_id=?", (previous, number))


@migrations()
def m005_signatures_of_scores(db: Database) -> None:
    db.conn.execute("ALTER TABLE scores ADD COLUMN signature TEXT NOT NULL DEFAULT ''")


@migrations()
def m006_after_promotion(db: Database) -> None:
    _apply(db, _AFTER_PROMOTION)


@migrations()
def m007_looks_of_scores(db: Database) -> None:
    db.conn.execute("ALTER TABLE scores ADD COLUMN look INTEGER NOT NULL DEFAULT 0")


@migrations()
def m008_the_base_again(db: Database) -> None:
    """A run keeps what the base scored the second time as a card of its own."""
    _apply(db, _BASE_AGAIN)


def _apply(db: Database, script: str) -> None:
    for statement in script.split(";\n"):  # not executescript: that would commit half a step
        if statement.strip():
            db.conn.execute(statement)


_M001 = """
CREATE TABLE inbox (
  inbox_id INTEGER PRIMARY KEY, event_id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL,
  team TEXT NOT NULL, channel TEXT NOT NULL, ts TEXT NOT NULL, payload TEXT NOT NULL, received_at TEXT NOT NULL,
  state TEXT NOT NULL DEFAULT 'new' CHECK (state IN ('new','leased','done','failed')),
  lease_until TEXT, fence INTEGER NOT NULL DEFAULT 0, attempts INTEGER NOT NULL DEFAULT 0,
  not_before TEXT, note TEXT NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX inbox_one_question ON inbox(team, channel, ts) WHERE kind = 'question';
CREATE INDEX inbox_open ON inbox(state, inbox_id) WHERE state IN ('new','leased');

CREATE TABLE exchanges (
  exchange_id INTEGER PRIMARY KEY, team TEXT NOT NULL, channel TEXT NOT NULL, thread_ts TEXT NOT NULL, ts TEXT NOT NULL,
  asker TEXT NOT NULL, text TEXT NOT NULL, messages TEXT NOT NULL, language TEXT, source TEXT NOT NULL,
  asked_at TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open','answered','failed')),
  UNIQUE (team, channel, ts)
);
CREATE INDEX exchanges_thread ON exchanges(team, channel, thread_ts, exchange_id);

CREATE TABLE answers (
  answer_id INTEGER PRIMARY KEY, exchange_id INTEGER NOT NULL REFERENCES exchanges ON DELETE CASCADE,
  role TEXT NOT NULL CHECK (role IN ('tuned','base')),
  status TEXT NOT NULL CHECK (status IN ('ok','failed','timeout','skipped')),
  text TEXT NOT NULL, reason TEXT NOT NULL, base_digest TEXT NOT NULL, adapter_digest TEXT,
  template_digest TEXT NOT NULL, prompt_digest TEXT NOT NULL, params TEXT NOT NULL,
  tokens_in INTEGER NOT NULL, tokens_out INTEGER NOT NULL, ttft_s REAL, latency_s REAL, answered_at TEXT NOT NULL,
  UNIQUE (exchange_id, role),
  CHECK (role = 'tuned' OR adapter_digest IS NULL),
  CHECK (status <> 'ok' OR base_digest <> ''),
  CHECK (status = 'ok' OR reason <> '')
);

CREATE TABLE messages (
  message_id INTEGER PRIMARY KEY, exchange_id INTEGER NOT NULL REFERENCES exchanges ON DELETE CASCADE,
  part INTEGER NOT NULL, team TEXT NOT NULL, channel TEXT NOT NULL, ts TEXT,
  state TEXT NOT NULL CHECK (state IN ('intended','posted','final')),
  UNIQUE (exchange_id, part), CHECK (state = 'intended' OR ts IS NOT NULL)
);
CREATE UNIQUE INDEX messages_ts ON messages(team, channel, ts) WHERE ts IS NOT NULL;

CREATE TABLE rating_events (
  rating_event_id INTEGER PRIMARY KEY, event_id TEXT NOT NULL UNIQUE, team TEXT NOT NULL, channel TEXT NOT NULL,
  ts TEXT NOT NULL, user TEXT NOT NULL, reaction TEXT NOT NULL, sign INTEGER NOT NULL CHECK (sign IN (-1,0,1)),
  action TEXT NOT NULL CHECK (action IN ('add','remove')), event_ts TEXT NOT NULL,
  role TEXT NOT NULL CHECK (role IN ('customer','agent','admin','unknown')), source TEXT NOT NULL, stored_at TEXT NOT NULL
);
CREATE INDEX rating_events_fold ON rating_events(team, channel, ts, user, reaction, event_ts, rating_event_id);
CREATE VIEW ratings AS
  SELECT m.exchange_id, e.user, e.role, e.reaction, e.sign, e.event_ts
  FROM rating_events e JOIN messages m ON (m.team, m.channel, m.ts) = (e.team, e.channel, e.ts)
  WHERE e.action = 'add' AND e.sign <> 0 AND NOT EXISTS (
    SELECT 1 FROM rating_events l
    WHERE (l.team, l.channel, l.ts, l.user, l.reaction) = (e.team, e.channel, e.ts, e.user, e.reaction)
      AND (l.event_ts, l.rating_event_id) > (e.event_ts, e.rating_event_id));

CREATE TABLE corrections (
  correction_id INTEGER PRIMARY KEY, exchange_id INTEGER NOT NULL REFERENCES exchanges ON DELETE CASCADE,
  author TEXT NOT NULL, role TEXT NOT NULL, text TEXT NOT NULL CHECK (text <> ''), at TEXT NOT NULL
);

CREATE TABLE imports (
  import_id INTEGER PRIMARY KEY, file TEXT NOT NULL, file_digest TEXT NOT NULL, columns TEXT NOT NULL,
  rows INTEGER NOT NULL, added INTEGER NOT NULL, known INTEGER NOT NULL, actor TEXT NOT NULL, at TEXT NOT NULL
);
CREATE TABLE tickets (
  content_digest TEXT PRIMARY KEY, import_id INTEGER NOT NULL REFERENCES imports ON DELETE CASCADE,
  ticket_id TEXT NOT NULL, conversation_id TEXT NOT NULL, question TEXT NOT NULL, answer TEXT NOT NULL,
  category TEXT NOT NULL, language TEXT NOT NULL, approved INTEGER NOT NULL, created_at TEXT NOT NULL
);

CREATE TABLE datasets (
  digest TEXT PRIMARY KEY, path TEXT NOT NULL, manifest TEXT NOT NULL, built_at TEXT NOT NULL
);
CREATE TABLE adapters (
  digest TEXT PRIMARY KEY, base_digest TEXT NOT NULL, dataset_digest TEXT NOT NULL, path TEXT NOT NULL,
  recipe TEXT NOT NULL, run_id INTEGER REFERENCES runs, stats TEXT NOT NULL, created_at TEXT NOT NULL
);

CREATE TABLE runs (
  run_id INTEGER PRIMARY KEY, reason TEXT NOT NULL, requested_by TEXT NOT NULL, requested_at TEXT NOT NULL,
  overrides TEXT NOT NULL, channel TEXT, message_ts TEXT,
  state TEXT NOT NULL DEFAULT 'requested'
    CHECK (state IN ('requested','building','training','scoring','decided','failed','cancelled')),
  lease_owner TEXT, lease_until TEXT, fence INTEGER NOT NULL DEFAULT 0, cancel_requested INTEGER NOT NULL DEFAULT 0,
  dataset_digest TEXT, adapter_digest TEXT, decision_id INTEGER, progress TEXT NOT NULL DEFAULT '{}',
  error TEXT NOT NULL DEFAULT '', started_at TEXT, finished_at TEXT
);
CREATE UNIQUE INDEX runs_one_active ON runs((1)) WHERE state IN ('requested','building','training','scoring');
CREATE TABLE run_events (
  run_event_id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL REFERENCES runs, at TEXT NOT NULL,
  stage TEXT NOT NULL, text TEXT NOT NULL, data TEXT NOT NULL
);

CREATE TABLE scores (
  key TEXT PRIMARY KEY, base_digest TEXT NOT NULL, adapter_digest TEXT, benchmark TEXT NOT NULL, metric TEXT NOT NULL,
  domain TEXT NOT NULL, direction TEXT NOT NULL, unit TEXT NOT NULL, value REAL NOT NULL, stderr REAL NOT NULL,
  n INTEGER NOT NULL, chance REAL, seconds REAL NOT NULL, items TEXT NOT NULL, scored_at TEXT NOT NULL
);
CREATE TABLE scorecards (
  scorecard_id INTEGER PRIMARY KEY, run_id INTEGER REFERENCES runs, subject TEXT NOT NULL
    CHECK (subject IN ('base','champion','candidate')),
  base_digest TEXT NOT NULL, adapter_digest TEXT, suite_digest TEXT NOT NULL, score_keys TEXT NOT NULL, at TEXT NOT NULL,
  UNIQUE (run_id, subject)
);

CREATE TABLE decisions (
  decision_id INTEGER PRIMARY KEY, run_id INTEGER REFERENCES runs, verdict TEXT NOT NULL
    CHECK (verdict IN ('PROMOTE','REFUSE','HOLD')),
  body TEXT NOT NULL, previous TEXT NOT NULL, digest TEXT NOT NULL UNIQUE, actor TEXT NOT NULL, at TEXT NOT NULL
);
CREATE TABLE promotions (
  promotion_id INTEGER PRIMARY KEY, kind TEXT NOT NULL CHECK (kind IN ('promote','rollback')),
  adapter_digest TEXT REFERENCES adapters, base_digest TEXT NOT NULL, decision_id INTEGER REFERENCES decisions,
  actor TEXT NOT NULL, reason TEXT NOT NULL, at TEXT NOT NULL, version INTEGER NOT NULL,
  confirmed TEXT NOT NULL DEFAULT '', confirmed_at TEXT,
  CHECK (kind = 'rollback' OR (adapter_digest IS NOT NULL AND decision_id IS NOT NULL))
);
CREATE TABLE reports (
  run_id INTEGER PRIMARY KEY REFERENCES runs, view TEXT NOT NULL, html_path TEXT NOT NULL, png_path TEXT NOT NULL,
  at TEXT NOT NULL
);
CREATE TABLE audit (
  audit_id INTEGER PRIMARY KEY, at TEXT NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL, detail TEXT NOT NULL
);
"""

_M002 = """
ALTER TABLE inbox ADD COLUMN asker TEXT NOT NULL DEFAULT '';
ALTER TABLE inbox ADD COLUMN stop_by TEXT NOT NULL DEFAULT '';
CREATE INDEX inbox_asked ON inbox(received_at, channel, asker) WHERE kind = 'question';
CREATE INDEX inbox_place ON inbox(team, channel, ts);
CREATE TABLE inbox_history (
  inbox_history_id INTEGER PRIMARY KEY, inbox_id INTEGER NOT NULL REFERENCES inbox ON DELETE CASCADE,
  at TEXT NOT NULL, fence INTEGER NOT NULL, what TEXT NOT NULL, note TEXT NOT NULL
);
CREATE INDEX inbox_history_item ON inbox_history(inbox_id);
CREATE TABLE seen_requests (signature TEXT PRIMARY KEY, at TEXT NOT NULL);

ALTER TABLE exchanges ADD COLUMN shadowed INTEGER NOT NULL DEFAULT 0;
UPDATE exchanges SET shadowed=1 WHERE exchange_id IN (SELECT exchange_id FROM answers WHERE role='base');
CREATE INDEX exchanges_unshadowed ON exchanges(exchange_id) WHERE shadowed = 0;
CREATE INDEX exchanges_asker ON exchanges(asker);
CREATE INDEX exchanges_asked ON exchanges(asked_at);
ALTER TABLE messages ADD COLUMN kind TEXT NOT NULL DEFAULT 'post' CHECK (kind IN ('post','stream'));
CREATE TABLE threads (
  team TEXT NOT NULL, channel TEXT NOT NULL, thread_ts TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('bot','waiting','person','resolved')),
  person TEXT NOT NULL, note_ts TEXT, at TEXT NOT NULL, PRIMARY KEY (team, channel, thread_ts)
);
CREATE TABLE notices (
  key TEXT PRIMARY KEY, channel TEXT NOT NULL, ts TEXT, at TEXT NOT NULL
);
CREATE TABLE erasures (
  erasure_id INTEGER PRIMARY KEY, at TEXT NOT NULL, actor TEXT NOT NULL, receipt TEXT NOT NULL
);

CREATE TABLE reasons (
  reason_id INTEGER PRIMARY KEY, exchange_id INTEGER NOT NULL REFERENCES exchanges ON DELETE CASCADE,
  user TEXT NOT NULL, role TEXT NOT NULL, reason TEXT NOT NULL, at TEXT NOT NULL, UNIQUE (exchange_id, user)
);
ALTER TABLE corrections ADD COLUMN removed_at TEXT;
ALTER TABLE corrections ADD COLUMN started_from TEXT NOT NULL DEFAULT 'tuned';
CREATE INDEX corrections_exchange ON corrections(exchange_id);
CREATE TABLE taught (
  taught_id INTEGER PRIMARY KEY, team TEXT NOT NULL, channel TEXT NOT NULL, thread_ts TEXT NOT NULL, ts TEXT NOT NULL,
  question TEXT NOT NULL CHECK (question <> ''), answer TEXT NOT NULL CHECK (answer <> ''), language TEXT,
  asker TEXT NOT NULL, author TEXT NOT NULL, teacher TEXT NOT NULL, role TEXT NOT NULL, at TEXT NOT NULL, removed_at TEXT
);
CREATE UNIQUE INDEX taught_once ON taught(team, channel, ts) WHERE removed_at IS NULL;
CREATE TABLE picks (
  pick_id INTEGER PRIMARY KEY, exchange_id INTEGER NOT NULL REFERENCES exchanges ON DELETE CASCADE,
  reviewer TEXT NOT NULL, role TEXT NOT NULL, first TEXT NOT NULL CHECK (first IN ('tuned','base')),
  verdict TEXT NOT NULL CHECK (verdict IN ('tuned','base','both','neither','skip')), at TEXT NOT NULL,
  UNIQUE (exchange_id, reviewer)
);

CREATE TABLE thresholds (
  base_digest TEXT NOT NULL, adapter_digest TEXT NOT NULL, value REAL, body TEXT NOT NULL, at TEXT NOT NULL,
  PRIMARY KEY (base_digest, adapter_digest)
);
CREATE TABLE correction_checks (
  correction_id INTEGER NOT NULL REFERENCES corrections ON DELETE CASCADE, adapter_digest TEXT NOT NULL,
  passed INTEGER NOT NULL CHECK (passed IN (0,1)), similarity REAL NOT NULL, at TEXT NOT NULL,
  PRIMARY KEY (correction_id, adapter_digest)
);
"""

# A conversation that is known before this step has no beginning: the time holdout must not move it (docs/decisions/0009).
_LESSON_SOURCES = """
ALTER TABLE imports ADD COLUMN format TEXT NOT NULL DEFAULT '';
ALTER TABLE imports ADD COLUMN left_out INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tickets ADD COLUMN customer TEXT NOT NULL DEFAULT '';
ALTER TABLE tickets ADD COLUMN agent TEXT NOT NULL DEFAULT '';
ALTER TABLE tickets ADD COLUMN row TEXT NOT NULL DEFAULT '';
CREATE TABLE conversations (conversation_id TEXT PRIMARY KEY, began TEXT NOT NULL);
INSERT INTO conversations
  SELECT conversation_id, '' FROM tickets UNION SELECT team || ':' || channel || ':' || thread_ts, '' FROM exchanges
  UNION SELECT team || ':' || channel || ':' || thread_ts, '' FROM taught;
CREATE TABLE exclusions (
  exclusion_id INTEGER PRIMARY KEY, person TEXT NOT NULL, actor TEXT NOT NULL, at TEXT NOT NULL,
  undone_by TEXT, undone_at TEXT
);
CREATE UNIQUE INDEX exclusions_once ON exclusions(person) WHERE undone_at IS NULL;
CREATE TABLE contact_verdicts (
  contact_verdict_id INTEGER PRIMARY KEY, contact TEXT NOT NULL, verdict TEXT NOT NULL CHECK (verdict IN ('allow','deny')),
  actor TEXT NOT NULL, at TEXT NOT NULL
);
"""

_CHAINED_PROMOTIONS = """
ALTER TABLE decisions ADD COLUMN form INTEGER NOT NULL DEFAULT 1 CHECK (form IN (1,2));
ALTER TABLE promotions ADD COLUMN digest TEXT NOT NULL DEFAULT '';
ALTER TABLE scorecards ADD COLUMN template_digest TEXT NOT NULL DEFAULT '';
"""

_AFTER_PROMOTION = """
ALTER TABLE promotions ADD COLUMN percent INTEGER NOT NULL DEFAULT 100 CHECK (percent BETWEEN 1 AND 100);
CREATE TABLE watches (
  watch_id INTEGER PRIMARY KEY, promotion_id INTEGER REFERENCES promotions,
  kind TEXT NOT NULL,
  verdict TEXT NOT NULL CHECK (verdict IN ('watching','rollback','graduated','alert')),
  said TEXT NOT NULL, seen TEXT NOT NULL, at TEXT NOT NULL
);
CREATE INDEX watches_of ON watches(kind, promotion_id, watch_id);
CREATE TRIGGER watches_kept BEFORE UPDATE ON watches BEGIN SELECT RAISE(ABORT, 'watches are never changed'); END;
CREATE UNIQUE INDEX watches_graduate_once ON watches(promotion_id) WHERE verdict = 'graduated'
"""

_BASE_AGAIN = """
CREATE TABLE scorecards_new (
  scorecard_id INTEGER PRIMARY KEY, run_id INTEGER REFERENCES runs, subject TEXT NOT NULL
    CHECK (subject IN ('base','champion','candidate','again')),
  base_digest TEXT NOT NULL, adapter_digest TEXT, suite_digest TEXT NOT NULL, score_keys TEXT NOT NULL, at TEXT NOT NULL,
  template_digest TEXT NOT NULL DEFAULT '',
  UNIQUE (run_id, subject)
);
INSERT INTO scorecards_new SELECT scorecard_id, run_id, subject, base_digest, adapter_digest, suite_digest, score_keys, at,
  template_digest FROM scorecards;
DROP TABLE scorecards;
ALTER TABLE scorecards_new RENAME TO scorecards
"""
