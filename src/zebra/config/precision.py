"""Number formats of a model at inference."""

from typing import Literal

InferencePrecision = Literal["fp32", "bf16", "fp16", "int8"]
