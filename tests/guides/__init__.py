"""The code of tfmot's four pruning guides, with `import tfprune` in the place of tfmot.

Each module holds one guide, its cells in order as functions that return what they made; the tests
in `test_guides` run them and look at the results. The guides are notebooks of
https://github.com/tensorflow/model-optimization, tensorflow_model_optimization/g3doc/guide/pruning.

What was changed in all of them: imports, the data (`data.py` makes it), shell commands and
notebook magics left out, and `print` calls that only comment. Any other change stands beside the
line, after "Changed:".
"""
