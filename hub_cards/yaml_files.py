"""The one reader of YAML: recipes, matrices of them, stages.yaml, the metadata of cards."""

from pathlib import Path

import yaml


class _Loader(yaml.SafeLoader):
    def compose_mapping_node(self, anchor):
        """As PyYAML's, which takes the last of two values without a word. Keys are one if Python takes them for one:
        `yes` and `true`, `1` and `1.0`."""
        node, lines = super().compose_mapping_node(anchor), {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            name = ("<<",) if key.tag == "tag:yaml.org,2002:merge" else self.construct_object(key)
            if name in lines:
                raise _Twice(key.value, lines[name], key.start_mark.line + 1)
            lines[name] = key.start_mark.line + 1
        return node


class _Twice(Exception):
    """A key, and the lines that have it."""


def load_yaml(text: str, where: str | Path, first_line: int = 1):
    """What YAML says. `where`: the file, and `first_line` that of `text` in it, for messages.

    Raises:
        ValueError: not YAML, or a key is there twice.
    """
    try:
        return yaml.load(text, _Loader)
    except _Twice as error:
        key, *lines = error.args
        at = " and ".join(str(line + first_line - 1) for line in lines)
        raise ValueError(f"{where}: {key[:60]!r} is there twice, in lines {at}; leave one out") from None
    except (yaml.YAMLError, RecursionError, ValueError, KeyError, AttributeError) as error:  # of dates, `!!bool maybe`
        raise ValueError(f"{where}: not YAML: {' '.join(str(error).split())}") from error


def read_yaml(path: Path) -> dict:
    """Keys and values of a file.

    Raises:
        FileNotFoundError: no such file. ValueError: not YAML, a key is there twice, or no keys and values.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not YAML: {error}") from error
    values = load_yaml(text, path) or {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ValueError(f"{path}: expected a list of `key: value` lines, and words for keys")
    return values
