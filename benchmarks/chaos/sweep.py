"""Killed at every write, sync, rename and removal, one after the other: a case for each, exact and repeatable.

A child does one thing in one thread under `strace -e inject=CALL:signal=KILL:when=N`, which kills it as it enters its
N-th CALL: that call does not happen. Then a bot is started anew on what is on disk. First a run that nobody kills shows
which calls there are. Sockets do not count: Python sends by `sendto`.
"""

import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bot.workspace.records import Json
from storage.ledger import Ledger

from .invariants import Asked, outcome
from .jobs import ACKED
from .nursery import Child
from .stage import Stage, is_final

CALLS = ("write", "writev", "pwrite64", "pwritev", "fsync", "fdatasync", "sync_file_range", "truncate", "ftruncate",
         "rename", "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir")  # fmt: skip
ACTS = ("question", "spooled", "rating", "promotion")
PATIENCE_S = 30.0
ATTEMPTS = 4  # at a call that not every run makes: how many pages are touched depends on what is written
Case = tuple[str, int]  # the call, and which of its kind


@dataclass(slots=True, kw_only=True)
class Swept:
    """What one act went through. `left`: cases after which an unfinished adapter folder lay about (harmless)."""

    act: str
    calls: dict[str, int]
    cases: int = 0
    killed: int = 0
    left: int = 0
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        calls = ", ".join(f"{count} {call}" for call, count in self.calls.items())
        said = f"{self.act}: {self.killed} of {self.cases} cases killed ({calls}), {len(self.faults)} faults"
        return "\n  ".join((said, *self.faults[:20]))


def tracing() -> str:
    """Why calls cannot be traced here; empty when they can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    tried = subprocess.run(["strace", "-qq", "-e", "trace=none", "-e", "inject=getppid:signal=KILL:when=1", "true"],
                           capture_output=True, text=True, check=False)  # fmt: skip
    return "" if tried.returncode == 0 else f"strace does not work here: {tried.stderr.strip()[-200:]}"


@dataclass(kw_only=True)
class Scene:
    """One case: a ledger of its own, and what Slack has in store for it."""

    stage: Stage
    act: str
    data: Path
    bodies: list[Json]
    asked: Asked | None

    @property
    def sign(self) -> Path:
        return self.data.with_suffix(".go")

    @property
    def environment(self) -> dict[str, str]:
        return {**self.stage.environment, "DATA_DIR": str(self.data)}

    def start(self) -> Child:
        """The child, wired and waiting for the sign."""
        given: dict[str, Any] = {"name": self.data.name} if self.act == "promotion" else {"bodies": self.bodies}
        child = self.stage.nursery.start(self.act, self.environment, self.stage.log, sign=str(self.sign), **given)
        await_(self.sign.with_suffix(".ready").exists, f"the child that does the {self.act}", child)
        return child

    def acked(self) -> bool:
        return self.sign.exists() and self.sign.stat().st_mtime == ACKED

    def recover(self) -> list[str]:
        """Start anew, as after any crash; the faults that there are then."""
        if self.act == "promotion":
            return self._recover_promotion()
        bodies = [] if self.acked() else self.bodies
        child = self.stage.nursery.start("recovery", self.environment, self.stage.log, bodies=bodies)
        if code := child.wait(PATIENCE_S + 20):
            return [f"the bot that was started anew ended with {code}: {self.stage.log.read_text()[-600:]}"]
        return self.judge()

    def _recover_promotion(self) -> list[str]:
        """What is there must be whole, whichever side of the switch it is on; then the switch can be made."""
        faults = self.judge()
        child = self.start()
        self.sign.touch()
        if child.wait(PATIENCE_S):
            return [*faults, f"the promotion could not be made afterwards: {self.stage.log.read_text()[-600:]}"]
        return [*faults, *self.judge()]

    def judge(self) -> list[str]:
        ledger = Ledger(self.data / "evenkeel.db")
        try:
            found = outcome(self.stage.slack, ledger, [self.asked] if self.asked else [], self.data / "weights")
            missing = ["the answer is missing"] if found.answered < found.questions else []
            return [*found.lost, *found.duplicates, *found.faults, *missing]
        finally:
            ledger.close()


def sweep(stage: Stage, act: str, *, cases: Callable[[Sequence[Case]], Sequence[Case]] = list) -> Swept:
    """Every case of this act, or those that `cases` picks; each begins with a copy of one ledger."""
    template = prepared(stage, act)
    try:
        calls = recorded(set_up(stage, act, template, "first"))
        swept = Swept(act=act, calls=dict(Counter(calls)))
        every = [(call, number) for call, count in swept.calls.items() for number in range(1, count + 1)]
        for call, number in cases(every):
            swept.cases += 1
            for attempt in range(ATTEMPTS):
                scene = set_up(stage, act, template, f"{call}-{number}-{attempt}")
                killed = kill_at(scene, call, number)
                swept.left += any(scene.data.glob("weights/adapters/.draft-*"))
                swept.faults += [f"killed at {call} {number}: {fault}" for fault in scene.recover()]
                shutil.rmtree(scene.data)
                if killed:
                    break
            else:
                swept.faults.append(f"{call} {number}: not killed, {ATTEMPTS} more runs made fewer calls")
            swept.killed += killed
    finally:
        shutil.rmtree(template.data)
    return swept


def prepared(stage: Stage, act: str) -> Scene:
    """A new ledger; where something is to be rated, with one answered question."""
    scene = Scene(stage=stage, act="question", data=stage.folder / f"{act}-template", bodies=[], asked=None)
    Ledger(scene.data / "evenkeel.db").close()
    if act == "rating":
        scene.bodies, scene.asked = question_of(stage)
        if faults := scene.recover():
            raise RuntimeError(f"not even undisturbed: {faults}")
    return scene


def set_up(stage: Stage, act: str, template: Scene, name: str) -> Scene:
    scene = Scene(stage=stage, act=act, data=stage.folder / f"{act}-{name}", bodies=[], asked=template.asked)
    shutil.copytree(template.data, scene.data)
    if act in ("question", "spooled"):
        scene.bodies, scene.asked = question_of(stage)
    elif act == "rating":
        scene.bodies = reaction_to(stage, template.asked)
    return scene


def question_of(stage: Stage) -> tuple[list[Json], Asked]:
    """A new question in Slack and the events of it, which nobody is sent."""
    with held(stage) as bodies:
        word, ts = stage.ask("U0MIA", "C0SUPPORT")
    return bodies, Asked(word=word, channel="C0SUPPORT", thread_ts=ts, ts=ts)


def reaction_to(stage: Stage, asked: Asked | None) -> list[Json]:
    """The event of an agent's 👎 under that answer, which stands in Slack from the first time on."""
    assert asked is not None
    slack = stage.slack
    (answer,) = [m for m in slack.messages(asked.channel, asked.thread_ts) if is_final(m)]
    with held(stage):
        for reaction in answer.get("reactions") or ():
            for user in reaction["users"]:
                slack.unreact(user, asked.channel, answer["ts"], reaction["name"])
    with held(stage) as bodies:
        slack.react("U0ASHA", asked.channel, answer["ts"], "-1")
    return bodies


@contextmanager
def held(stage: Stage) -> Iterator[list[Json]]:
    """The events of what happens inside; they are not delivered."""
    events, bodies = stage.slack._workspace.events, list[Json]()
    stage.slack._now(lambda: setattr(events, "held", bodies))
    try:
        yield bodies
    finally:
        stage.slack._now(lambda: setattr(events, "held", None))


def recorded(scene: Scene) -> list[str]:
    """The calls that this act makes, in order. Raises RuntimeError where another thread writes into the same folder."""
    trace = scene.data.with_suffix(".trace")
    if code := traced(scene, "-y", "-o", str(trace), "-e", f"trace={wanted(CALLS)}"):
        raise RuntimeError(f"undisturbed, it ended with {code}: {scene.stage.log.read_text()[-1000:]}")
    lines = [line.split(maxsplit=1) for line in trace.read_text().splitlines()]
    made = [(thread, call) for thread, call in lines if call.split("(")[0] in CALLS]
    writer = next(thread for thread, call in made if str(scene.data) in call)
    others = [call for thread, call in made if thread != writer and str(scene.data) in call]
    if strange := [
        call for call in others if " = -1 EEXIST" not in call
    ]:  # a folder that is there already is not written
        raise RuntimeError(f"another thread writes, too: {strange[:3]}")
    return [call.split("(")[0] for thread, call in made if thread == writer]


def kill_at(scene: Scene, call: str, number: int) -> bool:
    """Whether it was killed there."""
    inject = f"inject={call}:signal=KILL:when={number}"
    return traced(scene, "-o", "/dev/null", "-e", f"trace={call}", "-e", inject) == -9


def traced(scene: Scene, *wishes: str) -> int:
    """How the child ended that was under this strace from the sign on."""
    child = scene.start()
    strace = subprocess.Popen(["strace", "-f", "-qq", *wishes, "-p", str(child.pid)], stdin=subprocess.DEVNULL)
    try:
        await_(lambda: "TracerPid:\t0\n" not in Path(f"/proc/{child.pid}/status").read_text(), "strace", child)
        scene.sign.touch()
        return child.wait(PATIENCE_S)
    finally:
        child.kill()
        strace.wait(PATIENCE_S)


def wanted(calls: Sequence[str]) -> str:
    """In strace's words; a call that this machine does not know is left out."""
    return ",".join(f"?{call}" for call in calls)


def await_(come: Callable[[], bool], what: str, child: Child) -> None:
    until = time.monotonic() + PATIENCE_S
    while not come():
        if child.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"{what} did not start")
        time.sleep(0.002)
