"""Read how sparse the weights of a `.keras`, `.h5` or `.tflite` file are, without loading a model.

No model is built and no code in the file is run: configurations are read as plain JSON, weights as
plain arrays. Neither TensorFlow nor Keras is loaded.
"""

from tfprune.weightfiles.reader import inspect_file
from tfprune.weightfiles.result import FileSparsity, FileWeight

__all__ = ["FileSparsity", "FileWeight", "inspect_file"]
