"""Evidence from conversations: LoCoMo's format is read as it is, and the experiment's rows are what counting by hand gives."""

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch

from ammon.cli.main import main
from ammon.datasets.locomo import load_locomo
from ammon.experiments import episodic_evidence
from ammon.experiments.laboratory import EXPERIMENTS

TOPICS = ("pottery", "sailing", "violin", "bakery", "marathon", "telescope")


def talk(name: str, first: str, second: str, topics: tuple[str, ...]) -> dict[str, Any]:
    """Sessions of four turns: the topic is named in the first, and answered, without a word in common, in the second."""
    conversation: dict[str, Any] = {"speaker_a": first, "speaker_b": second}
    questions = []
    for number, topic in enumerate(topics, start=1):
        said = (f"I began with {topic} lately.", f"Good, it costs {number}0 euros.", f"Weather number {number} is grey.", "Goodbye then.")
        conversation[f"session_{number}_date_time"] = f"1:5{number} pm on {number} May, 2023"
        conversation[f"session_{number}"] = [
            {"speaker": (second, first)[place % 2], "dia_id": f"D{number}:{place}", "text": text}
            for place, text in enumerate(said, start=1)
        ]
        questions += [
            {"question": f"What did {first} begin, {topic}?", "answer": "", "evidence": [f"D{number}:1"], "category": 4},
            {"question": f"What of {topic} on {number} May 2023?", "answer": "", "evidence": [f"D{number}:1; D{number}:2"], "category": 2},
            {"question": f"What did {second} begin, {topic}?", "answer": "", "evidence": [f"D{number}:1"], "category": 5},
        ]
    questions.append({"question": "Who knows?", "answer": "", "evidence": ["D99:1"], "category": 1})
    return {"sample_id": name, "conversation": conversation, "qa": questions}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    samples = [talk("one", "Ann", "Bob", TOPICS), talk("two", "Cleo", "Dan", TOPICS[::-1])]
    samples[0]["conversation"]["session_1"][2]["blip_caption"] = "a grey sky"
    path = tmp_path_factory.mktemp("locomo") / "talks.json.gz"
    path.write_bytes(gzip.compress(json.dumps(samples).encode()))
    return str(path)


def test_conversations_are_read_with_times_captions_and_evidence_that_is_there(data: str) -> None:
    one, two = load_locomo(data)
    assert (one.name, two.name, len(one.turns)) == ("one", "two", 24)
    first, pictured = one.turns[0], one.turns[2]
    assert (first.id, first.session, first.speaker, first.text) == ("D1:1", "session_1", "Ann", "I began with pottery lately.")
    assert first.time == datetime(2023, 5, 1, 13, 51, tzinfo=UTC)
    assert pictured.text == "Weather number 1 is grey. [shares a grey sky]"
    # several ids in one text, and a question whose evidence is not there
    assert one.questions[1].evidence == ("D1:1", "D1:2")
    assert [q.category for q in one.questions[:3]] == ["single-hop", "temporal", "adversarial"]
    assert len(one.questions) == 18


def test_sessions_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    sample = talk("many", "Ann", "Bob", tuple(f"topic{n}" for n in range(1, 10)))
    for name in [name for name in sample["conversation"] if name.startswith("session_2")]:
        sample["conversation"][name.replace("session_2", "session_12")] = sample["conversation"].pop(name)
    path = tmp_path / "plain.json"
    path.write_text(json.dumps([sample]))
    [found] = load_locomo(path)
    assert list(dict.fromkeys(turn.session for turn in found.turns))[-2:] == ["session_9", "session_12"]


@pytest.mark.parametrize("text", ['{"not": "a list of conversations"}', "[1, 2]", "no JSON", '[{"qa": []}]'])
def test_another_file_is_refused_by_name(text: str, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"other\.json is no file of LoCoMo"):
        load_locomo(path)


def test_rows_are_those_of_counting_by_hand(data: str) -> None:
    point = {"method": "bm25", "data": data, "embedder": "hashing", "trials": 200}
    rows = {str(row["category"]): row for row in episodic_evidence.measure(point, generator=torch.Generator().manual_seed(0))}
    assert set(rows) == {"all", "temporal", "single-hop", "adversarial"}
    assert [rows[name]["questions"] for name in ("all", "temporal", "single-hop", "adversarial")] == [24, 12, 12, 12]
    # one turn holds the topic; of the others each holds no word of the question
    assert rows["single-hop"]["mrr"] == rows["temporal"]["mrr"] == 1
    # 24 turns: each is among the first 50, whatever its score
    assert all(row["r50"] == 1 for row in rows.values())
    assert rows["single-hop"]["r5"] == 1
    assert all(row["weights"] is None for row in rows.values())


def test_context_brings_up_the_answer_that_shares_no_word_with_the_question_and_not_where_turns_are_shuffled(data: str) -> None:
    grid = {"method": ("fusion", "fusion_spread", "fusion_spread_shuffled"), "data": (data,)}
    table = episodic_evidence.run(grid, trials=100, workers=1).to_pylist()
    found = {row["method"]: row for row in table if row["category"] == "temporal"}
    assert found["fusion_spread"]["r5"] == 1 > found["fusion"]["r5"]
    assert found["fusion_spread"]["r5"] > found["fusion_spread_shuffled"]["r5"]
    assert found["fusion"]["gain"] == found["fusion"]["gain_low"] == found["fusion"]["gain_high"] == 0
    assert all(row["r10_low"] <= row["r10"] <= row["r10_high"] and row["gain_low"] <= row["gain"] <= row["gain_high"] for row in table)


def test_weights_are_chosen_without_the_conversation_that_is_asked(data: str, tmp_path: Path) -> None:
    """Labels of one conversation that say the opposite leave its own weights as they are."""
    samples = json.loads(gzip.decompress(Path(data).read_bytes()))
    weights = []
    for evidence in ("D1:1", "D6:4"):
        for asked in samples[0]["qa"]:
            asked["evidence"] = [evidence]
        path = tmp_path / f"{evidence[1]}.json"
        path.write_text(json.dumps(samples))
        point = {"method": "fusion_spread", "data": str(path), "embedder": "hashing", "trials": 10}
        [row] = [r for r in episodic_evidence.measure(point, generator=torch.Generator()) if r["category"] == "all"]
        weights.append(str(row["weights"]).split(" | "))
    assert weights[0][0] == weights[1][0]


def test_rows_are_the_same_again_and_a_figure_comes_of_any_part(data: str, tmp_path: Path) -> None:
    grid = {"method": ("cosine", "fusion_spread_shuffled"), "data": (data,)}
    table = episodic_evidence.run(grid, trials=50, seed=3, workers=1)
    again = episodic_evidence.run({**grid, "method": ("fusion_spread_shuffled",)}, trials=50, seed=3, workers=1)
    assert table.slice(table.num_rows - again.num_rows).equals(again)
    for number, some in enumerate((table, again.slice(0, 1))):
        figure = EXPERIMENTS["episodic_evidence"].draw(some)
        figure.savefig(tmp_path / f"{number}.png")
        assert all(axes.get_xlabel() and axes.get_ylabel() for axes in figure.axes)
        assert (tmp_path / f"{number}.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        ({}, "data=FILE"),
        ({"data": ("nowhere.json",)}, r"no file nowhere\.json"),
        ({"method": ("bm52",)}, "bm25"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(grid: dict[str, tuple[str, ...]], said: str) -> None:
    with pytest.raises(ValueError, match=said) as refused:
        episodic_evidence.run(grid, workers=1)
    assert "\n" not in str(refused.value)


def test_one_conversation_is_too_few(tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    path.write_text(json.dumps([talk("one", "Ann", "Bob", TOPICS)]))
    with pytest.raises(ValueError, match="at least 2 are needed, got 1"):
        episodic_evidence.run({"data": (str(path),)}, workers=1)


def test_the_command_line_asks_for_the_file_and_prints_the_rows(data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["run", "episodic_evidence", "--out", str(tmp_path / "none")])
    err = capsys.readouterr().err
    assert "data=FILE" in err
    assert "Traceback" not in err
    given = ["--grid", f"data={data}", "--grid", "method=bm25,fusion", "--trials", "50", "--workers", "1", "--out", str(tmp_path / "some")]
    with pytest.raises(SystemExit, match="0"):
        main(["run", "episodic_evidence", *given])
    out = capsys.readouterr().out
    assert "adversarial" in out
    assert "fusion" in out
    assert (tmp_path / "some" / "episodic_evidence.png").is_file()
