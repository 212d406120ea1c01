import re
from pathlib import Path

_README = Path(__file__).parents[3] / "packages" / "tallow-net" / "README.md"


def test_the_example_of_the_readme_runs():
    examples = re.findall(r"```python\n(.*?)```", _README.read_text(encoding="utf-8"), re.DOTALL)

    assert len(examples) == 1
    exec(compile(examples[0], str(_README), "exec"), {})
