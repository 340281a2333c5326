"""Text: files in, tokens out. Bytes as they are, or what a tokenizer file makes of them (extra `tokenizers`). Tokens [time], int64."""

import gzip
import hashlib
import zlib
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor


class Tokenizer(Protocol):
    """Text to tokens and back."""

    vocabulary: int
    name: str  # "bytes", or what tells its file from others

    def encode(self, text: bytes) -> Tensor: ...

    def decode(self, tokens: list[int]) -> bytes: ...


class Bytes:
    """Each byte is a token: 256 of them, any text, nothing to learn."""

    vocabulary = 256
    name = "bytes"

    def encode(self, text: bytes) -> Tensor:
        return torch.from_numpy(np.frombuffer(text, np.uint8).astype(np.int64))

    def decode(self, tokens: list[int]) -> bytes:
        return bytes(tokens)


class TokenizerFile:
    """A `tokenizer.json` as Hugging Face's tokenizers write it; text must be UTF-8."""

    def __init__(self, path: str | Path) -> None:
        try:
            from tokenizers import Tokenizer as Fast
        except ImportError as error:
            raise ImportError("--tokenizer: tokenizers is missing; pip install 'ammon[tokenizers]', or read bytes.") from error
        if not Path(path).is_file():
            raise FileNotFoundError(f"--tokenizer: there is no file {str(path)!r}; give a tokenizer.json, or leave it out for bytes.")
        content = Path(path).read_bytes()
        try:
            self._fast: Any = Fast.from_buffer(content)
        # the library raises a bare Exception
        except Exception as error:
            raise ValueError(f"--tokenizer: {str(path)!r} is no tokenizer.json ({error}).") from error
        self.vocabulary: int = self._fast.get_vocab_size()
        self.name = "sha256:" + hashlib.sha256(content).hexdigest()

    def encode(self, text: bytes) -> Tensor:
        try:
            words = text.decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"the text is not UTF-8 (byte {error.start}); convert it, or read bytes.") from error
        return torch.tensor(self._fast.encode(words, add_special_tokens=False).ids, dtype=torch.int64)

    def decode(self, tokens: list[int]) -> bytes:
        return str(self._fast.decode(tokens, skip_special_tokens=False)).encode()


def load_text(path: str | Path) -> bytes:
    """A text file, or one packed as `.gz`. FileNotFoundError, OSError, ValueError if it cannot be unpacked or is empty."""
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"load_text: there is no file {str(path)!r}; give a text file.")
    try:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"load_text: {str(path)!r} is no gzip file or is damaged ({error}).") from error
    if not content.strip():
        raise ValueError(f"load_text: {str(path)!r} holds no text; give a file that does.")
    return content
