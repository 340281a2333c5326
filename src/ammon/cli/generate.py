"""`ammon generate`: text from a trained language model, its memories carried along; sessions go on where they stopped."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ammon.cli.refusal import Refusal, refusing


def generate(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What `ammon train lm` has left.")],
    prompt: Annotated[str | None, typer.Option(metavar="TEXT|-", help="What is read first; - is the standard input.")] = None,
    tokens: Annotated[int, typer.Option(metavar="N", min=0, help="How many are generated.")] = 200,
    temperature: Annotated[float, typer.Option(metavar="T", help="Of the choice; 0 takes the likeliest.")] = 1.0,
    top_k: Annotated[int | None, typer.Option(metavar="K", help="Choose among so many.", show_default="all")] = None,
    top_p: Annotated[float, typer.Option(metavar="P", help="Choose among the likeliest that together have this share.")] = 1.0,
    seed: Annotated[int, typer.Option(metavar="S", min=0, max=2**63 - 1, help="Of the choices.")] = 0,
    session: Annotated[Path | None, typer.Option(metavar="FILE", help="Go on from it if it is there, and save it at the end.")] = None,
    device: Annotated[str, typer.Option(metavar="DEVICE", help="cpu, cuda, ...")] = "cpu",
) -> None:
    """Read a prompt, then write; what was read and written stays in the model's memories, and in the session."""
    # torch takes a second to import: only once a command runs
    import torch

    from ammon.nn.generation import Choice, Session, draw_tokens, read
    from ammon.recipes.language_model import made_again
    from ammon.saving import load_state, save_state

    with refusing():
        choice = Choice(temperature, top_k, top_p)
        model, tokenizer = made_again(folder)
        try:
            model.to(device)
        except (RuntimeError, AssertionError) as error:
            raise Refusal(f"--device: {device!r} cannot be used ({str(error).splitlines()[0]}).") from error
        state = logits = None
        if session is not None and session.exists():
            held = load_state(session)
            if not isinstance(held, Session) or held.logits.shape != (1, tokenizer.vocabulary):
                raise Refusal(f"--session: {str(session)!r} is no session of this model; name another file.")
            state, logits = held.to(device).state, held.logits.to(device)
        words = sys.stdin.buffer.read() if prompt == "-" else (prompt or "").encode()
        first = tokenizer.encode(words)
        if not len(first) and state is None:
            raise Refusal("--prompt: there is nothing to begin with; give at least one letter, or a --session that has read some.")
        try:
            if len(first):
                logits, state = read(model, first[None].to(device), state)
            assert logits is not None
            assert state is not None
            made: list[int] = []
            written = ""
            generator = torch.Generator().manual_seed(seed)
            for step in draw_tokens(model, logits, state, choice, tokens, generator=generator):
                drawn, logits, state = step
                made.append(int(drawn))
                # what ends in the middle of a letter waits for its end
                text = tokenizer.decode(made).decode(errors="replace").rstrip("\ufffd")
                sys.stdout.write(text[len(written) :])
                sys.stdout.flush()
                written = text
            sys.stdout.write("\n")
        except (ValueError, TypeError) as error:
            if session is None or not session.exists():
                raise
            raise Refusal(f"--session: {str(session)!r} is no session of this model ({error})") from error
        if session is not None:
            save_state(Session(state, logits), session)
