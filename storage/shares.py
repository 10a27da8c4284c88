"""How sure a share of votes is. Pure."""

import math

Z = 1.959964  # both sides of 95 %


def wilson(hits: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a share; (0, 1) without any vote: nothing is known.

    Source: Wilson 1927. Unlike the normal approximation it stays within 0 and 1 and is honest for few votes.
    """
    if n == 0:
        return 0.0, 1.0
    share, z2 = hits / n, Z * Z
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, middle - half), min(1.0, middle + half)
