import re
from pathlib import Path

_README = Path(__file__).parents[2] / "packages" / "tallow-crypto" / "README.md"


def test_the_readmes_example_runs():
    examples = re.findall(r"```python\n(.*?)```", _README.read_text(), re.DOTALL)

    assert len(examples) == 1
    exec(compile(examples[0], str(_README), "exec"), {})
