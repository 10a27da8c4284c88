"""A hand is cut the same way in every run: whole clusters, six slices, near equal."""

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from eval.sequential import LOOKS
from eval.slices import rows_by_look, slices

ARC_EASY = (0, 5, 4, 3, 5, 2, 1, 2, 4, 1, 3, 0)


@given(st.lists(st.integers(1, 4), min_size=24, max_size=80), st.randoms(use_true_random=False))
def test_whole_clusters_in_six_near_equal_slices_whatever_the_order(sizes: list[int], draw: random.Random) -> None:
    clusters = [f"c{number}" for number, size in enumerate(sizes) for _ in range(size)]
    cut = dict(zip(clusters, slices("arc_easy", clusters), strict=True))
    held = Counter(cut[name] for name in clusters)

    assert set(held) == set(range(LOOKS))
    assert all(abs(count - len(clusters) / LOOKS) <= max(sizes) for count in held.values())
    draw.shuffle(clusters)
    assert slices("arc_easy", clusters) == tuple(cut[name] for name in clusters)


def test_a_slice_follows_from_the_names_alone() -> None:
    names = [f"q{number}" for number in range(12)]

    assert slices("arc_easy", names) == ARC_EASY
    assert slices("piqa", names) != ARC_EASY


def test_what_gives_a_slice_fewer_than_two_clusters_is_not_sliced() -> None:
    assert slices("x", [str(number) for number in range(11)]) == ()
    assert slices("x", ["big"] * 60 + [str(number) for number in range(40)]) == ()
    assert slices("x", []) == ()


def test_each_part_is_sliced_for_itself_and_all_or_none_are() -> None:
    rows = {part: [{"id": f"{part}{number}"} for number in range(24)] for part in ("a", "b")}

    looks = rows_by_look(rows)

    assert [[len(some) for some in look.values()] for look in looks] == [[4, 4]] * LOOKS
    assert {row["id"] for look in looks for row in look["a"]} == {row["id"] for row in rows["a"]}
    assert [row["id"][1:] for row in looks[0]["a"]] != [row["id"][1:] for row in looks[0]["b"]]
    assert rows_by_look(rows | {"c": [{"id": "c1"}, {"id": "c2"}]}) == ()
