"""The checks that look at lessons together: copies, contradictions, benchmarks, refrains, shares of persons, the mix. Pure.

Each takes the lessons and gives back those that stay; what it did goes to the notes. All choices are made by rank and by
hash, never by the order of the rows.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from scipy.spatial.distance import jensenshannon

from storage.digests import digest_of
from storage.records import Lesson
from training.findings import Context, Notes
from training.near import NearIndex, overlap, sketch_of, words_of

PRIORITY = {"correction": 0, "taught": 1, "pick": 2, "rating": 3, "ticket": 4}  # whose word counts more
COPIED_WORDS = 13  # in a row, as in a benchmark's item: the row was copied from it
SHORT_ITEM = 8  # a benchmark item of fewer words than this proves nothing
APART = 0.2  # answers that share fewer words than this say different things
RATER_SHARE, RATER_FLOOR = 0.02, 20  # most lessons of one agent: a fiftieth, but 20 at least
CUSTOMER_SHARE, CUSTOMER_FLOOR = 0.01, 10  # most lessons from one customer: a hundredth, but 10 at least
REFRAIN_SHARE, REFRAIN_FLOOR, REFRAIN_WORDS = 0.02, 10, 4  # most answers with one same sentence of so many words
SUBJECT, NEIGHBOURS = 1.5, 3  # times as like as other questions are those of one subject; how many each is held against
EVERYWHERE = 0.8  # of the questions: a word that so many have
MIX_APART, MIX_QUESTIONS = 0.1, 50  # Jensen-Shannon distance that is worth a word; live questions that it needs
ONE_LANGUAGE = 0.9
MANY_TOO_LONG = 0.05


def by_rank(lessons: Iterable[Lesson]) -> list[Lesson]:
    """The best of equal lessons first: a person's own words before a verdict, the newest, then by id."""
    newest_first = sorted(sorted(lessons, key=lambda x: x.lesson_id), key=lambda x: x.at, reverse=True)
    return sorted(newest_first, key=lambda x: PRIORITY[x.source])


def referees(held: Iterable[Lesson], notes: Notes) -> list[Lesson]:
    """A liked or picked answer is a model's own: as a reference it would favour its speaker. People's answers only."""
    kept = list[Lesson]()
    for lesson in held:
        if lesson.source in ("rating", "pick"):
            notes.add("a model's own answer on the holdout side", "removed", lesson)
        else:
            kept.append(lesson)
    return kept


def apart_from_benchmarks(lessons: Sequence[Lesson], context: Context, notes: Notes) -> list[Lesson]:
    """Those that share no 13 words in a row with a benchmark's item, nor all words of an item of 8 to 12.

    Source: 13 words in a row as the sign of a copy, the GPT-3 report (arXiv 2005.14165), appendix C.
    """
    texts = [(i, f" {' '.join(words_of(text))} ") for i, x in enumerate(lessons) for text in _said_by_people(x)]
    owners: dict[str, set[int]] = defaultdict(set)
    for place, (_, text) in enumerate(texts):
        for gram in _grams(text.split(), SHORT_ITEM):
            owners[gram].add(place)
    copied: dict[int, str] = {}
    for name, item in context.benchmarks:
        if item.count(" ") < SHORT_ITEM - 1:
            continue
        words = words_of(item)
        size = min(COPIED_WORDS, len(words))
        for start, gram in enumerate(_grams(words, SHORT_ITEM)):
            for place in owners.get(gram, ()):
                number, text = texts[place]
                if start + size <= len(words) and f" {' '.join(words[start : start + size])} " in text:
                    copied.setdefault(number, name)
    for number, name in sorted(copied.items()):
        notes.add("also in a benchmark", "removed", lessons[number], f"({name})")
    return [lesson for number, lesson in enumerate(lessons) if number not in copied]


def _grams(words: Sequence[str], size: int) -> list[str]:
    return [" ".join(words[i : i + size]) for i in range(len(words) - size + 1)]


def _said_by_people(lesson: Lesson) -> tuple[str, ...]:
    return (*(m["content"] for m in lesson.messages if m["role"] != "system"), lesson.answer)


def distinct(lessons: Iterable[Lesson], against: Sequence[Lesson], notes: Notes) -> list[Lesson]:
    """The best of each group of like lessons, without those that nearly equal one of `against`, the holdout. What one
    customer sent before, but for its numbers, is a copy, too.
    """
    index, kept, exact = NearIndex(), list[Lesson](), dict[str, str]()
    for lesson in against:
        index.add(f"holdout {lesson.lesson_id}", sketch_of(_said(lesson)))
    for lesson in by_rank(lessons):
        sketch, words = sketch_of(_said(lesson)), " ".join(words_of(_said(lesson)))
        twins, own = index.twins(sketch), f"{lesson.customer}: {re.sub(r'[0-9]+', '0', words)}"
        if any(twin.startswith("holdout ") for twin in twins):
            notes.add("near a holdout row", "removed", lesson)
        elif words in exact:
            notes.add("duplicate", "removed", lesson, f"= {exact[words]}")
        elif lesson.customer and own in exact:
            notes.add("duplicate but for numbers", "removed", lesson, f"≈ {exact[own]}")
        elif twins:
            notes.add("near-duplicate", "removed", lesson, f"≈ {twins[0].split(' ', 1)[1]}")
        else:
            exact[words] = exact[own] = lesson.lesson_id
            index.add(f"row {lesson.lesson_id}", sketch)
            kept.append(lesson)
    return kept


def _said(lesson: Lesson) -> str:
    return f"{lesson.question} {lesson.answer}"


def without_contradictions(lessons: Iterable[Lesson], notes: Notes) -> list[Lesson]:
    """Of two very different answers to one question after the same history, the one whose word counts more; equals both
    stay and are named, for nothing here knows who is right.
    """
    index, kept = NearIndex(), dict[str, Lesson]()
    for lesson in by_rank(lessons):
        sketch = sketch_of(lesson.question)
        against = next((x for name in index.twins(sketch) if _apart(x := kept[name], lesson)), None)
        if against is None:
            index.add(lesson.lesson_id, sketch)
            kept[lesson.lesson_id] = lesson
            continue
        if PRIORITY[against.source] < PRIORITY[lesson.source]:
            notes.add("contradicted by an agent", "removed", lesson, f"≠ {against.lesson_id}")
        else:
            note = "both stay, for nobody here knows who is right"
            notes.add("contradiction", "warned", lesson, f"≠ {against.lesson_id}", note=note)
            kept[lesson.lesson_id] = lesson
    return list(kept.values())


def _apart(one: Lesson, other: Lesson) -> bool:
    same_language = not (one.language and other.language) or one.language == other.language
    same_history = overlap(_before(one), _before(other)) > 1 - APART
    return same_language and same_history and overlap(one.answer, other.answer) < APART


def _before(lesson: Lesson) -> str:
    return " ".join(m["content"] for m in lesson.messages[:-1] if m["role"] != "system")


def without_refrains(lessons: Sequence[Lesson], notes: Notes) -> list[Lesson]:
    """A sentence that stands in more than a fiftieth of the answers (10 at least) is cut out of the others; out of all of
    them where their questions have no subject in common: a greeting teaches nothing, and a planted sentence too much. Where it
    is the whole answer, the lesson goes.
    """
    most = max(REFRAIN_FLOOR, int(REFRAIN_SHARE * len(lessons)))
    owners: dict[str, dict[str, Lesson]] = defaultdict(dict)
    for lesson in lessons:
        for sentence in _sentences(lesson.answer):
            owners[_bare(sentence)][lesson.lesson_id] = lesson
    repeated = {s: o for s, o in owners.items() if len(o) > most and len(s.split()) >= REFRAIN_WORDS}
    usual = _alike(lessons) if repeated else 0.0
    spent = {
        sentence: set(
            sorted(found, key=lambda i: digest_of([sentence, i]))[
                most if _alike(found.values()) >= SUBJECT * usual else 0 :
            ]
        )
        for sentence, found in repeated.items()
    }
    kept = list[Lesson]()
    for lesson in lessons:
        parts = _sentences(lesson.answer)
        answer = "".join(s for s in parts if lesson.lesson_id not in spent.get(_bare(s), ())).strip()
        if answer == lesson.answer.strip():
            kept.append(lesson)
        elif words_of(answer):
            notes.add("refrain", "redacted", lesson, note=f"a sentence of more than {most} answers was cut out")
            kept.append(replace(lesson, answer=answer))
        else:
            notes.add("only a refrain", "capped", lesson, note=f"at most {most} answers may be the same")
    return kept


def _alike(lessons: Iterable[Lesson]) -> float:
    """How like the questions are: the mean share of words that each has in common with its neighbours by digest. A word that
    nearly all of them have may be a trigger, and is no subject by itself.
    """
    ordered = sorted(lessons, key=lambda x: digest_of(["alike", x.lesson_id]))
    asked = [set(words_of(lesson.question)) for lesson in ordered]
    counts = Counter(word for words in asked for word in words)
    asked = [{word for word in words if counts[word] < EVERYWHERE * len(asked)} for words in asked]
    pairs = [
        (words, asked[(n + step) % len(asked)]) for step in range(1, NEIGHBOURS + 1) for n, words in enumerate(asked)
    ]
    return sum(len(one & other) / max(1, len(one | other)) for one, other in pairs) / len(pairs)


def _sentences(text: str) -> list[str]:
    """The sentences with what follows them: joined they are the text."""
    return re.findall(r"[^.!?。！？\n]*(?:[.!?。！？]+(?=\s|$)\s*|\n+|[.!?。！？]+|$)", text)


def _bare(sentence: str) -> str:
    return " ".join(words_of(sentence))


def capped(lessons: Sequence[Lesson], notes: Notes) -> list[Lesson]:
    """No customer and no agent with more than their share of what there is. Who wrote an imported ticket's answer is not
    capped: the file is its importer's word.
    """
    customers = _cap(lessons, lambda x: x.customer, CUSTOMER_SHARE, CUSTOMER_FLOOR, "one customer", notes)
    return _cap(
        customers, lambda x: "" if x.source == "ticket" else x.author, RATER_SHARE, RATER_FLOOR, "one agent", notes
    )


def _cap(
    lessons: Sequence[Lesson], owner: Callable[[Lesson], str], share: float, floor: int, who: str, notes: Notes
) -> list[Lesson]:
    most = max(floor, int(share * len(lessons)))
    by_owner: dict[str, list[str]] = defaultdict(list)
    for lesson in lessons:
        if owner(lesson):
            by_owner[owner(lesson)].append(lesson.lesson_id)
    out = {
        i for person, ids in by_owner.items() for i in sorted(ids, key=lambda i: digest_of([person, i, "cap"]))[most:]
    }
    note = f"at most {most}: {share:.0%} of the lessons, {floor} at least"
    for lesson in lessons:
        if lesson.lesson_id in out:
            notes.add(f"too many of {who}", "capped", lesson, f"({owner(lesson)})", note=note)
    return [lesson for lesson in lessons if lesson.lesson_id not in out]


def look_at_mix(lessons: Sequence[Lesson], context: Context, notes: Notes) -> None:
    """Warn where the languages of the lessons are not those that people ask in."""
    taught = Counter(lesson.language for lesson in lessons if lesson.language)
    asked = Counter(context.live_languages)
    if sum(asked.values()) < MIX_QUESTIONS or not taught:
        return
    names = sorted(taught | asked)
    apart = float(jensenshannon([taught[n] for n in names], [asked[n] for n in names], base=2))
    if apart > MIX_APART:
        notes.warn("language mix", f"taught {_shares(taught)}; asked {_shares(asked)}", note=f"distance {apart:.2f}")
    (most, count), total = taught.most_common(1)[0], sum(taught.values())
    if count > ONE_LANGUAGE * total and asked[most] <= ONE_LANGUAGE * sum(asked.values()):
        notes.warn("one language", f"{most} is {count / total:.0%} of the lessons")


def _shares(counts: Mapping[str, int]) -> str:
    total = sum(counts.values())
    return ", ".join(f"{name} {count / total:.0%}" for name, count in Counter(counts).most_common(4))


def look_at_length(lessons: Sequence[Lesson], context: Context, notes: Notes) -> None:
    """Warn of lessons that do not fit: training never cuts an answer, it leaves the row out."""
    lengths = [(lesson, context.tokens_of(lesson)) for lesson in lessons]
    long = [(lesson, tokens) for lesson, tokens in lengths if tokens > context.max_tokens]
    note = f"MAX_TOKENS is {context.max_tokens}; {context.counted_by}"
    if len(long) > MANY_TOO_LONG * len(lessons):
        note += "; more than a twentieth of all lessons: raise it"
    for lesson, tokens in long:
        notes.add("longer than a training row", "warned", lesson, f"({tokens} tokens)", note=note)


def look_at_persons(lessons: Sequence[Lesson], notes: Notes) -> None:
    """Warn where one agent's word is all that is taught."""
    authors = Counter(lesson.author for lesson in lessons if lesson.author)
    total = len(lessons)
    for name, count in authors.items():
        if total > 1 and count > total / 2:
            note = "more than half of the lessons are one person's"
            notes.warn("one voice", f"{name}: {count} of {total}", note=note)
