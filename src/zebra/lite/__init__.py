"""Models with onnxruntime, without torch: the distribution zebra-clip-lite."""

from zebra.lite.load import load as load
from zebra.lite.model import LiteModel as LiteModel
