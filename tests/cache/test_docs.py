"""The example in docs/store.md does what it says."""

from pathlib import Path


def test_example_runs(tmp_path: Path, monkeypatch, capsys) -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "store.md"
    code = page.read_text(encoding="utf8").split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # made, then found
        exec(compile(code, str(page), "exec"), {})
    assert capsys.readouterr().out == "1 2 3\n" * 2
