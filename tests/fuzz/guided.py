"""`make fuzz`, second part: libFuzzer breaks files by what part of the path each break reaches."""

import random
import sys
import tempfile
from pathlib import Path

import atheris

OURS = [
    "api.photo_metadata",
    "shared.image_containers",
    "shared.missing_pixels",
    "shared.photograph",
    "shared.photograph_pixels",
]
with atheris.instrument_imports(include=OURS):
    from tests.fuzz.campaign import CPU_LIMIT_S, FINDINGS, pool
    from tests.fuzz.mutators import mutate
    from tests.fuzz.path import put_through

# Larger seeds would only slow it down.
MAX_BYTES = 50_000


def main(seconds: int) -> None:
    """Fuzz for this many seconds; ends the process, with 1 or more if a file did harm, which is then in FINDINGS."""
    FINDINGS.mkdir(exist_ok=True)
    seeds = [data for data in pool() if len(data) <= MAX_BYTES]
    with tempfile.TemporaryDirectory() as folder:
        for number, data in enumerate(dict.fromkeys(seeds)):
            (Path(folder) / str(number)).write_bytes(data)
        options = {
            "max_total_time": seconds,
            "timeout": CPU_LIMIT_S,
            "rss_limit_mb": 1500,
            "max_len": MAX_BYTES,
            "artifact_prefix": f"{FINDINGS}/",
            "print_final_stats": 1,
        }

        def mutate_either_way(data: bytes, max_size: int, seed: int) -> bytes:
            generator = random.Random(seed)
            if generator.random() < 0.5:
                return atheris.Mutate(data, max_size)
            return mutate(generator, data, generator.choice(seeds))[:max_size]

        flags = [f"-{name}={value}" for name, value in options.items()]
        atheris.Setup([sys.argv[0], *flags, folder], put_through, custom_mutator=mutate_either_way)
        atheris.Fuzz()


if __name__ == "__main__":
    main(int(sys.argv[1]))
