"""The layout of TensorBoard's custom scalars: which curves lie in which chart."""

import re

from tfprune import custom_scalars

TAGS = (
    *("sparsity/model", "target/model"),  # what a layer "model" has, has one more part
    *(
        f"{group}/{weight}"
        for group in ("sparsity", "target", "threshold", "flipped")
        for weight in ("conv/kernel", "conv1/kernel", "model/kernel", "a.b/kernel", "axb/kernel")
    ),
)


def charts(weights):
    """Return {category: {chart: the tags that lie in it}}."""
    return {
        category.title: {
            chart.title: {
                tag for tag in TAGS if any(re.match(one, tag) for one in chart.multiline.tag)
            }
            for chart in category.chart
        }
        for category in custom_scalars.layout(weights).category
    }


def test_each_layer_has_its_own_curves_and_no_others():
    found = charts({"conv": ["kernel"], "a.b": ["kernel"], "model": ["kernel"]})["Layer by layer"]
    assert found == {
        "conv": {"sparsity/conv/kernel", "target/conv/kernel"},
        "a.b": {"sparsity/a.b/kernel", "target/a.b/kernel"},
        "model": {"sparsity/model/kernel", "target/model/kernel"},
    }


def test_a_layer_of_several_weights_is_one_chart():
    ((_, layers),) = list(charts({"axb": ["kernel"], "conv": ["kernel", "bias"]}).items())[1:]
    assert list(layers) == ["axb", "conv"]
    (_, category) = custom_scalars.layout({"conv": ["kernel", "bias"]}).category
    assert list(category.chart[0].multiline.tag) == [
        *("^sparsity/conv/kernel$", "^target/conv/kernel$"),
        *("^sparsity/conv/bias$", "^target/conv/bias$"),
    ]


def test_the_whole_model_and_its_weights_are_apart():
    found = charts({})["Whole model"]
    assert found["sparsity of the model"] == {"sparsity/model"}
    assert len(found["sparsity of each weight"]) == 5
    assert "sparsity/model" not in found["sparsity of each weight"]
    assert {tag.split("/")[0] for tag in found["threshold of each weight"]} == {"threshold"}
    assert {tag.split("/")[0] for tag in found["fraction of each mask that changed"]} == {"flipped"}
