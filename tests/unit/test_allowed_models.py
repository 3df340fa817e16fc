"""Which encoders a caller may name for a comparison."""

from pathlib import Path

import pytest

from pipeline.base.allowed_models import AllowedModels
from pipeline.base.errors import InvalidQuery

OWN = "/srv/own-model"


def refused(allowed: AllowedModels, model: str) -> str:
    with pytest.raises(InvalidQuery) as caught:
        allowed.check_here(model, ("models", 1))
    assert caught.value.path == ("models", 1)
    return str(caught.value)


def test_a_caller_can_name_no_path_that_the_settings_do_not(tmp_path: Path) -> None:
    allowed = AllowedModels.of((str(tmp_path / "models"), "hub:*"), OWN)
    (tmp_path / "models").mkdir()
    for model in ("/etc", "/", str(tmp_path), str(tmp_path / "models-2")):
        assert "KINDRED_MODELS" in refused(allowed, model)
    for model in (f"{tmp_path}/models/../other", "~/model", "./model", "a/b/c", "https://a/b"):
        refused(allowed, model)

    allowed.check_here(str(tmp_path / "models" / "dino"))
    allowed.check_here("facebook/dino-vits16")
    allowed.check_here(OWN)


def test_a_link_out_of_an_allowed_folder_is_followed_before_it_is_judged(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "models" / "link").symlink_to(tmp_path / "elsewhere")

    refused(AllowedModels.of((str(tmp_path / "models"),), OWN), str(tmp_path / "models" / "link"))


def test_a_pattern_names_models_on_the_hub() -> None:
    allowed = AllowedModels.of(("hub:facebook/*",), OWN)
    allowed.check_here("facebook/dino-vits16")
    assert "KINDRED_MODELS" in refused(allowed, "acme/vit")


def test_a_name_on_the_hub_that_is_a_folder_of_the_worker_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "acme" / "vit").mkdir(parents=True)
    allowed = AllowedModels.of(("hub:*",), OWN)
    allowed.check("acme/vit")  # the api cannot know

    refused(allowed, "acme/vit")
