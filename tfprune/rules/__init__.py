"""Which layer is pruned how: a list of rules, the first that matches a layer wins.

The YAML form is a thin layer that builds the same objects:

```yaml
rules:
  - layers: conv1$                # a regular expression, searched in the layer's path
    schedule: 0.5                 # a constant sparsity
  - layers: conv2|dense_wide
    schedule: {class: PolynomialDecay, initial_sparsity: 0.0, final_sparsity: 0.5,
               begin_step: 0, end_step: 1000}
    pattern: 2:4
    score: taylor                 # which weights matter
    regrowth: soft                # or {class: RigL, fraction: 0.3}: cut weights may return
  - layers: {class: Dense}
    skip: true
distribution: {method: erk, sparsity: 0.9}  # over all other layers, see `Distribution`
```
"""

from tfprune.rules.distribution import Distribution, spread_out
from tfprune.rules.reading import get, load
from tfprune.rules.rule import LayerClass, Rule
from tfprune.rules.writing import to_yaml

__all__ = ["Distribution", "LayerClass", "Rule", "get", "load", "spread_out", "to_yaml"]
