"""Intervals of shares: how sure a figure is that some pictures gave."""

import math

# The normal quantiles of two-sided intervals.
Z_95 = 1.959963984540054
Z_92 = 1.7506860712521692


def wilson_interval(hits: float, images: float) -> tuple[float, float]:
    """Returns the 95 % confidence interval of a share of `hits` in `images`.

    Unlike the plain normal interval it stays within 0 and 1 and holds for few images.
    Source: Wilson, "Probable inference", J. Am. Stat. Assoc. 22 (1927).

    Args:
        hits: 0 to `images`.
        images: More than 0.
    """
    share, z_squared = hits / images, Z_95**2
    scale = 1 + z_squared / images
    centre = (share + z_squared / (2 * images)) / scale
    spread = share * (1 - share) / images + z_squared / (4 * images**2)
    half = Z_95 * math.sqrt(spread) / scale
    return max(0.0, centre - half), min(1.0, centre + half)
