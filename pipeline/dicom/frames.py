"""Which frames of a file become images."""

MOST = 32


def chosen(count: int) -> list[int]:
    """Of `count` frames, all up to 32, else 32 evenly."""
    if count <= MOST:
        return list(range(count))
    return [round(n * (count - 1) / (MOST - 1)) for n in range(MOST)]
