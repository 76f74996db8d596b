"""Which functions of TensorFlow do nothing but calculate, by name.

A layer of tf_keras can be any function that TensorFlow exports, called by the name that stands in
the file, while the model is built: `io.gfile.rmtree` too. What is not known here is not called.
"""

from __future__ import annotations

_MODULES = (
    *("nn", "math", "linalg", "image", "signal", "strings", "bitwise", "random", "ragged"),
    *("sparse", "sets", "quantization", "dtypes", "audio", "__operators__"),
    *("keras.activations", "keras.losses"),
)
_SETTINGS = ("set_global_generator", "set_seed")
"""Functions of these modules that change TensorFlow itself."""
_BARE = frozenset(
    """
    abs acos acosh add add_n angle arg_max arg_min argmax argmin argsort as_dtype as_string asin
    asinh atan atan2 atanh batch_gather batch_to_space batch_to_space_nd betainc bincount bitcast
    boolean_mask broadcast_dynamic_shape broadcast_static_shape broadcast_to cast ceil cholesky
    clip_by_average_norm clip_by_global_norm clip_by_norm clip_by_value complex concat
    confusion_matrix conj constant convert_to_tensor cos cosh count_nonzero cross cumprod cumsum
    depth_to_space dequantize diag diag_part digamma dimension_value div div_no_nan divide
    dynamic_partition dynamic_stitch edit_distance eig eigvals einsum ensure_shape equal erf erfc
    exp expand_dims expm1 extract_image_patches extract_volume_patches eye
    fake_quant_with_min_max_args fake_quant_with_min_max_vars
    fake_quant_with_min_max_vars_per_channel fft fft2d fft3d fftnd fill floor floor_div floordiv
    floormod gather gather_nd get_static_value global_norm greater greater_equal
    histogram_fixed_width histogram_fixed_width_bins identity identity_n ifft ifft2d ifft3d ifftnd
    igamma igammac imag invert_permutation irfftnd is_finite is_inf is_nan is_tensor lbeta less
    less_equal lgamma lin_space linspace log log1p log_sigmoid logical_and logical_not logical_or
    logical_xor matmul matrix_band_part matrix_determinant matrix_diag matrix_diag_part
    matrix_inverse matrix_set_diag matrix_solve matrix_square_root matrix_transpose
    matrix_triangular_solve maximum meshgrid minimum mod multiply negative no_op norm not_equal
    one_hot ones ones_like pad parallel_stack polygamma pow quantize quantize_v2 random_crop
    random_normal random_shuffle random_uniform range rank real realdiv reciprocal reduce_all
    reduce_any reduce_logsumexp reduce_max reduce_mean reduce_min reduce_prod reduce_sum repeat
    required_space_to_batch_paddings reshape reverse reverse_sequence reverse_v2 rfftnd rint roll
    round rsqrt saturate_cast scalar_mul scatter_nd searchsorted segment_max segment_mean
    segment_min segment_prod segment_sum sequence_mask shape shape_n sigmoid sign sin sinh size
    slice sort space_to_batch space_to_batch_nd space_to_depth split sqrt square
    squared_difference squeeze stack stop_gradient strided_slice subtract svd tan tanh
    tensor_scatter_add tensor_scatter_nd_add tensor_scatter_nd_max tensor_scatter_nd_min
    tensor_scatter_nd_sub tensor_scatter_nd_update tensor_scatter_sub tensor_scatter_update
    tensordot tile to_double to_float to_int32 to_int64 trace transpose truediv truncated_normal
    truncatediv truncatemod tuple unique unique_with_counts unravel_index unsorted_segment_max
    unsorted_segment_mean unsorted_segment_min unsorted_segment_prod unsorted_segment_sqrt_n
    unsorted_segment_sum unstack where where_v2 zeros zeros_like zeta
    RaggedTensor SparseTensor Tensor TensorShape
    """.split()  # noqa: SIM905 -- as a list it is one word a line
)


def calculates(function: str) -> bool:
    """Tell whether a function, or a class, of TensorFlow is known to do nothing else.

    Example: `calculates("nn.relu")` and `calculates("compat.v1.transpose")` are True,
    `calculates("io.write_file")` and `calculates("compat.v1.write_file")` False.
    """
    name = function.removeprefix("compat.v1.").removeprefix("compat.v2.")
    module, _, last = name.rpartition(".")
    if not module:
        return last in _BARE
    inside = any(f"{module}.".startswith(f"{known}.") for known in _MODULES)
    return inside and last not in _SETTINGS
