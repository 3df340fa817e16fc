"""What workers know of archives that no job may say: how to be let in, and whom to trust."""

import base64
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from pipeline.base.errors import SourceError


@dataclass(frozen=True)
class Archives:
    """What a worker knows of archives: host, perhaps with a port → "user:password" or "Bearer …".

    `ca` is a PEM file of certificates to trust beside the system's.
    """

    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca: Path | None = None

    def headers_for(self, url: str) -> dict[str, str]:
        place = urlsplit(url)
        found = self.credentials.get(place.netloc) or self.credentials.get(place.hostname or "")
        if found is None:
            return {}
        if not found.startswith(("Bearer ", "Basic ")):
            found = f"Basic {base64.b64encode(found.encode()).decode()}"
        return {"Authorization": found}

    def trust(self) -> ssl.SSLContext:
        """Raises SourceError if the file cannot be read."""
        context = ssl.create_default_context()
        try:
            if self.ca is not None:
                context.load_verify_locations(self.ca)
        except OSError:
            raise SourceError("KINDRED_DICOMWEB_CA cannot be read by the workers.") from None
        return context
