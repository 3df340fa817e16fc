"""Which frames of a file become images."""

MOST = 32


def chosen(count: int) -> list[int]:
    """Of `count` frames, all up to 32, else 32 evenly."""
    return evenly(count, MOST)


def evenly(count: int, most: int) -> list[int]:
    """At most so many of `count` things, the first and the last among them, evenly spread."""
    if count <= most:
        return list(range(count))
    return [round(n * (count - 1) / (most - 1)) for n in range(most)]
