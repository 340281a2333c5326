"""`ammon cost` as a user types it."""

from pathlib import Path

import pytest

from ammon.cli.main import main


def _run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        main(["cost", *arguments])
    shown = capsys.readouterr()
    return int(left.value.code or 0), shown.out, shown.err


def test_it_prints_what_the_formulas_give_and_where_lines_cross(capsys: pytest.CaptureFixture[str]) -> None:
    from ammon.analysis.cost_blocks import attention
    from ammon.analysis.cost_neural import Inner, neural

    code, out, _ = _run(capsys, "attention", "neural", "--set", "L=64", "--set", "d=32", "--set", "H=2", "--set", "b=8")
    assert code == 0
    assert f"{attention(32, 64).flops:,}" in out
    inner = Inner(heads=2, chunk=8)
    assert f"{neural(32, 64, inner).flops:,}" in out
    first = next(int(line.split("L = ")[1].split()[0].replace(",", "")) for line in out.splitlines() if "fewer FLOPs" in line)
    for length, cheaper in ((first, True), (first - 1, False)):
        assert (neural(32, length, inner).flops < attention(32, length).flops) == cheaper


def test_over_a_symbol_it_prints_a_row_for_each_value_and_draws_a_figure(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    picture = tmp_path / "cost.png"
    code, out, _ = _run(capsys, "mac", "mag", "mal", "gate", "--over", "L=64:4096:4:log", "--per", "token", "--out", str(picture))
    assert code == 0
    assert out.count("\n   64 ") + out.count("\n4,096 ") == 8
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_whole_models_have_rows_and_expressions(capsys: pytest.CaptureFixture[str]) -> None:
    from ammon.analysis.cost import cost
    from ammon.nn.configurations import CONFIGURATIONS, Size
    from ammon.nn.language_model import MemoryTransformer

    sizes = {"d": 32, "L": 64, "H": 2, "depth": 1, "b": 8, "w": 16, "M": 12, "V": 50, "N": 3}
    given = [word for name, value in sizes.items() for word in ("--set", f"{name}={value}")]
    size = Size(dim=32, heads=2, layers=3, near=16, window=16, chunk=8, segment=1, slots=12)
    for name in ("hybrid", "hybrid_surprise", "memory_as_context"):
        code, out, _ = _run(capsys, f"lm-{name.replace('_', '-')}", *given)
        assert code == 0
        expected = cost(MemoryTransformer(50, CONFIGURATIONS[name](size)), 1, 64)
        assert all(f"{number:,}" in out for number in (expected.flops, expected.parameters, expected.state_bytes, expected.traffic))
        assert _run(capsys, f"lm-{name.replace('_', '-')}", "--symbols")[0] == 0


def test_expressions_are_in_the_symbols_that_are_not_set(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = _run(capsys, "attention", "episodic-approximate", "--symbols", "--set", "B=1", "--per", "step")
    assert code == 0
    assert "FLOPs: 4*L*d + 8*d**2 + 4*d" in out
    assert "FLOPs: 8*d**2 + d*(2*M/page + 4*page*probes + 4*page + 2)" in out
    moved = next(line for line in out.split("episodic-approximate")[1].splitlines() if "traffic" in line)
    assert "2*M*bytes*d " not in moved
    assert "probes" in moved


def test_what_is_equal_first_and_cheaper_later_is_said_to_be_cheaper_from_there_on(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    names, over = ("episodic", "episodic-top-k", "episodic-approximate"), ("--over", "M=256,4096", "--out", str(tmp_path / "cost.png"))
    code, out, _ = _run(capsys, *names, "--per", "step", *over)
    assert code == 0
    # 64 slots to each of the best; the slot that the token itself takes is one of them
    assert "episodic-top-k takes fewer FLOPs than episodic from M = 2,047 on." in out
    assert "episodic-approximate takes fewer FLOPs than episodic from M = 149 on." in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["atention"], "did you mean attention"),
        (["--per", "week"], "did you mean sequence"),
        (["--set", "d=1,2"], "one value is needed"),
        (["--set", "d=0"], "at least 1"),
        (["--set", "H=3"], "d must be a multiple of H, got 512 and 3"),
        (["episodic-approximate", "--set", "M=100"], "8 pages of 16 are more than M = 100 slots; take fewer probes"),
        (["--set", "d"], "is needed, got 'd'"),
        (["--over", "Q=1,2"], "did you mean"),
        (["--over", "d=8:64"], "lo:hi:n"),
        (["--set", "L=5", "--over", "L=1,2"], "leave one out"),
        (["--symbols", "--over", "L=1,2"], "leave out --over"),
        (["--over", "L=8,16", "--out", "no/such/folder/x.png"], "no/such/folder"),
    ],
)
def test_wrong_input_is_refused_in_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    code, _, err = _run(capsys, *arguments)
    assert code == 2
    assert words in err
    assert len(err.strip().splitlines()) == 1


def test_layers_and_symbols_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = _run(capsys, "--list")
    assert code == 0
    assert "episodic-top-k: d, L, B, bytes, H, M, s, c, k" in out
