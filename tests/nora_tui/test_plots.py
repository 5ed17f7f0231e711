from nora_tui.plots import chartables


def test_splits_of_a_metric_share_a_chart_and_results_come_first() -> None:
    metrics = [
        ("train", "lr"),
        ("train", "loss"),
        ("system", "cpu"),
        ("val", "accuracy/10"),
        ("val", "accuracy/2"),
        ("val", "loss"),
        ("val", "accuracy"),
        ("test", "loss"),
    ]
    found = chartables(metrics)
    assert [chart.name for chart in found] == ["loss", "accuracy", "lr", "accuracy/2", "accuracy/10", "system cpu"]
    assert found[0].metrics == (("train", "loss"), ("val", "loss"), ("test", "loss"))


def test_a_filter_finds_words_in_any_order_and_case() -> None:
    (chart,) = chartables([("val", "Accuracy/cat")])
    assert chart.holds("CAT acc") and chart.holds("val") and chart.holds("")
    assert not chart.holds("dog")
