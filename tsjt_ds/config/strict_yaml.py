"""YAML in which a key stands once; YAML libraries take the last of several in silence."""

from typing import Any

import yaml


def load_yaml(text: str) -> Any:
    """The plain values of a YAML document.

    Raises:
        yaml.YAMLError: it is no valid YAML, a mapping holds a key twice, or a value looks like
            another type's, but is none (2024-13-45).
    """
    return yaml.load(text, _StrictLoader)


class _StrictLoader(yaml.SafeLoader):
    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            # The other kinds of keys are refused by the recipe's schema.
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    line = key.start_mark.line + 1
                    raise yaml.YAMLError(
                        f"line {line}: key {key.value!r} stands twice (delete one)"
                    )
                seen.add(key.value)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError):  # As PyYAML's constructors fail.
            line, kind = node.start_mark.line + 1, node.tag.rpartition(":")[2]
            raise yaml.YAMLError(
                f"line {line}: {node.value!r} is no {kind} (quote it if it is text)"
            ) from None
