"""Compare: evaluates several encoders on the same images, and changes nothing in the collection.

One shard, as an evaluation is: a worker that is stopped or killed leaves nothing, and the next one
begins anew.
"""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING

from pydantic import Field

from pipeline.base.blobs import preview_name
from pipeline.base.errors import InvalidQuery
from pipeline.base.identity import point_id
from pipeline.base.states import JobState
from pipeline.ledger import Progress
from pipeline.messages import Message, Problem
from pipeline.messages.comparisons import (
    ComparedModel,
    ComparedPair,
    ComparisonReport,
    ComparisonRequest,
    ModelChoice,
)
from pipeline.operations.base import JobRun, Operation, Plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from pipeline.encoding.encoder import Encoder
    from pipeline.evaluation.collected import Collected
    from pipeline.ledger import WorkItem
    from pipeline.operations.context import Context
