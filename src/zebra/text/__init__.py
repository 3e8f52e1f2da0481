"""Text cleaning, and the tokenizers of CLIP, SigLIP and Hugging Face's library."""

from zebra.text.batch_encoding import BatchEncoding as BatchEncoding
from zebra.text.bpe import BPETokenizer as BPETokenizer
from zebra.text.clean import clean_text as clean_text
from zebra.text.hf_tokenizer import HFTokenizer as HFTokenizer
from zebra.text.siglip_tokenizer import SiglipTokenizer as SiglipTokenizer
from zebra.text.tokenizers import Tokenizer as Tokenizer
from zebra.text.tokenizers import find_tokenizer as find_tokenizer
from zebra.text.tokenizers import load_tokenizer as load_tokenizer
