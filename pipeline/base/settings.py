"""Everything an operator can set, read from `KINDRED_…` once, at an entry point, and handed down.

`docs/settings.md` lists every field; a test keeps that table true.
"""

import os
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from pipeline.base.addresses import is_loopback

Pooling = Literal["auto", "mean", "cls", "projection"]
Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["auto", "float32", "bfloat16"]
Auto = Literal["auto"]
Positive = Annotated[int, Field(ge=1)]

_INDEXED = (
    "image_id=keyword,lesion_id=keyword,dx=keyword,dx_type=keyword,"
    "sex=keyword,localization=keyword,age=float"
)

# What examples and people write where a secret should be.
_PLACEHOLDERS = frozenset(
    {"changeme", "change-me", "change_me", "password", "placeholder", "secret"}
)


SHORTEST_KEY = 16  # characters: shorter ones could be guessed


class Settings(BaseSettings):
    """One frozen object. Times are in seconds unless a name says otherwise."""

    model_config = SettingsConfigDict(
        env_prefix="KINDRED_",
        frozen=True,
        extra="ignore",
        env_ignore_empty=True,
        hide_input_in_errors=True,  # it can be a secret, and errors end up in logs
    )

    data: Path = Field(Path(".kindred"), description="Folder for everything that is kept")
    redis_url: str = Field(
        "redis://127.0.0.1:6379/0",
        repr=False,  # it can hold a password
        description="Queues and ledger: redis://, rediss:// or unix://",
    )
    qdrant_url: str | None = Field(
        None, description="Qdrant server; without one the embedded engine is used"
    )
    qdrant_api_key: str | None = Field(None, repr=False, description="Key of the Qdrant server")
    collection: str = Field("kindred", description="Alias of the collection that is read")
    blobs_url: str | None = Field(
        None, description="Uploads, previews and results, as an fsspec URL; default DATA/blobs"
    )
    indexed_fields: str = Field(
        _INDEXED,
        description="Payload indexes, NAME=TYPE, of keyword, integer, float, bool, datetime",
    )
    index_from: int = Field(
        250_000,
        ge=0,
        description="The embedded store builds an index aside when so many images have none; 0: "
        "never, so that search stays exact",
    )

    model: str = Field("facebook/dino-vits16", description="Encoder: a hub name or a folder")
    revision: str | None = Field(None, description="Revision of the encoder on the hub")
    pooling: Pooling = Field(
        "auto",
        description="mean or cls: of the image's tokens; projection: into the space that CLIP and "
        "SigLIP share with text; auto: projection where there is one, else mean",
    )
    device: Device = Field("auto", description="Where the encoder runs")
    dtype: Dtype = Field(
        "auto", description="auto takes bfloat16 where the hardware computes in it"
    )
    # More would not fit into one call of the ledger, if all of a batch were rejected.
    batch_size: Annotated[int, Field(ge=1, le=2048)] | Auto = Field(
        "auto", description="Images a forward pass; auto: 8 on CPU, 256 on GPU"
    )
    lanes: Positive | Auto = Field(
        "auto", description="Shards a worker embeds at once; auto: one a CPU core, 2 on a GPU"
    )
    search_threads: int = Field(4, ge=1, description="Searches a worker answers at once")
    shard_size: Positive | Auto = Field(
        "auto", description="Rows a shard; auto: 64 on CPU, 1,024 on GPU"
    )

    max_upload_mb: int = Field(32, ge=1, description="Largest request body, in MB")
    max_pixels: int = Field(100_000_000, ge=1, description="Largest image, in pixels")
    decode_seconds: float = Field(
        30,
        gt=0,
        description="A worker ends when one image takes longer to decode; less than LEASE_SECONDS",
    )
    preview_pixels: int = Field(512, ge=16, description="Longest side of a preview, in pixels")

    lease_seconds: float = Field(
        60, gt=0, description="A shard without a sign of life is re-sent after"
    )
    heartbeat_seconds: float = Field(3, gt=0, description="How often a worker says that it lives")
    reconcile_seconds: float = Field(2, gt=0, description="How often lost work is looked for")
    search_ttl: float = Field(600, gt=0, description="A search that no worker takes fails after")
    result_ttl: float = Field(3600, gt=0, description="How long results can be fetched")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Log level")

    api_keys: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        repr=False,
        description="Keys of the role admin, separated by commas, beside those of `kindred keys`",
    )
    rate_limit: int = Field(600, ge=0, description="Calls a minute that a key may make; 0: any")
    search_backlog: int = Field(
        200, ge=1, description="Searches that may wait for a worker; more are refused for now"
    )
    sources: str = Field(
        "hub:*",
        description="What may be ingested: folders, and data sets of the hub as hub:ORG/NAME "
        "with *, separated by commas",
    )
    audit_log: str | None = Field(
        None,
        description="Who called what, in JSON lines; - is standard output; "
        "default DATA/logs/audit.jsonl",
    )
    trusted_proxies: str = Field(
        "127.0.0.1",
        description="Addresses of proxies that are believed about the caller's address and https",
    )

    @field_validator("api_keys", mode="before")
    @classmethod
    def _split_keys(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(key.strip() for key in value.split(",") if key.strip())
        return value

    @field_validator("api_keys", "qdrant_api_key")
    @classmethod
    def _refuse_placeholders(cls, value: Any) -> Any:
        for secret in (value,) if isinstance(value, str) else value or ():
            if secret.lower() in _PLACEHOLDERS:
                raise ValueError("this is a placeholder: generate a secret, as docs/deploy.md says")
        return value

    @field_validator("api_keys")
    @classmethod
    def _refuse_short_keys(cls, keys: tuple[str, ...]) -> tuple[str, ...]:
        if any(len(key) < SHORTEST_KEY for key in keys):
            raise ValueError(f"a key needs {SHORTEST_KEY} characters, drawn as docs/deploy.md says")
        return keys

    @field_validator("redis_url")
    @classmethod
    def _refuse_open_redis(cls, url: str) -> str:
        """A Redis that listens for others must ask who they are."""
        parts = urlsplit(url)
        local = parts.scheme == "unix" or is_loopback(parts.hostname or "localhost")
        if not local and not parts.password:
            raise ValueError("a Redis that other machines reach needs a password: redis://:…@host")
        return url

    @property
    def broker_url(self) -> str:
        """The Redis URL in kombu's spelling, which names sockets differently from redis-py."""
        if self.redis_url.startswith("unix://"):
            return "redis+socket://" + self.redis_url.removeprefix("unix://")
        return self.redis_url

    @property
    def keys_file(self) -> Path:
        return self.data.absolute() / "keys.json"

    @property
    def audit_file(self) -> str:
        """A path, or - for standard output."""
        return self.audit_log or str(self.data.absolute() / "logs" / "audit.jsonl")

    def blobs_of(self, collection: str) -> str:
        """Where the blobs of a collection lie: a folder or an fsspec URL."""
        return f"{self.blobs_url or self.data.absolute() / 'blobs'}/{collection}"

    @property
    def index_schema(self) -> dict[str, str]:
        """Payload field name → Qdrant index type."""
        pairs = (item.split("=", 1) for item in self.indexed_fields.split(",") if item.strip())
        return {name.strip(): kind.strip() for name, kind in pairs}

    def environment(self) -> dict[str, str]:
        """The process environment that gives a child process these same settings."""
        values = self.model_dump(mode="json", exclude_none=True)
        values["api_keys"] = ",".join(self.api_keys)
        ours = {f"KINDRED_{name.upper()}": str(value) for name, value in values.items()}
        # A setting that is unset here must not come back from the environment of this process.
        fields = {f"KINDRED_{name.upper()}" for name in type(self).model_fields}
        inherited = {
            name: value for name, value in os.environ.items() if name.upper() not in fields
        }
        return {**inherited, **{name: value for name, value in ours.items() if value}}
