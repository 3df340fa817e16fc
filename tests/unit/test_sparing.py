"""What a worker does not import, and that whoever needs it gets it."""

import subprocess
import sys
from pathlib import Path

import pytest

from cli.sample import write_encoder

_LOADED = """
import sys
from pipeline.base.settings import Settings
from pipeline.encoding.encoder import Encoder

Encoder.load(Settings(model=sys.argv[1]).encoder).warm_up()
print(sum(name.startswith(("torch._dynamo.", "torch._inductor")) for name in sys.modules))
print("torch.distributed.tensor" in sys.modules)
"""
_ASKED = """
import pipeline.encoding.encoder
import torch

print(torch._dynamo.is_compiling(), torch._dynamo.config.cache_size_limit > 0)
print(torch.compile(lambda x: x + 1, backend="eager")(torch.ones(1)).item())
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "made"
    write_encoder(folder, layers=1, intermediate=8, patch=112)
    return folder


def test_a_worker_embeds_without_the_compiler(model):
    parts, distributed = _run(_LOADED, str(model))
    assert int(parts) < 20, "transformers imports one part of it, with what that needs"
    assert distributed == "False"


def test_the_compiler_comes_when_it_is_asked_for():
    assert _run(_ASKED) == ["False True", "2.0"]


def _run(program: str, *arguments: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()
